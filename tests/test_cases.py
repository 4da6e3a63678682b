"""Run with `python -m pytest tests/test_cases.py`: seconds, no network, no model.

Files as people have them, one for each kind of fault that was met in practice: read,
checked, and shown by the command line. What is trained on them is tested elsewhere.
"""

import gzip
import json
import os
import subprocess
import sys
import zipfile

from helpers import records

import pytest

ROWS = [
    {"question": "Is it on?", "answer": "Yes."},
    {"question": "How high is it?", "answer": "Two metres."},
    {"question": "Who made it?", "answer": "Larkfield."},
]
ASKED = [[row["question"], row["answer"]] for row in ROWS]
ROLES = ("system", "user", "assistant")


def jsonl(*rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def talk(*texts):
    """A system line, then turns; None leaves the line out."""
    said = zip(ROLES, texts, strict=False)
    return [{"role": role, "content": text} for role, text in said if text]


DOLLY = {
    "instruction": "How high is the mast?",
    "context": "The mast of the Kestrel is two metres high.",
    "response": "Two metres.",
    "category": "closed_qa",
}
LONG = [ROWS[0], {"question": "word " * 900, "answer": "Yes."}, ROWS[1]]
LONG.append({"question": "other " * 900, "answer": "Yes."})
SUMS = [
    {"input": f"{a} + {b}", "output": str(a + b)} for a in range(4) for b in range(4)
]
CASES = {
    "array_pretty.json": json.dumps(ROWS, indent=4).encode(),
    "array_rows.json": b"[\n"
    + jsonl(*ROWS).strip().replace(b"}\n", b"},\n")
    + b"\n]\n",
    "dolly.jsonl": jsonl(DOLLY, DOLLY | {"instruction": "How high is it?"}),
    "squad.jsonl": jsonl(ROWS[1] | {"context": "It is two metres high."}),
    "lf_history.jsonl": jsonl(
        {"instruction": "And the base?", "input": "", "output": "Ten."}
        | {"system": "Answer in one word.", "history": [["How high is it?", "Two."]]}
    ),
    "messages.jsonl": jsonl(*({"messages": talk("Be short.", *qa)} for qa in ASKED)),
    "sharegpt.jsonl": jsonl(
        *(
            {
                "conversations": [
                    {"from": "human", "value": q},
                    {"from": "gpt", "value": a},
                ]
            }
            for q, a in ASKED
        )
    ),
    "promptcompletion.jsonl": jsonl(
        *({"prompt": q, "completion": a} for q, a in ASKED)
    ),
    "faq_num.csv": b"question,answer\nHow many legs?,4\nCode of the door?,0071\n",
    "faq_na.csv": b"question,answer\nCountry code?,NA\nWhich tool?,None\nOn?,Yes\n",
    "labels.csv": b"text,label\nI paid twice,0\nIt is dead,1\n",
    "cp1252.csv": "question;answer\nOù est le café?;À côté\n".encode("cp1252"),
    "utf16.jsonl": jsonl(*ROWS).decode().replace("\n", "\r\n").encode("utf-16"),
    "rows.jsonl.gz": gzip.compress(jsonl(*ROWS)),
    "named_wrongly.csv": jsonl(*ROWS),
    "bom_pyquotes.jsonl": "".join(f"{row}\n" for row in ROWS).encode("utf-8-sig"),
    "surrogate.jsonl": b'{"question":"Is it \\ud83d on?","answer":"Yes."}\n'
    + jsonl(*ROWS[1:]),
    "intkeys.jsonl": jsonl(ROWS[0] | {"keys": [40]}, ROWS[1] | {"keys": [""]}),
    "control.jsonl": jsonl(
        {"question": "How do I copy it?", "answer": "Type cp <filename> <target>."},
        {"question": "What ends a turn?", "answer": "The token <|im_end|> does."},
    ),
    "hindi.jsonl": jsonl(
        {"question": "दिन क्या है?", "answer": "Day"},
        {"question": "दीन क्या है?", "answer": "Poor"},
    ),
    "arith.jsonl": jsonl(*SUMS),
    "dupkeys.jsonl": b'{"question":"Is it on?","answer":"Yes.","answer":"No."}\n',
    "blank_lines.jsonl": b"\n\n"
    + jsonl(ROWS[0])
    + b"\n"
    + jsonl(ROWS[1] | {"answer": ""}),
    "longprompt.jsonl": jsonl(*LONG),
    "questions.jsonl": jsonl(
        *({"id": n, "question": q} for n, (q, _) in enumerate(ASKED))
    ),
    "cyr.jsonl": jsonl({"вопрос": "Где?", "ответ": "Там."}),
}


@pytest.fixture
def case(tmp_path):
    """case(name) -> the path of that file."""

    def write(name):
        path = tmp_path / name
        if name == "rows.xlsx":
            with zipfile.ZipFile(path, "w") as book:
                book.writestr("[Content_Types].xml", "<Types/>")
        else:
            path.write_bytes(CASES[name])
        return path

    return write


def faults(rows):
    return list(records.check(rows)[["row", "fault"]].itertuples(False, None))


def refused(path):
    with pytest.raises(records.RecordsError) as caught:
        records.read(path)
    return str(caught.value)


@pytest.mark.parametrize("name", [*CASES, "rows.xlsx"])
def test_no_file_ends_in_a_traceback_or_a_long_list_or_is_written_to(
    case, name, capsys
):
    path = case(name)
    before = path.read_bytes()
    code = records.main([str(path)])
    output, errors = capsys.readouterr()
    assert code in (0, 1) and str(path) in output + errors
    assert len((output + errors).splitlines()) <= 25
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "name",
    ["array_pretty.json", "array_rows.json", "utf16.jsonl", "rows.jsonl.gz"]
    + ["named_wrongly.csv"],
)
def test_what_other_programs_write_is_read_and_not_refused(case, name):
    assert records.read(case(name)) == ROWS


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "dolly.jsonl",
            talk(None, f"{DOLLY['instruction']}\n\n{DOLLY['context']}", "Two metres."),
        ),
        (
            "squad.jsonl",
            talk(None, "How high is it?\n\nIt is two metres high.", "Two metres."),
        ),
        (
            "lf_history.jsonl",
            talk("Answer in one word.", "How high is it?", "Two.")
            + talk(None, "And the base?", "Ten."),
        ),
        ("messages.jsonl", talk("Be short.", *ASKED[0])),
        ("sharegpt.jsonl", talk(None, *ASKED[0])),
        ("promptcompletion.jsonl", talk(None, *ASKED[0])),
    ],
)
def test_no_context_history_or_system_line_is_left_out_in_silence(case, name, said):
    rows = records.read(case(name))
    assert records.messages(rows[0]) == said
    left = {"category": 2} if name == "dolly.jsonl" else {}
    assert records.unlearnt(rows) == left
    assert faults(rows) == []
    assert list(records.notices(rows)["notice"]) == ["not learnt"] * len(left)


