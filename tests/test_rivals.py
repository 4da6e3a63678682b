"""Run with `python -m pytest tests/test_rivals.py`: seconds, no network.

That the prompts which tuning is compared with got a fair chance, and no test row.
"""

import json

from helpers import records
from tools import rivals
from tools.jobs import JOBS


def test_examples_stand_before_what_a_prompted_rival_is_asked():
    row, example = JOBS["instructed"](final=True).train[:2]
    chat = rivals.shown(row, [example], line=True)
    assert chat[:2] == records.messages(example)
    asked = records.prompt(row)[-1]["content"]
    assert chat[2]["content"] == f"{asked}\n{rivals.RESULT_ONLY}" and len(chat) == 3
    assert rivals.shown(row, [], line=False) == records.prompt(row)


def test_the_prompt_of_a_rival_was_chosen_on_rows_that_are_not_its_test():
    path = records.DATA / "recorded" / "rivals_instructions.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    passed = {way: marks.count("1") for way, marks in found["tried"].items()}
    own = {way for way in passed if way.startswith("three of its kind")}
    for name, among in (
        ("three of its kind", own),
        ("prompted", passed.keys() - own),
    ):
        assert passed[found["chosen"][name]] == max(passed[way] for way in among)
    train = {row["id"] for row in JOBS["instructed"](final=True).train}
    assert found["examples"] and set(found["examples"]) <= train
