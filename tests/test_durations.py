"""Run with `python -m pytest tests/test_durations.py`: instant, no network needed."""

import json
import re

from tools import course, durations

import pytest

PLAN = """| lesson | present and discuss | computing | exercises |
|---|---|---|---|
| 01 Why finetune | 60 min | 1.5 min | 15 min |
| 03 Data preparation | 65 min, and an hour | 0.5 min | 10 min |
"""


def measured(folder, name="durations.json", on="Linux", **minutes):
    found = {
        lesson: {"minutes": m, "cells": 9, "on": on} for lesson, m in minutes.items()
    }
    (folder / name).write_text(json.dumps(found), encoding="utf-8")
    return folder / name


def test_every_lesson_has_its_minutes_in_the_plan():
    text = durations.INSTRUCTORS.read_text(encoding="utf-8")
    rows = [row[2] for row in durations.ROW.finditer(text)]
    assert rows == [path.stem[:2] for path in course.lessons()]


def test_the_plan_takes_measured_minutes_and_keeps_the_rest(tmp_path):
    found = durations.read([measured(tmp_path, **{"03_data": 0.749})])
    after = durations.refreshed(PLAN, found)
    assert after == PLAN.replace("0.5 min", "0.7 min")


def test_a_lesson_without_a_row_is_named_and_nothing_is_written(
    tmp_path, monkeypatch, capsys
):
    plan = tmp_path / "INSTRUCTORS.md"
    plan.write_text(PLAN, encoding="utf-8")
    monkeypatch.setattr(durations, "INSTRUCTORS", plan)
    file = measured(tmp_path, **{"01_why": 2, "04_new": 1})
    assert durations.main(["--write", str(file)]) == 1
    assert "no row for lesson 04" in capsys.readouterr().err
    assert plan.read_text(encoding="utf-8") == PLAN
    file = measured(tmp_path, **{"01_why": 2})
    assert durations.main(["--write", str(file)]) == 0
    assert "| 2.0 min | 15" in plan.read_text(encoding="utf-8")


def test_files_of_several_systems_are_one_table_and_not_one_plan(tmp_path, capsys):
    one = measured(tmp_path, "a.json", "Linux", **{"01_why": 2})
    other = measured(tmp_path, "b.json", "Windows", **{"01_why": 3})
    assert durations.main([str(other), str(one)]) == 0
    assert re.findall(r"\| 01_why .*(Linux|Windows)", capsys.readouterr().out) == [
        "Linux",
        "Windows",
    ]
    with pytest.raises(ValueError, match="measured twice"):
        durations.refreshed(PLAN, durations.read([one, other]))


def test_without_a_run_the_command_that_makes_one_is_named(tmp_path, capsys):
    assert durations.main([str(tmp_path / "none.json")]) == 1
    assert "make course" in capsys.readouterr().err