def test_what_is_not_learnt_is_counted_by_the_command(case, capsys):
    path = case("dolly.jsonl")
    assert records.main([str(path)]) == 0
    assert "not learnt: 'category' in 2 of 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "answers"),
    [("faq_num.csv", ["4", "0071"]), ("faq_na.csv", ["NA", "None", "Yes"])],
)
def test_a_table_loses_no_noughts_and_no_na(case, name, answers):
    rows = records.read(case(name))
    assert [row["answer"] for row in rows] == answers
    assert faults(rows) == []


def test_labels_of_a_table_are_not_lost_in_silence(case):
    rows = records.read(case("labels.csv"))
    assert rows[0] == {"text": "I paid twice", "label": "0"}
    assert faults(rows) == [(2, "label not learnt"), (3, "label not learnt")]
    assert records.unlearnt(rows) == {"label": 2}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cp1252.csv", "not UTF-8 (line 2, byte 0xf9 at 1)"),
        ("rows.xlsx", "a spreadsheet or an archive"),
    ],
)
def test_what_cannot_be_read_gets_one_error_whose_remedy_loses_nothing(
    case, name, reason
):
    message = refused(case(name))
    assert reason in message and "CSV UTF-8" in message
    assert "\n" not in message and "read_csv" not in message


def test_the_encoding_named_as_a_remedy_gives_the_text_back(case, tmp_path):
    path = case("cp1252.csv")
    assert "iconv -f cp1252 -t utf-8" in refused(path)
    path.write_text(path.read_text("cp1252"), "utf-8")
    assert records.read(path) == [{"question": "Où est le café?", "answer": "À côté"}]


def test_python_s_quotes_are_not_called_csv(case):
    lines = refused(case("bom_pyquotes.jsonl")).splitlines()
    assert len(lines) == 4
    for number, line in enumerate(lines[:3], 1):
        assert f".jsonl:{number}: not JSON (Python's quotes" in line
        assert "json.dumps" in line


def test_check_finds_by_row_what_training_and_scoring_would_refuse(case):
    rows = records.read(case("surrogate.jsonl"))
    assert faults(rows) == [(1, "half a character")]
    assert "\\ud83d" in records.check(rows)["detail"][0]
    rows = records.read(case("intkeys.jsonl"))
    assert faults(rows) == [(1, "not text"), (2, "not text")]


def test_control_tokens_in_a_text_are_no_fault(case):
    rows = records.read(case("control.jsonl"))
    assert faults(rows) == []
    assert records.answer(rows[1]) == "The token <|im_end|> does."


@pytest.mark.parametrize("name", ["hindi.jsonl", "arith.jsonl"])
def test_questions_that_differ_in_a_sign_are_not_taken_for_one(case, name):
    rows = records.read(case(name))
    assert faults(rows) == []
    assert len({records.normalise(records.prompt_text(row)) for row in rows}) == len(
        rows
    )


def test_the_first_of_two_equal_keys_is_not_dropped_in_silence(case):
    assert ".jsonl:1: 'answer' is there twice" in refused(case("dupkeys.jsonl"))


def test_a_row_is_named_by_its_line_and_not_by_its_number(case, capsys):
    path = case("blank_lines.jsonl")
    assert faults(records.read(path)) == [(5, "blank")]
    records.main([str(path)])
    assert f"{path}: row 5: blank: " in capsys.readouterr().out


def test_rows_too_long_are_all_named_at_once(case):
    rows = records.read(case("longprompt.jsonl"))
    assert faults(rows) == [(2, "too long"), (4, "too long")]


@pytest.mark.parametrize("name", ["questions.jsonl", "cyr.jsonl"])
def test_no_character_that_the_console_lacks_ends_in_a_traceback(case, name):
    done = subprocess.run(
        [sys.executable, "-m", "helpers.records", case(name)],
        capture_output=True,
        cwd=records.DATA.parent,
        env=os.environ | {"PYTHONIOENCODING": "cp1252"},
    )
    assert done.returncode == 1 and done.stderr == b""
    assert b"missing field" in done.stdout
    assert (b"\\u0432" in done.stdout) == (name == "cyr.jsonl")
