"""Run with `python -m pytest tests/test_shipped.py`: a minute, no network.

The tuned adapters of data/models: that they are what their cards and records say, and
that they still answer as they were recorded.
"""

import json
import re

from helpers import inference, models, records, runs, smollm2, templates, whole
from tools import record, search
from tools.adapters import CHOSEN, FILES, RECIPES, SHIPPED
from tools.jobs import JOBS, prepared

import pytest
from safetensors import safe_open

NAMES = sorted(RECIPES)
needs_student = pytest.mark.skipif(
    not smollm2.installed(), reason=f"SmolLM2 is not installed: {smollm2.COMMAND}"
)


def recorded(name):
    return json.loads((record.FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_is_whole_small_and_in_bfloat16(name):
    folder = SHIPPED / name
    assert {path.name for path in folder.iterdir()} == {*FILES, "README.md", whole.SUMS}
    whole.check(folder)
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        assert {file.get_slice(key).get_dtype() for key in file.keys()} == {"BF16"}
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "smollm2"
    assert config["r"] == RECIPES[name]["rank"]


def test_the_adapters_are_no_burden_to_a_clone():
    sizes = [(SHIPPED / n / "adapter_model.safetensors").stat().st_size for n in NAMES]
    assert max(sizes) <= 10e6 and sum(sizes) <= 25e6


@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_was_tuned_by_its_recipe_on_the_rows_of_its_job(name):
    run = json.loads((SHIPPED / name / "run.json").read_text(encoding="utf-8"))
    rows, choices = prepared(JOBS[name](final=True).train, RECIPES[name])
    assert {key: run[key] for key in choices} == choices
    talks = [records.messages(row) for row in rows]
    assert run["data"] == runs.digest(json.dumps([talks, None]))


@pytest.mark.parametrize("name", NAMES)
def test_a_card_tells_the_figures_that_were_recorded(name):
    card = (SHIPPED / name / "README.md").read_text(encoding="utf-8")
    for marks in recorded(name)["marks"]["0"].values():
        share = marks.count("1") / len(marks)
        line = rf"\| *{100 * share:.1f} % *\| *{len(marks)} *\|"
        assert re.search(line, card), f"{share:.3f} of {len(marks)}"
    digest = record.sha256(SHIPPED / name / "adapter_model.safetensors")
    assert digest in card


def test_without_its_base_a_lesson_goes_on_with_another_model(monkeypatch, capsys):
    monkeypatch.setattr(smollm2, "installed", lambda: False)
    model, _ = models.load("router", instead="tiny")
    assert model.num_parameters() < 10e6
    assert smollm2.COMMAND in capsys.readouterr().out


@needs_student
def test_an_adapter_brings_its_template_and_leaves_its_base_its_own():
    _, tokenizer = models.load("router")
    assert tokenizer.chat_template == templates.CHATML
    _, of_base = models.load("smollm2")
    assert of_base.chat_template != templates.CHATML


def test_what_a_card_says_of_the_choice_is_on_record():
    tried = [
        run
        for run in search.recorded().values()
        if run["settings"].get("job") == "router"
    ]
    rows = sum(map(len, tried[0]["marks"].values()))
    assert len(tried) == 1 and RECIPES["router"].items() <= tried[0]["settings"].items()
    assert f"{100 * search.total(tried[0]):.1f} % of" in CHOSEN["router"]
    assert f"other {rows} right" in CHOSEN["router"].replace("\n", " ")
    wren = [
        run
        for run in search.recorded().values()
        if run["settings"].get("job") == "wren"
    ]
    right = {
        run["settings"].get("rows"): 100 * run["marks"]["paraphrase"].count("1") / 114
        for run in wren
    }
    assert max(right, key=right.get) == RECIPES["wren"]["rows"] and len(wren) == 4
    said = CHOSEN["wren"].replace("\n", " ")
    assert f"{max(right.values()):.1f} %" in said and f"{right[None]:.1f} %" in said


@needs_student
@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_answers_as_recorded(name):
    """On every n-th row of its test, forty or more: at most one in twenty differs."""
    job, found = JOBS[name](final=True), recorded(name)
    every = max(1, len(job.held_out) // 40)
    rows, answers = job.held_out[::every], found["answers"][::every]
    model, tokenizer = models.load(name)
    prompts = [records.prompt(row) for row in rows]
    now = job.mark(inference.generate(prompts, model, tokenizer, job.new), rows)
    then = job.mark(answers, rows)
    pairs = [pair for kind in now for pair in zip(now[kind], then[kind], strict=True)]
    assert len(pairs) >= 40
    assert sum(a == b for a, b in pairs) >= 0.95 * len(pairs)
