"""Run with `python -m pytest tests/test_people.py`: seconds, no network.

What contributors, instructors and reporters are told: that every command, path and
limit is there, that forms open, and that the citation is of this version.
"""

import importlib.util
import re
import tomllib
from pathlib import Path

from tools import adapters, record

import pytest
import yaml
from test_house import LINES_OF_A_MODULE
from test_notebooks import LIMITS, anchors

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    path.name: path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.md"), *(ROOT / ".github").rglob("*.md")]
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
FORMS = [
    path
    for path in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    if path.name != "config.yml"
]
pages = pytest.mark.parametrize("page", sorted(PAGES))


def code(page):
    """What a page sets in code, in a block or in a line."""
    return re.findall(r"```\n(.*?)```|`([^`\n]+)`", PAGES[page], re.DOTALL)


def words(page):
    return " ".join(block or line for block, line in code(page)).split()


@pages
def test_no_page_names_a_target_of_make_that_is_not_there(page):
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
    text = "\n".join(block or line for block, line in code(page))
    named = re.findall(r"(?:^|[`=] ?|wheels )make ([a-z]+)", text, re.M)
    assert set(named) <= set(targets)


@pages
def test_no_page_names_a_module_that_is_not_there(page):
    text = PAGES[page]
    for module in re.findall(r"-m ((?:helpers|tools|exercises)[\w.]*)", text):
        assert importlib.util.find_spec(module), module
    for tool, name in re.findall(r"-m tools\.(\w+)(?: --score)? ([a-z]\w+)", text):
        known = {"record": record.MEASUREMENTS, "adapters": adapters.RECIPES}
        assert name in known.get(tool, [name]), (tool, name)


@pages
def test_no_page_names_a_file_that_is_not_there(page):
    folders = "data exercises helpers notebooks tests tools examples benchmarks .github"
    for word in words(page):
        word = word.strip(",;:()")
        made_up = "NN" in word or "NAME" in word or "*" in word
        if word.split("/")[0] in folders.split() and "/" in word and not made_up:
            assert (ROOT / word).exists(), word


@pages
def test_no_link_of_a_page_leads_nowhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", PAGES[page])):
        if not target.startswith(("http:", "https:")):
            name, _, anchor = target.partition("#")
            assert (ROOT / (name or page)).exists(), target
            assert not anchor or anchor in anchors(ROOT / (name or page)), target


def test_contributors_read_the_limits_that_the_gate_holds():
    text = PAGES["CONTRIBUTING.md"]
    limits = ", ".join(f"{number:,} {what}" for what, number in LIMITS.items())
    assert limits in text
    assert f"over {LINES_OF_A_MODULE} lines" in text


def test_the_citation_is_of_this_version_under_its_licences():
    title = PAGES["README.md"].splitlines()[0].removeprefix("# ")
    assert CITATION["title"] == title
    assert CITATION["version"] == PROJECT["version"]
    assert CITATION["abstract"].startswith(PROJECT["description"])
    licences = [
        CITATION["license"],
        *(part["license"] for part in CITATION["references"]),
    ]
    assert " AND ".join(licences) == PROJECT["license"]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_has_what_github_needs_to_show_it(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert form["name"] and form["description"] and form["body"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    ids = [field["id"] for field in fields]
    assert len(set(ids)) == len(ids) and fields
    for field in fields:
        assert field["type"] in ("input", "textarea", "dropdown")
        assert field["attributes"]["label"]
        assert field["type"] != "dropdown" or field["attributes"]["options"]
    assert any(field.get("validations", {}).get("required") for field in fields)
