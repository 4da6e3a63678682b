"""Run with `python -m pytest tests/test_own_file.py`: a minute, no network.

The cells of lesson 10 that take the learner's own file, run on the files of others with
an untrained net. Whether a net learns anything is for the lesson to show.
"""

import ast
import csv
import json
import re
from pathlib import Path

from helpers import records

import nbformat
import pytest

LESSON = records.DATA.parent / "notebooks" / "10_your_first_finetune.ipynb"
BEGIN, END = "\n## Your own file", "\n## Where it goes wrong"
N = 200
PARTS = ["The base", "My screen", "An alert", "The vane", "A parcel", "Your bill"]
ENDS = ["is late", "went dark", "beeps at night", "shows a blank", "came twice"]
PLACES = ["in the shed", "on the roof", "by the pond", "at my aunt's", "in Leeds"]
SAID = [
    f"{part} {end} {place}, day {day}"
    for day in (1, 2)
    for part in PARTS
    for end in ENDS
    for place in PLACES
][:N]


def form(name):
    """200 rows in one of the forms that people have."""
    said = enumerate(SAID)
    if name == "question":
        return [
            {"question": f"{text}?", "answer": f"Note {i}."} for i, text in said
        ]  # no label comes twice
    if name == "instruction":
        return [
            {"instruction": text, "response": f"{text}, noted."} for _, text in said
        ]
    if name == "instruction and input":
        desks = ("Orders", "Repairs")
        return [
            {"instruction": "Name the desk.", "input": text, "output": desks[i % 2]}
            for i, text in said
        ]
    if name == "input":
        return [{"input": text, "output": text.split()[1]} for _, text in said]
    if name == "messages":
        asked, told = {"role": "user"}, {"role": "assistant", "content": "Noted."}
        return [{"messages": [asked | {"content": text}, told]} for _, text in said]
    return [{"text": f"{text}. We wrote it down and went home."} for _, text in said]


def cells():
    """The code cells of the section that take the file, and what those before it import
    and define: its functions and its folder OUT."""
    parts = nbformat.read(LESSON, as_version=4).cells
    heads = "\n" + "\n".join(f"{c.cell_type}: {c.source}" for c in parts)
    assert BEGIN.strip() in heads and END.strip() in heads
    inside, before = [], ['ASK = "Which desk?"']  # the prompt for the lesson's own rows
    section = False
    for cell in parts:
        text = "\n" + cell.source
        if cell.cell_type == "markdown":
            section = (section or BEGIN in text) and END not in text
        elif section:
            if not cell.id.startswith("written"):  # those tune on rows of the course
                inside.append(cell.source)
        elif not inside:
            kept = (ast.Import, ast.ImportFrom, ast.FunctionDef)
            for node in ast.parse(cell.source).body:
                line = ast.unparse(node)
                if isinstance(node, kept) or line.startswith("OUT"):
                    before.append(line)
    return before, inside


@pytest.fixture
def lesson(monkeypatch, tmp_path, small, tokenizer):
    """lesson(file) -> the names that the section's cells leave, run with that file."""
    monkeypatch.setattr("helpers.models.OUTPUTS", tmp_path / "outputs")
    monkeypatch.setattr("helpers.training.CACHE", tmp_path / "outputs" / "tuned")
    monkeypatch.setattr("helpers.figures.show", lambda *_: None)
    monkeypatch.setenv("COURSE_QUIET", "1")
    net = tmp_path / "net"
    small().save_pretrained(net)
    tokenizer.save_pretrained(net)

    def run(file):
        before, inside = cells()
        names = {}
        for source in before:
            exec(source, names)
        names["train"] = [{"input": "I paid.", "output": "billing"}] * 300
        for source in inside:
            exec(source, names)
            if re.search("^RECIPES = ", source, re.MULTILINE):
                recipes = {"the net": {"model": str(net), "epochs": 1}}
                names |= {"path": file, "RECIPES": recipes, "OURS": False}
        return names

    (tmp_path / "outputs").mkdir()
    return run


def every_row(found):
    return found["my_train"] + found["my_validation"] + found["my_test"]


FORMS = {
    "question": "token_f1",
    "instruction": "token_f1",
    "instruction and input": "exact_match",  # of labels, which come again and again
    "input": "exact_match",
    "messages": "token_f1",
    "text": "bits_per_byte",
}


@pytest.mark.parametrize("name", FORMS)
def test_two_hundred_rows_of_any_form_are_tuned_on_and_scored(
    lesson, tmp_path, capsys, name
):
    file = tmp_path / "mine.jsonl"
    records.write(file, form(name))
    found = lesson(file)
    assert f"{N} rows, 0 faults" in capsys.readouterr().out
    sizes = [len(found[f"my_{part}"]) for part in ("train", "validation", "test")]
    assert sizes == [100, 40, 60]
    assert found["MARK"] == FORMS[name]
    table = found["table"]
    assert FORMS[name] in table.columns and set(table["n"]) == {60}
    rivals = set(table.index) - {"tuned", "untuned", "6 shown"}
    fits = name not in ("text", "instruction")  # half of the net's context
    assert ("6 shown" in table.index) == fits
    labels = {"bag of words", "words and vectors"}
    labels = labels if FORMS[name] == "exact_match" else set()
    plain = {"nearest question by words", "nearest question by meaning"}
    plain |= {"most common answer"}
    assert rivals == ({"trigram table"} if name == "text" else plain | labels)


