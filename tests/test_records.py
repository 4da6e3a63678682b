"""Run with `python -m pytest tests/test_records.py`: seconds, no network, no model.

The files are written into temporary folders; the full disk is a small tmpfs, mounted
only where root may. Files as people have them are in test_cases.py.
"""

import errno
import gzip
import itertools
import json
import os
import random
import re
import subprocess
import sys

from helpers import records

import pyarrow
import pyarrow.parquet
import pytest

GOOD = {"question": "How high is the mast?", "answer": "Two metres."}
LINE = json.dumps(GOOD).encode() + b"\n"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "faq.jsonl"


@pytest.fixture
def small_disk(tmp_path):
    """A folder with a disk of 64 KB of its own; skips where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount command: a disk cannot be filled here")
    if done.returncode:
        pytest.skip(f"a disk cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def faults(rows, others=None):
    """[(row, fault)] of records.check."""
    return list(records.check(rows, others)[["row", "fault"]].itertuples(False, None))


def details(rows, others=None):
    return " ".join(records.check(rows, others)["detail"])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        pytest.param(b'{"question": "a" "answer": "b"}', "not JSON", id="no-comma"),
        pytest.param(b"{'question': 'a'}", "not JSON", id="single-quotes"),
        pytest.param(LINE.strip() * 2, "not JSON", id="two-in-one"),
        pytest.param(b'{"question": "a"', "not JSON", id="no-brace"),
        pytest.param(b'{"question": "caf\xe9"}', "not UTF-8 .*0xe9", id="latin-1"),
        pytest.param(b'["question"]', "not a JSON object", id="list"),
        pytest.param(b"7", "not a JSON object", id="number"),
        pytest.param(b"null", "not a JSON object", id="null"),
        pytest.param(b'"an object"', "not a JSON object", id="string"),
    ],
)
def test_no_bad_line_goes_without_its_file_and_line_number(file, bad, reason):
    file.write_bytes(LINE * 6 + bad + b"\n" + LINE)
    with pytest.raises(records.RecordsError) as caught:
        records.read(file)
    first, last = str(caught.value).splitlines()
    assert re.match(f"{re.escape(str(file))}:7: {reason}", first)
    assert last == "1 bad lines, 7 other lines are good"


@pytest.mark.parametrize(
    ("bad", "column"),
    [
        pytest.param(b'{"question": oops}', 14, id="in-the-line"),
        pytest.param(b'{"question": "a"', 17, id="at-its-end"),
        pytest.param(b'{"question":', 13, id="value-missing"),
    ],
)
def test_the_column_of_a_fault_is_not_that_of_the_next_line(file, bad, column):
    file.write_bytes(bad + b"\n" + LINE)
    with pytest.raises(records.RecordsError, match=f":1: .*at column {column}\\)"):
        records.read(file)


def test_a_fault_does_not_hide_those_after_it(file):
    bad = [b"{", LINE.strip(), b"\xff\xfe", b"", b"[1]", b'{"a": }', b"3"]
    file.write_bytes(b"\n".join(bad))
    with pytest.raises(records.RecordsError) as caught:
        records.read(file)
    numbers = re.findall(r"^.*faq\.jsonl:(\d+): ", str(caught.value), re.MULTILINE)
    assert numbers == ["1", "3", "5", "6", "7"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\n" + LINE + b"\n  \n" + LINE + b"\n\n", id="blank-lines"),
        pytest.param(b"\xef\xbb\xbf" + LINE * 2, id="byte-order-mark"),
        pytest.param(b"\xef\xbb\xbf\n" + LINE * 2, id="mark-alone-on-its-line"),
        pytest.param((LINE * 2).replace(b"\n", b"\r\n"), id="windows-line-ends"),
        pytest.param((LINE * 2).strip(), id="no-newline-at-the-end"),
    ],
)
def test_what_editors_add_to_a_file_makes_or_loses_no_row(file, content):
    file.write_bytes(content)
    assert records.read(file) == [GOOD, GOOD]


def test_line_separators_inside_a_text_do_not_cut_the_row(file):
    rows = [{"question": "one\u2028two\x85three\x0bfour", "answer": "a\nb\r\nc"}]
    records.write(file, rows)
    assert records.read(file) == rows


@pytest.mark.parametrize("content", [b"", b"\n\n  \n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_not_an_empty_training_set(file, content):
    file.write_bytes(content)
    with pytest.raises(records.RecordsError, match="faq.jsonl: the file is empty"):
        records.read(file)


def test_an_empty_line_of_a_table_is_not_taken_for_its_header(file):
    file.write_bytes(b"\n ,\nquestion,answer\nWhy?,So.\n")
    rows = records.read(file)
    assert (rows, rows.lines) == ([{"question": "Why?", "answer": "So."}], [4])


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_no_other_separator_or_name_hides_a_table(file, separator):
    file.write_text(f"question{separator}answer\nWhy?{separator}So.\n")
    assert records.read(file) == [{"question": "Why?", "answer": "So."}]


def test_no_text_of_a_table_is_turned_into_something_else(file):
    cells = ["0071", "NA", "None", "null", "TRUE", "1e3", "1,5", " x ", "-"]
    file.write_text("question,answer\n" + "".join(f'q,"{c}"\n' for c in cells))
    assert [row["answer"] for row in records.read(file)] == cells


def test_a_cell_of_many_pages_is_read_whole(file):
    text = "word " * 100_000
    file.write_text(f"question,answer\nq,{text}\n")
    assert records.read(file)[0]["answer"] == text


def test_breaks_and_quotes_inside_a_cell_do_not_cut_the_row(file):
    file.write_bytes(
        b'instruction,output,,\r\n"Write\r\nJSON","{\n""a"": 1\n}"\r\n\r\n,,,\r\nb\r\n'
    )
    rows = records.read(file)
    assert rows == [
        {"instruction": "Write\r\nJSON", "output": '{\n"a": 1\n}'},
        {"instruction": "b", "output": ""},
    ]
    assert faults(rows) == [(8, "blank")]  # the line of the file


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"question,answer\na,b\nc,d,e\n", ":3: 3 cells under 2 names"),
        (b'question,answer\na,b\nc,"d\n', "line 3: no CSV"),
        (b"question,answer,answer\na,b,c\n", "'answer' is there twice"),
        (b"Hello there,\nthis is prose, is it not, my dear?\n", ":2: 3 cells under 1"),
        (b"Hello there\nthis is prose\n", "no JSONL, JSON array, CSV or Parquet"),
        ("Zoë,x\n".encode("cp1252"), "line|not UTF-8 .byte 0xeb at 2"),
        ('{"text": "x"}\n'.encode("utf-16-le"), "UTF-16 without its mark"),
        (b'[{"text": "x"},\n{"text": oops}]', "not JSON .* at line 2, column 10"),
        (b'["a", "b"]', ":2: not a JSON object"),
        (b'[{"text": "x"},\n{"text": "\xe9"}]', "not UTF-8 .line 2, byte 0xe9 at 10"),
        (gzip.compress(LINE * 9, mtime=0)[:-9], "ended before"),
        (b"\x1f\x8b no gzip", "faq.jsonl: "),
        (b"PAR1 no parquet", "faq.jsonl: "),
        (b"\xd0\xcf\x11\xe0 an old spreadsheet", "save the rows as 'CSV UTF-8'"),
        (b'{"text": ' + b"[" * 200_000, "faq.jsonl:1: nested too deep"),
    ],
)
def test_what_cannot_be_read_is_named_and_leaves_the_file_as_it_was(
    file, content, reason
):
    file.write_bytes(content)
    with pytest.raises(records.RecordsError, match=reason) as caught:
        records.read(file)
    assert str(caught.value).startswith(str(file))
    assert file.read_bytes() == content and list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_parquet_keeps_its_types(file, pack):
    rows = [{"question": "a", "answer": "0071", "n": 1, "keys": ["x"]}]
    rows += [{"question": "b", "answer": "NA", "n": None, "keys": []}]
    packed = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), packed)
    file.write_bytes(pack(packed.getvalue().to_pybytes()))
    assert records.read(file) == rows


def test_one_object_over_several_lines_is_one_row(file):
    file.write_text(json.dumps(GOOD, indent=2))
    assert records.read(file) == [GOOD]


def test_thousands_of_bad_lines_do_not_bury_the_first(file):
    file.write_bytes(b"{\n" * 25_003 + LINE)
    with pytest.raises(records.RecordsError) as caught:
        records.read(file)
    lines = str(caught.value).splitlines()
    assert len(lines) == 22 and lines[20] == "and 24,983 more"
    assert lines[21] == "25,003 bad lines, 1 other lines are good"


def test_one_bad_first_line_does_not_make_a_jsonl_file_a_table(file):
    file.write_bytes(b"question,answer\n" + LINE)
    with pytest.raises(records.RecordsError, match="faq.jsonl:1: not JSON"):
        records.read(file)


def test_a_folder_is_refused_with_the_files_that_could_be_meant(tmp_path):
    for name in ("b.jsonl", "a.jsonl", "notes.txt"):
        (tmp_path / name).write_bytes(LINE)
    with pytest.raises(IsADirectoryError, match=r"folder.*\(in it: a.jsonl, b.jsonl\)"):
        records.read(tmp_path)


def test_a_missing_file_is_named_with_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=f"no.jsonl: .*{re.escape(str(tmp_path))}"
    ):
        records.read("no.jsonl")


def test_no_text_is_changed_by_writing_and_reading(tmp_path):
    rows = [
        GOOD,
        {"text": '“Ω” 日本語 🙂 \\ " \t \x00'},
        {"keys": ["14 days"], "core": True, "fact": None, "n": 1.5},
    ]
    path = tmp_path / "a" / "new" / "folder" / "faq.jsonl"
    records.write(path, rows)
    assert records.read(path) == rows
    assert "日本語" in path.read_text(encoding="utf-8")  # for people to read as well


@pytest.mark.parametrize("bad", [{"answer": {1, 2}}, {"answer": "\ud83d"}])
def test_a_row_that_cannot_be_written_costs_nothing_of_the_old_file(file, bad):
    file.write_bytes(LINE)
    with pytest.raises((TypeError, ValueError)):
        records.write(file, [GOOD] * 5000 + [bad])
    assert file.read_bytes() == LINE
    assert list(file.parent.iterdir()) == [file]


def test_a_row_that_cannot_be_written_is_named(file):
    with pytest.raises((TypeError, ValueError), match="row 3"):
        records.write(file, [GOOD, GOOD, {"answer": {1, 2}}, GOOD])


def test_a_killed_write_costs_nothing_of_the_old_file(file):
    def rows():
        yield from [GOOD] * 5000
        raise KeyboardInterrupt

    file.write_bytes(LINE)
    with pytest.raises(KeyboardInterrupt):
        records.write(file, rows())
    assert file.read_bytes() == LINE
    assert list(file.parent.iterdir()) == [file]


# the disk takes 60 KB beside the old file, and a write goes out in pieces of 8 KB
@pytest.mark.parametrize("size", [128_000, 63_000], ids=["half-way", "on-closing"])
def test_a_full_disk_costs_nothing_of_the_old_file(small_disk, size):
    file = small_disk / "faq.jsonl"
    file.write_bytes(LINE)
    with pytest.raises(OSError) as caught:
        records.write(file, [GOOD] * (size // len(LINE)))
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert f"could not write {file} " in str(caught.value)
    assert "untouched" in str(caught.value)
    assert file.read_bytes() == LINE
    assert list(small_disk.iterdir()) == [file]


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps an open file")
def test_who_is_reading_the_old_file_sees_nothing_of_the_new(file):
    file.write_bytes(LINE)
    with file.open("rb") as reader:
        records.write(file, [{"text": "new"}])
        assert reader.read() == LINE
    assert records.read(file) == [{"text": "new"}]
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.skipif(os.name != "posix", reason="file modes are a matter of POSIX")
def test_a_written_file_is_not_closed_to_other_users(file):
    old = os.umask(0o022)
    try:
        records.write(file, [GOOD])
    finally:
        os.umask(old)
    assert oct(file.stat().st_mode & 0o777) == oct(0o644)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        pytest.param(GOOD | {"answer": " \n\t"}, "blank", id="blank-answer"),
        pytest.param(GOOD | {"question": ""}, "blank", id="blank-question"),
        pytest.param({"text": "\u00a0"}, "blank", id="blank-text"),
        pytest.param(GOOD | {"answer": None}, "not text", id="null-answer"),
        pytest.param(GOOD | {"answer": 14}, "not text", id="number"),
        pytest.param(GOOD | {"question": ["a"]}, "not text", id="list"),
        pytest.param(GOOD | {"anser": "x"}, "unknown field", id="unknown"),
        pytest.param({"text": "x", "label": "y"}, "label not learnt", id="label"),
        pytest.param({"text": "x", "output": "y"}, "label not learnt", id="output"),
        pytest.param(GOOD | {"keys": "a box"}, "not a list", id="bare-key"),
        pytest.param({"question": "Why?"}, "missing field", id="no-answer"),
        pytest.param({"answer": "So."}, "missing field", id="no-question"),
        pytest.param({"output": "So."}, "missing field", id="output-alone"),
        pytest.param({}, "missing field", id="nothing"),
        pytest.param(GOOD | {"answer": "word " * 300}, "too long", id="long-answer"),
        pytest.param(
            GOOD | {"question": "word " * 300}, "too long", id="long-question"
        ),
        pytest.param({"text": "word " * 301}, "too long", id="long-text"),
    ],
)
def test_no_fault_passes_and_each_is_named_by_its_row(row, fault):
    rows = [{"text": "first"}, {"text": "second"}, row, {"text": "last"}]
    assert faults(rows) == [(3, fault)]


@pytest.mark.parametrize(
    "row",
    [
        GOOD,
        {"instruction": "Add.", "response": "3"},
        {"instruction": "Add.", "input": "1, 2", "output": "3"},
        {"instruction": "Add.", "input": "", "output": "3"},
        {"instruction": "Add.", "input": None, "output": "3"},
        {"instruction": "Add.", "output": "3"},
        {"input": "1 + 2", "output": "3"},
        {"text": " ".join(["word"] * 300)},
        GOOD | {"id": "a-1", "fact": None, "topic": "x", "keys": [], "core": True},
        GOOD | {"kind": "x", "check": {}, "hard": True, "source": "z"},
    ],
    ids=lambda row: "/".join(row),
)
def test_no_fault_is_found_in_a_good_row_of_any_form(row):
    assert faults([row]) == []


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("anwser", "answer"), ("Question", "question"), ("instuction", "instruction")],
)
def test_a_misspelt_field_is_answered_with_the_one_meant(wrong, right):
    assert f"{wrong!r}: did you mean {right!r}?" in details([{wrong: "x"}])


def test_a_field_like_no_other_gets_no_far_fetched_hint():
    assert "did you mean" not in details([GOOD | {"zzzz": "x"}])


@pytest.mark.parametrize(
    "again",
    [
        "How high is the mast?",
        "how HIGH is the mast",
        "  How high is\nthe mast ?! ",
    ],
)
def test_a_repeated_question_does_not_hide_in_case_or_punctuation(again):
    rows = [GOOD, {"text": "between"}, GOOD | {"question": again}]
    assert faults(rows) == [(3, "duplicate")]
    assert "row 1" in details(rows)


def test_two_answers_to_one_question_are_no_mere_duplicate():
    rows = [{"text": "before"}, GOOD, GOOD | {"answer": "Three metres."}]
    assert faults(rows) == [(3, "conflict")]
    assert "row 2" in details(rows)


def test_one_instruction_on_two_inputs_is_no_duplicate():
    rows = [
        {"instruction": "Add.", "input": numbers, "output": "3"}
        for numbers in ("1, 2", "0, 3", "")
    ]
    assert faults(rows) == []


@pytest.mark.parametrize(
    ("question", "other"),
    [
        ("It's on?", {"question": "it’s on", "answer": "Another answer."}),
        ("Is it on?", {"instruction": "is it ON", "response": "Yes."}),
        ("Is it on?", {"question": "Is it on"}),
    ],
    ids=["apostrophe", "another-form", "only-asked"],
)
def test_a_question_does_not_leak_under_other_spelling_or_form(question, other):
    rows = [{"text": "x"}, {"question": question, "answer": "Yes."}]
    others = {"validation": [{"text": "y"}], "test": [{"text": "z"}, other]}
    assert faults(rows, others) == [(2, "leak")]
    assert "test row 2" in details(rows, others)


def test_blank_questions_are_no_leaks_of_each_other():
    blank = {"question": " ", "answer": "x"}
    assert faults([blank, blank], {"test": [blank]}) == [(1, "blank"), (2, "blank")]


def test_rows_are_named_by_their_lines_until_their_order_changes(file):
    file.write_bytes(b"\n\n" + LINE + b"\n" + LINE)
    rows = records.read(file)
    assert (list(records.places(rows)), rows.path) == ([3, 5], file)
    assert faults(rows) == [(5, "duplicate")]
    assert "row 3" in details(rows)
    assert faults(rows[:1], {"all": rows}) == [(1, "leak")]
    assert "all row 3" in details(rows[:1], {"all": rows})
    random.Random(0).shuffle(rows)
    assert list(records.places(rows)) == [1, 2]


def test_all_faults_of_a_row_are_found_at_once():
    row = GOOD | {"answer": "word " * 400, "note": "x", "question": ""}
    assert set(faults([row])) == {(1, "too long"), (1, "unknown field"), (1, "blank")}


def test_loading_loses_no_row_and_no_split():
    loaded = records.load("faq")
    assert set(loaded) == {"train", "validation", "test"}
    for split, rows in loaded.items():
        assert rows.to_list() == records.read(
            records.DATA / "larkfield" / f"faq_{split}.jsonl"
        )


@pytest.mark.parametrize("name", ["instructions", "pretraining_sample"])
def test_a_set_of_one_file_is_its_training_split(name):
    """Rows come back as they are: checks differ in their fields and gain none."""
    loaded = records.load(name)
    assert set(loaded) == {"train"}
    path = records.DATA / "larkfield" / f"{name}.jsonl"
    assert loaded["train"].to_list() == records.read(path)


@pytest.mark.parametrize("name", ["faq", "instructions"])
def test_streaming_changes_no_row(name):
    streamed = records.load(name, streaming=True)
    loaded = records.load(name)
    assert set(streamed) == set(loaded)
    for split, rows in streamed.items():
        assert not hasattr(rows, "__len__")  # a lesson that streams shows streaming
        assert list(rows) == loaded[split].to_list()


def test_core_rows_are_those_marked_unless_all_are_asked_for(monkeypatch):
    rows = [{"id": 1, "core": True}, {"id": 2, "core": False}]
    monkeypatch.delenv("COURSE_ROWS", raising=False)
    assert records.core(rows) == rows[:1]
    monkeypatch.setenv("COURSE_ROWS", "all")
    assert records.core(rows) == rows
    monkeypatch.setenv("COURSE_ROWS", "al")
    with pytest.raises(ValueError, match="COURSE_ROWS is 'al': give 'all'"):
        records.core(rows)


@pytest.mark.parametrize("name", ["fqa", "", "a/b/c", "./faq", "/faq", "faq/"])
def test_a_misspelt_name_gets_the_names_there_are_and_no_network(name, monkeypatch):
    monkeypatch.setattr(records, "hub_answers", lambda: pytest.fail("asked the hub"))
    with pytest.raises(ValueError, match=f"{name!r}: there are .*faq.*owner/name"):
        records.load(name)


def test_a_file_is_not_taken_for_a_set_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(records, "hub_answers", lambda: pytest.fail("asked the hub"))
    records.write("mine/faq.jsonl", [GOOD])
    with pytest.raises(ValueError, match="'mine/faq.jsonl': .*is for records.read"):
        records.load("mine/faq.jsonl")


def run(*arguments):
    command = [sys.executable, "-m", "helpers.records", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=records.DATA.parent
    )


def test_the_command_does_not_pass_a_faulty_file(file):
    records.write(file, [GOOD, {"text": ""}])
    done = run(file)
    assert done.returncode == 1
    assert f"{file}: row 2: blank: " in done.stdout
    assert done.stdout.splitlines()[-1] == f"{file}: 2 rows, 1 faults"
    assert done.stderr == ""


@pytest.fixture
def command(capsys):
    """The command in this process: arguments -> (exit code, output, errors)."""

    def run(*arguments):
        code = records.main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


def test_the_command_passes_a_clean_file(command, file):
    records.write(file, [GOOD])
    assert command(file) == (0, f"{file}: 1 rows, 0 faults\n", "")


@pytest.mark.parametrize("position", [0, 1])
def test_the_command_names_the_other_file_that_a_row_leaks_into(
    command, tmp_path, position
):
    one, two, three = (tmp_path / f"{name}.jsonl" for name in ("one", "two", "three"))
    others = [two, three]
    records.write(one, [GOOD])
    records.write(others[position], [{"text": "x"}, GOOD])
    records.write(others[1 - position], [{"text": "y"}])
    code, output, _ = command(one, two, three)
    assert code == 1
    assert f"{one}: row 1: leak: also stands in {others[position]} row 2" in output


@pytest.mark.parametrize("bad_first", [True, False])
@pytest.mark.parametrize(
    "content", [None, b"", b"{\n" + LINE], ids=["no", "empty", "bad"]
)
def test_the_command_does_not_end_in_a_traceback(
    command, file, tmp_path, content, bad_first
):
    good = tmp_path / "good.jsonl"
    records.write(good, [GOOD])
    if content is not None:
        file.write_bytes(content)
    code, output, errors = command(*((file, good) if bad_first else (good, file)))
    assert (code, output) == (1, "")
    assert str(file) in errors and "Traceback" not in errors


@pytest.mark.parametrize(
    "order", list(itertools.permutations(["input", "instruction", "output"]))
)
def test_the_order_of_fields_does_not_decide_the_form(order):
    found = records.form(dict.fromkeys(order, "x"))
    assert found == (("instruction", "input"), "output")


@pytest.mark.parametrize("answer", ["response", "output", None])
def test_no_input_beside_an_instruction_is_left_out_of_what_is_asked(answer):
    record = {"instruction": "Add the numbers.", "input": "1, 2"}
    record |= {answer: "3"} if answer else {}
    assert records.prompt_text(record) == "Add the numbers.\n1, 2"


def turns(*texts, system=None):
    """Messages of the user and the assistant by turns."""
    said = zip(itertools.cycle(("user", "assistant")), texts)
    said = [{"role": role, "content": text} for role, text in said]
    return [{"role": "system", "content": system}] * bool(system) + said


HUMAN = {"from": "human", "value": "Hi?"}
GPT = {"from": "gpt", "value": "Hi."}
USER = {"role": "user", "content": " Hi? "}
ASSISTANT = {"role": "assistant", "content": "Hi.\n"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": " Hi? ", "answer": "Hi.\n"}, turns("Hi?", "Hi.")),
        ({"question": "Hi?"}, turns("Hi?")),
        ({"question": "Q", "context": "C", "answer": "A"}, turns("Q\n\nC", "A")),
        ({"question": "Q", "input": "C", "answer": "A"}, turns("Q\n\nC", "A")),
        ({"question": "Q", "context": " ", "answer": "A"}, turns("Q", "A")),
        ({"instruction": "I", "output": "O"}, turns("I", "O")),
        ({"instruction": "I", "input": None, "output": "O"}, turns("I", "O")),
        ({"instruction": "I", "input": "J", "output": "O"}, turns("I\n\nJ", "O")),
        ({"instruction": "I", "context": "C", "response": "O"}, turns("I\n\nC", "O")),
        ({"instruction": "I", "input": "J"}, turns("I\n\nJ")),
        ({"input": "J", "output": "O"}, turns("J", "O")),
        ({"prompt": "P", "completion": "C"}, turns("P", "C")),
        ({"prompt": [USER], "completion": [ASSISTANT]}, turns("Hi?", "Hi.")),
        ({"prompt": [USER]}, turns("Hi?")),
        ({"messages": None, "question": "Q", "answer": "A"}, turns("Q", "A")),
        ({"messages": [USER, ASSISTANT]}, turns("Hi?", "Hi.")),
        ({"messages": [USER, ASSISTANT, USER]}, turns("Hi?", "Hi.", "Hi?")),
        (
            {"messages": [{"role": "system", "content": ""}, USER, ASSISTANT]},
            turns("Hi?", "Hi."),
        ),
        (
            {"messages": [{"role": "developer", "content": "S"}, USER]},
            turns("Hi?", system="S"),
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": t}]}
                    for t in "Q"
                ]
            },
            turns("Q"),
        ),
        ({"conversations": [HUMAN, GPT]}, turns("Hi?", "Hi.")),
        (
            {"conversations": [HUMAN, GPT], "system": "S"},
            turns("Hi?", "Hi.", system="S"),
        ),
        ({"conversations": [USER, ASSISTANT]}, turns("Hi?", "Hi.")),
        (
            {"instruction": "I", "output": "O", "system": "S", "history": [["a", "b"]]},
            turns("a", "b", "I", "O", system="S"),
        ),
        (
            {"instruction": "I", "output": "O", "system": "", "history": None},
            turns("I", "O"),
        ),
        ({"text": " T\n"}, [{"role": "assistant", "content": "T"}]),
    ],
)
def test_no_turn_or_role_is_lost_in_a_row_of_any_form(row, said):
    assert records.messages(row) == said
    answered = said[-1]["role"] == "assistant"
    assert records.prompt(row) == (said[:-1] if answered else said)
    assert records.answer(row) == (said[-1]["content"] if answered else None)
    assert records.unlearnt([row]) == {}
    assert faults([row]) == ([] if answered else [(1, "missing field")])


@pytest.mark.parametrize(
    ("row", "fault", "reason"),
    [
        ({"a": 1}, "missing field", "fields 'a': needs one of question/answer"),
        ({"question": "Q", "answer": 40}, "not text", "'answer' is int, not text: 40"),
        (
            {"question": ["Q"], "answer": "A"},
            "not text",
            "'question' is list, not text",
        ),
        ({"question": "Q", "answer": None}, "not text", "'answer' is NoneType"),
        ({"question": "Q", "answer": " "}, "blank", "'answer' has no text"),
        ({"text": "a\ud83d"}, "half a character", r"'text' .*\(\\ud83d\)"),
        ({"messages": "Hi?"}, "not a list", "'messages' is no list of turns: 'Hi"),
        ({"messages": []}, "turns", "is by nobody"),
        ({"messages": [ASSISTANT]}, "turns", "is by assistant: needs user"),
        ({"messages": [USER, USER, ASSISTANT]}, "turns", "user, user, assistant"),
        ({"messages": [USER, "Hi."]}, "turns", "turn 2 of 'messages' is no role"),
        ({"messages": [USER, USER | {"role": "bot"}]}, "turns", "turn 2 .* 'bot'"),
        ({"messages": [USER, USER | {"role": ["x"]}]}, "turns", "turn 2 "),
        ({"messages": [{"role": "user"}, ASSISTANT]}, "not text", "turn 1 .*NoneType"),
        ({"conversations": [HUMAN, GPT | {"value": ""}]}, "blank", "turn 2 "),
        ({"conversations": [GPT, HUMAN]}, "turns", "assistant, user: needs user"),
        ({"prompt": [USER], "completion": [USER]}, "turns", "user, user"),
        (
            {"messages": [USER, ASSISTANT | {"content": None, "tool_calls": [{}]}]},
            "not supported",
            "turn 2 .*tool",
        ),
        (
            {"messages": [USER, ASSISTANT | {"role": "tool"}]},
            "not supported",
            "turn 2 .*tool",
        ),
        (
            {"messages": [USER | {"content": [{"type": "image_url"}]}, ASSISTANT]},
            "not supported",
            "turn 1 .*'image_url'",
        ),
        (
            {"messages": [{"role": "system", "content": "S"}, USER, ASSISTANT]}
            | {"system": "S"},
            "turns",
            "system, system, user",
        ),
        ({"input": "I", "output": "O", "history": [["a"]]}, "turns", "'history' holds"),
        ({"input": "I", "output": "O", "history": "ab"}, "turns", "'history' holds"),
        ({"input": "I", "output": "O", "history": 5}, "turns", "'history' holds 5"),
        ({"input": "I", "output": "O", "system": 5}, "not text", "'system' is int"),
    ],
)
def test_check_misses_no_row_that_later_steps_refuse(row, fault, reason):
    with pytest.raises(ValueError, match=reason):
        records.messages(row)
    assert fault in [kind for _, kind in faults([GOOD, row])]
    assert faults([GOOD], {"test": [row]}) == []


def test_a_conversation_that_ends_with_the_user_is_no_training_row():
    rows = [{"messages": [USER, ASSISTANT, USER]}]
    assert faults(rows) == [(1, "missing field")]


def test_conversations_that_ask_the_same_are_found():
    rows = [{"messages": [USER, ASSISTANT]}, {"question": "hi", "answer": "No."}]
    assert faults(rows, {"test": [{"conversations": [HUMAN]}]}) == [
        (1, "leak"),
        (2, "conflict"),
        (2, "leak"),
    ]


def test_one_question_after_two_talks_is_no_conflict():
    rows = [
        {"instruction": "And it?", "output": text, "history": [["Is x on?", text]]}
        | {"system": text}
        for text in ("Yes.", "No.")
    ]
    assert faults(rows) == []


def test_what_is_not_learnt_is_counted_by_its_form():
    rows = [
        GOOD | {"url": "x", "output": "y", "id": 1, "empty": "", "none": None},
        {"instruction": "I", "output": "O", "text": "I O", "url": "x"},
        {"text": "T", "system": "S"},
    ]
    counts = {"url": 2, "output": 1, "text": 1, "system": 1}
    assert records.unlearnt(rows) == counts
    noticed = records.notices(rows).values.tolist()
    assert [1, "not learnt", "'url' in 2 rows"] in noticed
    found = records.check(rows)
    assert list(found["fault"]).count("unknown field") == 3  # each in one row


def test_a_column_of_a_large_file_is_one_notice_and_not_one_for_each_row():
    rows = [{"question": f"Q{n}", "answer": "A", "url": "x"} for n in range(5000)]
    assert records.check(rows).empty
    assert records.notices(rows).values.tolist() == [
        [1, "not learnt", "'url' in 5,000 rows"]
    ]


@pytest.mark.parametrize(
    "row", [GOOD | {"check": "yes"}, GOOD | {"check": {"kind": "exact"}}]
)
def test_a_check_that_scoring_cannot_run_is_found(row):
    assert faults([row]) == [(1, "not a check")]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("5", "-5"),
        ("5", "–5"),
        ("5 - 3", "5 + 3"),
        ("6/2", "6*2"),
        ("6 / 2", "6 2"),
        ("A", "A+"),
        ("C", "C#"),
        ("C", "C++"),
        ("5 %", "5"),
        ("5 €", "5 $"),
        ("1 < 2", "1 > 2"),
        ("🙂", "🙁"),
        ("ok 🙂", "ok"),
        ("दिन", "दीन"),
        ("กา", "กี"),
        ("שָׁלוֹם", "שלום"),
        ("+", "-"),
        ("?", "!"),
        ("…", ""),
    ],
)
def test_texts_that_differ_in_meaning_are_not_taken_for_one(one, other):
    assert records.normalise(one) != records.normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Is it on?", "is it on"),
        ("“Is it — on?!”", "is it, on..."),
        ("It's", "it’s"),
        ("cafe\u0301", "caf\u00e9"),
        ("Wi-Fi", "wi fi"),
        ("Groß", "GROSS"),
        ("co\u00adop", "coop"),
        ("1+1", "1 + 1 ?"),
        ("8:00-18:00", "8:00 – 18:00"),
        ("`x`", "x"),
    ],
)
def test_case_and_punctuation_do_not_make_another_text(one, other):
    assert records.normalise(one) == records.normalise(other)


PEOPLE = {
    "e-mail address": ["to jo.b+x@mail.acme.co.uk.", "<a@b.org>"],
    "phone number": [
        "call +44 20 7946 0958",
        "+1-555-123-4567!",
        "+49 (0)171 1234567",
        "(555) 234-5678",
        "555-234-5678",
        "0171 2345678",
        "020 7946 0958",
        "030/1234567",
    ],
    "card number": ["4111 1111 1111 1111", "5500005555555559", "3782-822463-10005"],
}
NOBODY = [
    "help@shop.example",
    "x@y",
    "order 302-20251201-4411",
    "2025-12-01 10:30",
    "01.12.2025",
    "01/12/2025",
    "serial KS-2024-00012345",
    "4111 1111 1111 1112",
    "1234567812345678",
    "5 + 12345678",
    "120 metres, 0.2 mm, 1013 hPa",
    "192.168.100.200",
    "0071 1234 5678",
    "8:00-18:00",
    "978-3-16-148410-0",
    "1,234,567,890",
]


@pytest.mark.parametrize(
    ("kind", "text"), [(kind, text) for kind in PEOPLE for text in PEOPLE[kind]]
)
def test_personal_data_does_not_go_unnoticed(kind, text):
    rows = [GOOD, GOOD | {"answer": f"Well: {text}"}, {"messages": [USER, ASSISTANT]}]
    found = records.notices(rows)
    assert found[["row", "notice"]].values.tolist() == [[2, kind]]
    assert text not in found["detail"][0]  # it would stand in logs


@pytest.mark.parametrize("text", NOBODY)
def test_dates_and_orders_are_not_taken_for_people(text):
    assert records.notices([GOOD | {"answer": text}]).empty


def test_the_command_shows_what_matters_of_a_large_file_on_one_screen(command, file):
    spoilt = [{"question": f"Q{n}", "anwser": "A"} for n in range(25_003 // 2)]
    kept = [{"question": f"{n}?", "answer": "a@b.org", "url": "x"} for n in range(9)]
    records.write(file, spoilt + kept)
    code, output, _ = command(file)
    lines = output.splitlines()
    assert code == 1 and len(lines) <= 25
    assert lines[20] == f"{file}: and 24,982 more"
    assert "'anwser' in 12,501 of 12,510, 'url' in 9 of 12,510" in lines[21]
    assert lines[22].endswith("personal data: e-mail address in 9 rows, as 12502")
    assert lines[23] == f"{file}: 12510 rows, 25002 faults"


def test_a_table_of_one_column_is_a_list_of_questions(file):
    file.write_bytes(b"question\nIs it on?\n0071\n")
    assert records.read(file) == [{"question": "Is it on?"}, {"question": "0071"}]


def test_notices_alone_do_not_fail_a_file(command, file):
    records.write(file, [GOOD | {"answer": "Write to a@b.org"}])
    code, output, _ = command(file)
    assert code == 0 and "e-mail address" in output
