"""Run with `python -m pytest tests/test_recorded.py`: instant.

What was measured once and is shown as recorded must have been measured on this data.
"""

import hashlib
import json

import pytest

from helpers import records

ROOT = records.DATA.parent
RECORDED = sorted((records.DATA / "recorded").glob("*.json"))


def test_something_is_recorded():
    assert RECORDED


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_nothing_recorded_is_older_than_its_data(path):
    files = json.loads(path.read_text(encoding="utf-8"))["files"]
    assert files
    stale = [
        name
        for name, digest in files.items()
        if hashlib.sha256((records.DATA / name).read_bytes()).hexdigest() != digest
    ]
    assert stale == [], "measure anew: make curve"


def test_the_table_of_the_readme_is_the_recorded_one(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import curve

    table = curve.results_table()
    assert table.count("|\n") >= 8
    begin, end = map(curve.MARK.format, curve.ENDS)
    _, _, rest = (ROOT / "README.md").read_text(encoding="utf-8").partition(begin)
    assert rest.partition(end)[0].strip() == table.strip()
