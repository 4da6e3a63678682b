"""Run with `python -m pytest tests/test_recorded.py`: instant.

What was measured once and is shown as recorded must have been measured on this data.
Of other code, or other packages, a notice tells: most changes move no figure.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import warnings

from helpers import records
from tools import adapters, record

import pytest

ROOT = records.DATA.parent
RECORDED = sorted((records.DATA / "recorded").glob("*.json"))


def test_something_is_recorded():
    assert RECORDED


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_nothing_recorded_is_older_than_its_data(path):
    files = json.loads(path.read_text(encoding="utf-8"))["files"]
    assert files
    assert changed(records.DATA, files) == [], "measure anew: make record"


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_a_notice_tells_of_code_that_changed_since(path):
    recorded = json.loads(path.read_text(encoding="utf-8"))
    assert recorded["code"] and recorded["packages"]
    since = notice(path.stem, recorded)
    if since:
        warnings.warn(since, stacklevel=1)


def test_the_notice_names_what_changed():
    code = {"tokens.py": "0" * 64}
    old = {"code": code, "packages": {"torch": "1.0"}}
    assert notice("routing", old) == (
        "recorded/routing.json: tokens.py, torch changed since it was measured; "
        "where that moves its figures: python -m tools.record routing"
    )
    now = {"torch": version("torch"), "no-such-package": "1.0"}
    assert notice("routing", {"code": {}, "packages": now}) == ""


def changed(folder, digests):
    """Names of the files of a folder whose SHA-256 is another one, or that are gone."""

    def digest(path):
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None

    return [name for name, old in digests.items() if digest(folder / name) != old]


def version(package):
    """None where it is not installed, as the student need not be."""
    try:
        return importlib.metadata.version(package).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def notice(name, recorded):
    """What changed since a measurement and how to repeat it; empty where nothing."""
    since = changed(ROOT / "helpers", recorded["code"])
    since += [
        p for p, old in recorded["packages"].items() if version(p) not in (old, None)
    ]
    if not since:
        return ""
    return (
        f"recorded/{name}.json: {', '.join(since)} changed since it was measured; "
        f"where that moves its figures: python -m {command(name)}"
    )


def command(name):
    """What measures it again."""
    if name in adapters.RECIPES:
        return f"tools.adapters --score {name}"
    if name.startswith("rivals_"):
        return f"tools.rivals {name.removeprefix('rivals_')}"
    alone = {"search": "search", "judge": "judging --write"}
    alone |= {"preferences": "preferences", "rewards": "rewards"}
    alone |= {"preference_form": "preferences --form"}
    alone |= {own: own for own in ("sources", "forgetting", "limits")}
    return f"tools.{alone.get(name, f'record {name}')}"


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_each_record_has_a_command_that_makes_it(path):
    module, *rest = command(path.stem).split()
    assert importlib.util.find_spec(module)
    if module == "tools.record":
        assert rest == [path.stem] and path.stem in record.MEASUREMENTS


def test_the_table_of_the_readme_is_the_recorded_one():
    table = record.results_table()
    assert table.count("|\n") >= 6
    begin, end = map(record.MARK.format, record.ENDS)
    _, _, rest = (ROOT / "README.md").read_text(encoding="utf-8").partition(begin)
    assert rest.partition(end)[0].strip() == table.strip()
