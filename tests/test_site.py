"""Run with `python -m pytest tests/test_site.py`: seconds, no network, no Sphinx.

The build ends at a link that leads nowhere (Sphinx says so, with -W); these tests find
the same without it, and hold what a build cannot see: that the set-ups for Binder,
Colab and dev containers name things that are there.
"""

import ast
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from tools import check, colab, site

import nbformat
import pytest

ROOT = site.ROOT
REPOSITORY = "https://github.com/someone/course"
LESSONS = site.lessons()


def lesson(file):
    return nbformat.read(ROOT / file, as_version=4)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "source"
    site.lay_out(folder, REPOSITORY)
    return folder


def texts(source):
    """Page -> its Markdown, without code."""
    found = {}
    for path in sorted(source.glob("*.md")) + sorted(source.glob("[!_]*/*")):
        if path.suffix == ".md":
            text = path.read_text(encoding="utf-8")
        elif path.suffix == ".ipynb":
            cells = nbformat.read(path, as_version=4).cells
            text = "\n\n".join(c.source for c in cells if c.cell_type == "markdown")
        else:
            continue
        found[path.relative_to(source).as_posix()] = re.sub(
            r"^```.*?^```|`[^`\n]+`", "", text, flags=re.M | re.S
        )
    return found


def slugs(text):
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}


def test_no_lesson_is_missing_in_the_table_of_contents(source):
    assert len(LESSONS) >= 9
    listed = re.findall(
        r"^[\w/]+$", (source / "index.md").read_text(encoding="utf-8"), re.M
    )
    for file in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        assert f"notebooks/{file.stem}" in listed
    for page in listed:
        assert list(source.glob(f"{page}.*")), page


def test_every_link_of_a_page_leads_to_a_page_or_a_heading_that_is_there(source):
    pages = texts(source)
    links = 0
    for page, text in pages.items():
        for address in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"https?:|mailto:", address):
                continue
            name, _, anchor = address.partition("#")
            path = (source / page).parent / name if name else source / page
            assert path.is_file(), (page, address)
            target = Path(os.path.relpath(path, source)).as_posix()
            assert not anchor or anchor in slugs(pages[target]), (page, address)
            links += 1
    assert links > 200


def test_what_is_no_page_is_linked_in_the_repository_and_exists_there(source):
    linked = set()
    for text in texts(source).values():
        linked |= set(re.findall(rf"{REPOSITORY}/blob/HEAD/([^)#\s]+)", text))
    assert "LICENSE" in linked
    assert all((ROOT / file).exists() for file in linked), linked


def test_a_link_that_leads_nowhere_ends_the_build():
    with pytest.raises(ValueError, match=r"README.md.*notebooks/11_gone.ipynb"):
        site.relink("See [this](notebooks/11_gone.ipynb).", "README.md", None)
    with pytest.raises(ValueError, match="outside"):
        site.relink("[this](../outside)", "README.md", None)
    code = "`[a](gone)` and\n```\n[b](gone)\n```\n"
    assert site.relink(code, "README.md", None) == code


def test_without_a_repository_no_button_and_no_link_leads_anywhere_false(tmp_path):
    assert site.relink("[licence](LICENSE)", "README.md", None) == "licence"
    site.lay_out(tmp_path / "source", None)
    for text in texts(tmp_path / "source").values():
        assert "colab.research" not in text and "mybinder" not in text
        assert "github.com/None" not in text
    assert not list((tmp_path / "source" / "_extra" / "colab").iterdir())


@pytest.mark.parametrize("file", LESSONS)
def test_buttons_lead_to_the_files_that_are_published(file, source):
    html = site.buttons(file, REPOSITORY)
    links = re.findall(r'href="([^"]+)"', html)
    in_colab, in_binder, download = links
    place = f"github/someone/course/blob/{site.BRANCH}/"
    assert (source / "_extra" / in_colab.partition(place)[2]).is_file()
    assert in_binder.endswith(f"lab/tree/{file}") and "/gh/someone/course/" in in_binder
    mine = source / "_extra" / "lessons" / Path(file).name
    assert download == f"../lessons/{mine.name}"
    assert mine.read_bytes() == (ROOT / file).read_bytes()
    shown = nbformat.read(source / file, as_version=4)
    assert html in shown.cells[0].source


@pytest.mark.parametrize("file", LESSONS)
def test_a_page_folds_solutions_and_describes_every_plot(file):
    before, after = lesson(file), site.lesson_page(lesson(file), file, REPOSITORY)
    assert len(before.cells) == len(after.cells)
    for old, new in zip(before.cells, after.cells, strict=True):
        if old.cell_type == "markdown":
            assert "</summary>\n\n" in new.source or "<details" not in new.source
            continue
        assert old.source == new.source and old.outputs == new.outputs
        hidden = old.metadata.get("jupyter", {}).get("source_hidden", False)
        assert ("hide-input" in new.metadata.get("tags", [])) == hidden
        if any("image/png" in output.get("data", {}) for output in old.outputs):
            assert len(new.metadata["mystnb"]["image"]["alt"].split()) >= 5