def test_the_recipe_is_chosen_without_the_test_rows(lesson, tmp_path):
    file = tmp_path / "mine.jsonl"
    records.write(file, form("input"))
    found = lesson(file)
    parts = [found[f"my_{part}"] for part in ("train", "validation", "test")]
    asked = [{records.prompt_text(row) for row in rows} for rows in parts]
    assert not (asked[0] & asked[1] or asked[0] & asked[2] or asked[1] & asked[2])
    run, tokenizer = found["tuned"]["the net"]
    frame = found["marks_of"](run.model, tokenizer, found["my_validation"])
    assert found["validated"]["the net"] == frame[found["MARK"]].astype(float).mean()


def test_the_report_shows_what_rows_contain_and_runs_nothing_of_it(lesson, tmp_path):
    file = tmp_path / "mine.jsonl"
    rows = [
        {"input": f"<script>alert({i})</script> {row['input']}", "output": "<b>app</b>"}
        for i, row in enumerate(form("input"))
    ]
    records.write(file, rows)
    found = lesson(file)
    page = (tmp_path / "outputs" / "my_report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert" in page and "&lt;b&gt;app" in page
    assert "<script" not in page and "<b>" not in page
    for part in ("Data", "Settings", "Curves", "Test", "Elsewhere", "Worst rows"):
        assert f"<h2>{part}" in page
    assert page.count("&lt;script&gt;") >= min(10, len(found["my_test"]))


def test_rows_that_are_too_long_are_counted_before_anything_is_tuned(
    lesson, tmp_path, capsys
):
    file = tmp_path / "mine.jsonl"
    rows = form("input")
    rows[3]["output"] = "and so on " * 300
    records.write(file, rows)
    with pytest.warns(UserWarning, match="longer than 512 tokens"):
        lesson(file)
    said = capsys.readouterr().out
    assert "too long: 1" in said and "1 over 512" in said


def test_keys_of_ones_own_are_scored_by(lesson, tmp_path):
    file = tmp_path / "mine.jsonl"
    rows = [{**row, "keys": [row["answer"][:-1]]} for row in form("question")]
    records.write(file, rows)
    found = lesson(file)
    assert found["MARK"] == "key_fact" and found["table"].loc["tuned", "n"] == 60


def test_labels_beside_a_text_are_not_lost_in_silence(lesson, tmp_path, capsys):
    file = tmp_path / "mine.jsonl"
    rows = [{"text": row["input"], "label": row["output"]} for row in form("input")]
    records.write(file, rows)
    with pytest.raises(AssertionError, match="rename the fields"):
        lesson(file)
    assert f"label not learnt: {N}" in capsys.readouterr().out


def test_a_table_without_quotes_is_named_with_the_remedy(lesson, tmp_path):
    file = tmp_path / "mine.csv"
    text = 'input,output\n"I paid twice.",billing\nI paid, but twice.,billing\n'
    file.write_text(text, encoding="utf-8")
    with pytest.raises(records.RecordsError, match="mine.csv:3: .*quotes"):
        lesson(file)


def test_a_table_is_tuned_on_but_for_its_spoilt_row_and_text_stays_text(
    lesson, tmp_path, capsys
):
    file = tmp_path / "mine.csv"
    rows = [[row["input"], f"007{i % 2}"] for i, row in enumerate(form("input"))]
    rows[6][1] = ""
    with file.open("w", encoding="utf-8", newline="") as table:
        csv.writer(table).writerows([["input", "output"], [], *rows])
    found = lesson(file)
    said = capsys.readouterr().out
    assert "row 9" in said and "1 left out, 199 kept" in said  # its line in the file
    kept = {row["input"]: row["output"] for row in every_row(found)}
    assert kept == dict(row for row in rows if row[1])


def test_a_json_array_is_tuned_on(lesson, tmp_path, capsys):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(form("input"), indent=1), encoding="utf-8")
    assert len(lesson(file)["my_test"]) == 60
    assert f"{N} rows, 0 faults" in capsys.readouterr().out


def test_two_broken_lines_are_both_named_and_no_row_is_lost(lesson, tmp_path):
    file = tmp_path / "mine.jsonl"
    lines = [json.dumps(row) for row in form("input")]
    lines[6] = lines[6].replace('"', "'")
    lines[150] = lines[150][:-1]
    text = "\n".join(lines)
    file.write_text(text, encoding="utf-8")
    with pytest.raises(records.RecordsError, match=r"(?s)\b7\b.*\b151\b"):
        lesson(file)
    assert Path(file).read_text(encoding="utf-8") == text


def test_two_spoilt_rows_are_named_and_left_out(lesson, tmp_path, capsys):
    file = tmp_path / "mine.jsonl"
    rows = form("input")
    rows[6] = {"input": rows[6]["input"], "output": " "}
    rows[150] = {"input": rows[150]["input"], "answr": "base"}
    records.write(file, rows)
    found = lesson(file)
    said = capsys.readouterr().out
    assert "row 7" in said and "row 151" in said and "2 left out, 198 kept" in said
    assert len(every_row(found)) == 198
