"""Run with `python -m pytest tests/test_workflows.py`: instant, no network needed.

What CI runs is seen only after a push; that it names what is there is seen here.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from tools import check, course

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".github"
FILES = [*FOLDER.glob("workflows/*.yml"), *FOLDER.glob("actions/*/action.yml")]
TEXTS = {p.relative_to(FOLDER).as_posix(): p.read_text(encoding="utf-8") for p in FILES}
WORKFLOWS = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in FOLDER.glob("workflows/*.yml")
}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_read_and_ends_some_time(name):
    flow = WORKFLOWS[name]
    assert flow["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 240 for job in flow["jobs"].values())
    assert "secrets." not in TEXTS[f"workflows/{name}.yml"]


def test_actions_are_named_by_their_major_version_and_each_by_one():
    used = set(re.findall(r"uses: (\S+)", "\n".join(TEXTS.values())))
    versions = {}
    for name in used:
        if name.startswith("./"):
            assert (ROOT / name / "action.yml").exists(), name
            continue
        assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", name), name
        versions.setdefault(name.partition("@")[0], set()).add(name)
    assert versions and all(len(found) == 1 for found in versions.values()), versions


@pytest.mark.parametrize("name", TEXTS)
def test_what_a_job_runs_is_there(name):
    for module in re.findall(r"-m ((?:tools|helpers)[\w.]*)", TEXTS[name]):
        assert importlib.util.find_spec(module), module
    for path in re.findall(r"(?<![\w/])(?:tests|site)/[\w./]+", TEXTS[name]):
        assert path.startswith("site/venv") or (ROOT / path).exists(), path
    for pin in re.findall(r"grep '\^(.+?)' requirements.txt", TEXTS[name]):
        text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
        assert re.search(f"^{pin}", text, re.M), pin


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not here")
def test_no_lesson_is_forgotten(tmp_path):
    jobs = WORKFLOWS["ci"]["jobs"]
    (step,) = (step for step in jobs["list"]["steps"] if "run" in step)
    told = tmp_path / "output"
    environment = os.environ | {"GITHUB_OUTPUT": str(told)}
    subprocess.run(["bash", "-ec", step["run"]], cwd=ROOT, env=environment, check=True)
    name, _, listed = told.read_text(encoding="utf-8").partition("=")
    assert json.loads(listed) == [path.stem for path in course.lessons()]
    assert jobs["list"]["outputs"] == {name: "${{ steps.list.outputs.lessons }}"}
    assert (
        "needs.list.outputs.lessons" in jobs["lesson"]["strategy"]["matrix"]["lesson"]
    )


def test_the_pushed_course_runs_on_what_the_readme_promises():
    unit = WORKFLOWS["ci"]["jobs"]["unit"]["strategy"]["matrix"]["include"]
    (major, low), (_, above) = check.PYTHON
    ends = {f"{major}.{low}", f"{major}.{above - 1}"}
    assert ends <= {each["python"] for each in unit}
    systems = {each["os"].partition("-")[0] for each in unit}
    assert systems == {"ubuntu", "windows", "macos"}


def test_the_weekly_run_keeps_nothing_from_earlier_ones():
    text = TEXTS["workflows/weekly.yml"]
    assert "actions/cache" not in text and 'cache: ""' in text and "cron:" in text
    cold = WORKFLOWS["weekly"]["jobs"]["cold"]["strategy"]["matrix"]
    assert len(cold["os"]) == 3 and set(cold["newest"]) == {"true", "false"}