@pytest.mark.parametrize("file", LESSONS)
def test_a_copy_for_colab_is_the_lesson_with_a_set_up_before_it(file):
    made = site.colab_copy(lesson(file), REPOSITORY)
    nbformat.validate(made)
    words, set_up, *rest = made.cells
    assert [c.source for c in rest] == [c.source for c in lesson(file).cells]
    assert not any(c.get("outputs") or c.get("execution_count") for c in rest)
    assert f" {REPOSITORY} /content/course" in set_up.source
    (script,) = re.findall(r"^%run \.\./(\S+)$", set_up.source, re.M)
    assert (ROOT / script).is_file()
    python = re.sub(r"^(\s*)[!%].*$", r"\1pass", set_up.source, flags=re.M)
    ast.parse(python)


def test_colab_keeps_what_its_page_runs_on_and_gets_what_lessons_import():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    kept = set(re.findall(r"^([a-z][\w.-]*)==", colab.for_colab(lock), re.M))
    every = set(re.findall(r"^([a-z][\w.-]*)==", lock, re.M))
    assert {"ipykernel", "jupyter-server", "tornado", "pyzmq"} <= every - kept
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    wanted = {
        name.lower().replace("_", "-") for name in re.findall(r"^(\w\S*)==", pins, re.M)
    }
    stay = {"jupyterlab", "ipywidgets", "nbclient", "nbconvert", "nbval"}
    assert wanted - {"torch"} - kept == stay
    hashed = re.split(r"^(?=[a-z])", colab.for_colab(lock), flags=re.M)
    assert all("--hash=" in text for text in hashed if "==" in text.partition("\n")[0])


def test_colab_restarts_its_kernel_only_for_a_package_that_was_loaded(
    tmp_path, monkeypatch, capsys
):
    version = {"pandas": "2.2.2"}
    monkeypatch.setattr(colab, "DONE", tmp_path / "outputs" / "ready")
    monkeypatch.setattr(colab, "loaded", lambda: {"pandas": "2.2.2"})
    monkeypatch.setattr(colab.importlib.metadata, "version", version.get)
    monkeypatch.setattr(colab.time, "sleep", lambda seconds: None)
    ended = []
    monkeypatch.setattr(colab.os, "_exit", ended.append)
    monkeypatch.setattr(colab, "install", lambda: None)
    monkeypatch.setattr(colab.sys, "path", [])
    colab.main()
    assert not ended and colab.sys.path == [str(ROOT)]
    assert "Ready" in capsys.readouterr().out
    colab.DONE.unlink()
    monkeypatch.setattr(colab, "install", lambda: version.update(pandas="3.1.1"))
    colab.main()
    assert ended == [0] and "of pandas: the kernel restarts" in capsys.readouterr().out
    monkeypatch.setattr(colab, "install", lambda: pytest.fail("installed twice"))
    colab.main()


@pytest.mark.parametrize(
    ("remote", "found"),
    [
        ("https://github.com/someone/course.git", REPOSITORY),
        ("git@github.com:someone/course.git", REPOSITORY),
        ("https://github.com/someone/course", REPOSITORY),
        ("https://example.org/someone/course.git", None),
        (None, None),
    ],
)
@pytest.mark.skipif(not shutil.which("git"), reason="git is not here")
def test_the_repository_is_where_the_checkout_came_from(remote, found, tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    if remote:
        add = ["git", "-C", str(tmp_path), "remote", "add", "origin", remote]
        subprocess.run(add, check=True)
    assert site.origin(tmp_path) == found


def test_binder_and_dev_containers_use_what_is_there():
    script = ROOT / "binder" / "postBuild"
    text = script.read_text(encoding="utf-8")
    for name in re.findall(r"-r (\S+)|(?<=' )(\S+\.txt)", text):
        assert (ROOT / "".join(name)).is_file(), name
    for module in re.findall(r"python -m (\S+)", text):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
    assert text.startswith("#!") and "set -euo pipefail" in text
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    container = json.loads(
        (ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8")
    )
    make, target, option = container["postCreateCommand"].split()
    assert make == "make" and f"\n{target}:" in makefile
    assert f"\n{option.partition('=')[0]} :=" in makefile
    runtime = (ROOT / "binder" / "runtime.txt").read_text(encoding="utf-8").strip()
    for version in (runtime, container["image"]):
        major, minor = re.search(r"(\d+)\.(\d+)$", version).groups()
        low, high = check.PYTHON
        assert low <= (int(major), int(minor)) < high
    for place in (text, option, Path(colab.__file__).read_text(encoding="utf-8")):
        assert "https://download.pytorch.org/whl/cpu" in place


def test_the_site_has_pins_of_its_own_for_all_that_it_imports():
    wanted = re.findall(
        r"^([\w-]+)==(\S+)$", (ROOT / "site" / "requirements.in").read_text(), re.M
    )
    lock = (ROOT / "site" / "requirements.txt").read_text(encoding="utf-8")
    assert len(wanted) >= 3
    for name, version in wanted:
        assert f"\n{name}=={version} \\\n    --hash=sha256:" in f"\n{lock}", name
    learners = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert not re.search(r"sphinx|myst", learners, re.I)
