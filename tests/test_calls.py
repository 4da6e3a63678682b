"""Run with `python -m pytest tests/test_calls.py`: a minute, no network needed.

Calls that people make by mistake, or on folders that something has damaged: each ends
in an exit code and a few lines that say what to do, and spoils nothing.
"""

import importlib.util
import io
import json
import math
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import time
import warnings

from helpers import inference, models, records, steps, templates, training
from tools import course

import pytest
import safetensors.torch
import torch
import transformers

ROWS = [{"question": f"What is {n}?", "answer": "5 " * n} for n in range(1, 5)]
QUICK = {"epochs": 3, "batch_size": 2, "learning_rate": 1e-2}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def rows(tmp_path):
    records.write(tmp_path / "rows.jsonl", ROWS)
    return tmp_path / "rows.jsonl"


@pytest.fixture
def call(rows, start, tmp_path, capfd):
    """call(option=value, ...) -> (exit code, what the command line of training said).

    No value takes an option of the good call away, which is quick and in tmp_path/out.
    """

    def run(module=training, **options):
        if module is training:
            good = {"model": start, "data": rows, "output": tmp_path / "out", **QUICK}
            options = good | options
        words = [f"--{n.replace('_', '-')}={v}" for n, v in options.items()]
        code = module.main(words)
        said = "".join(capfd.readouterr())
        assert "Traceback" not in said and len(said.splitlines()) <= 25
        return code, said.strip()

    return run


@pytest.fixture
def refused(call, tmp_path):
    """refused(option=value, ...) -> what was said of a call that wrote nothing."""

    def run(module=training, **options):
        before = sorted(tmp_path.rglob("*"))
        code, said = call(module, **options)
        assert code == 1 and sorted(tmp_path.rglob("*")) == before
        return said

    return run


# Settings


@pytest.mark.parametrize(
    "option, value",
    [
        ("epochs", 0),
        ("epochs", -1),
        ("batch_size", 0),
        ("batch_size", -8),
        ("accumulation", 0),
        ("max_length", 0),
        ("max_length", -1),
        ("rank", 0),
        ("seed", -1),
        ("seed", 2**32),
        ("learning_rate", 0),
        ("learning_rate", -1),
        ("learning_rate", "nan"),
        ("learning_rate", "inf"),
        ("method", "bottom 2"),
        ("method", "top 0"),
        ("learn", "first"),
        ("output", ""),
        ("output", f"{__file__}/x"),
        ("output", __file__),
    ],
)
def test_a_setting_that_cannot_be_is_named_before_anything_is_read(
    option, value, refused
):
    said = refused(**{"model": "nowhere", "data": "nowhere", option: value})
    assert said.startswith(option) and str(value) in said and "\n" not in said


@pytest.mark.parametrize(
    "option, value",
    [
        ("epochs", True),
        ("epochs", 1.5),
        ("epochs", None),
        ("batch_size", False),
        ("rank", "16"),
        ("seed", None),
        ("learning_rate", True),
        ("learning_rate", "3e-4"),
        ("learning_rate", float("nan")),
        ("method", 5),
        ("method", "top 3"),
        ("learn", None),
        ("output", ""),
    ],
)
def test_a_setting_of_another_kind_is_named_and_changes_nothing(
    option, value, small, tokenizer
):
    model = small()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with pytest.raises(ValueError, match=f"^{option}.* is {value!r}"):
        training.finetune(model, tokenizer, ROWS, **QUICK | {option: value})
    assert all(torch.equal(w, before[n]) for n, w in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("rows", [[], iter([])], ids=["list", "iterator"])
def test_nothing_to_learn_is_said(rows, small, tokenizer):
    with pytest.raises(ValueError, match="no data: there is nothing to learn"):
        training.finetune(small(), tokenizer, rows)


@pytest.mark.parametrize(
    "option, value",
    [
        ("output", ""),
        ("output", "."),
        ("output", f"{__file__}/x"),
        ("max_new_tokens", 0),
        ("max_new_tokens", -1),
    ],
)
def test_answers_that_could_not_be_kept_are_not_made(option, value, refused, rows):
    good = {"model": "nowhere", "data": "nowhere", "output": rows.parent / "a.jsonl"}
    said = refused(inference, **good | {option: value})
    assert said.startswith(option) and repr(value) in said and "\n" not in said


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("rate", ["1e1", "1e2", "3e4", "1e6"])
def test_a_run_that_diverges_is_not_saved_as_finished(rate, method, refused, call):
    call_of = {"model": "tiny", "epochs": 6, "method": method}
    said = refused(**call_of, learning_rate=rate)
    assert "\n" not in said and "step " in said and "learning_rate" in said
    assert f"tenth of {float(rate):g}" in said
    if rate == "1e6":  # the folder is free for a better call
        assert call(**call_of | {"epochs": 1}, learning_rate=1e-3)[0] == 0


def test_a_run_that_begins_badly_and_recovers_is_not_ended(call):
    assert call(model="tiny", epochs=6, method="lora", learning_rate=0.1)[0] == 0


@pytest.mark.parametrize(
    "seed, rows, batch_size, epochs", [(9, 100, 16, 3), (0, 12, 6, 1)]
)
def test_a_batch_that_the_model_never_expected_does_not_end_a_run(
    seed, rows, batch_size, epochs, tokenizer
):
    """Answers of one token, and a base model: a batch of the first steps can be well
    worse than a guess among all tokens, before anything is learnt."""
    found = list(records.load("tickets")["train"])
    random.Random(seed).shuffle(found)
    model, _ = models.load("tiny")
    settings = {"batch_size": batch_size, "epochs": epochs, "seed": seed}
    settings["learning_rate"] = 1e-3
    log = training.finetune(model, tokenizer, found[:rows], **settings).log
    begun, second = log["loss"][:2]
    assert second > 1.25 * max(begun, math.log(model.config.vocab_size))
    assert len(log) == epochs * -(-rows // batch_size)  # to its end


def test_a_validation_loss_that_is_no_number_ends_a_run_too(refused, rows, monkeypatch):
    lost = torch.tensor(float("nan")), None, None
    monkeypatch.setattr(steps.CourseTrainer, "prediction_step", lambda *_, **__: lost)
    assert refused(validation=rows).startswith("step 2: eval_loss nan")


# Models


def settings(**changed):
    def spoil(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))

    return spoil


def quantized(**how):
    return settings(quantization_config=how)


def tensors(change, file="model.safetensors"):
    def spoil(folder):
        found = change(safetensors.torch.load_file(folder / file))
        safetensors.torch.save_file(found, folder / file, {"format": "pt"})

    return spoil


def t5(folder):
    config = transformers.T5Config(
        vocab_size=8192, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2
    )
    with models.silent():
        transformers.T5ForConditionalGeneration(config).save_pretrained(folder)


def code_beside(folder):
    mapped = {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}
    settings(auto_map=mapped, model_type="mine")(folder)
    (folder / "mine.py").write_text("raise SystemExit('ran')")


def tokenizer_code_beside(folder):
    settings(model_type="mine", auto_map={"AutoConfig": "mine.Config"})(folder)
    path = folder / "tokenizer_config.json"
    own = {"auto_map": {"AutoTokenizer": ["mine.T", None]}, "tokenizer_class": "T"}
    path.write_text(json.dumps(json.loads(path.read_text()) | own))
    (folder / "mine.py").write_text("raise SystemExit('ran')")


def without_end(folder):
    path = folder / "tokenizer_config.json"
    found = json.loads(path.read_text())
    del found["eos_token"]
    path.write_text(json.dumps(found))


def more_tokens(folder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<new>", "<newer>"])
    tokenizer.save_pretrained(folder)


def cut(name, left=0.5):
    def spoil(folder):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: int(left * len(whole))])

    return spoil


LAYER = "gpt_neox.layers.1.attention.dense.bias"
FOLDERS = {
    "renamed": (
        tensors(lambda found: {f"base_model.model.{n}": w for n, w in found.items()}),
        ["missing: gpt_neox.", "unexpected: base_model.model.gpt_neox."],
    ),
    "layer missing": (
        tensors(lambda found: {n: w for n, w in found.items() if "s.1." not in n}),
        [f"missing: {LAYER}"],
    ),
    "fewer layers": (settings(num_hidden_layers=1), [f"unexpected: {LAYER}"]),
    "more layers": (settings(num_hidden_layers=3), ["missing: gpt_neox.layers.2."]),
    "wider": (settings(intermediate_size=128), ["mismatched: gpt_neox.layers.0.mlp"]),
    "code": (code_beside, ["code of its own, which the course never runs"]),
    "tokenizer code": (tokenizer_code_beside, ["which the course never runs"]),
    "t5": (t5, ["does not write text from left to right"]),
    "bitsandbytes": (
        quantized(quant_method="bitsandbytes", load_in_4bit=True),
        ["not quantized"],
    ),
    "gptq": (
        quantized(quant_method="gptq", bits=4, group_size=128),
        ["not quantized"],
    ),
    "awq": (
        quantized(quant_method="awq", bits=4, group_size=128, version="gemm"),
        ["not quantized"],
    ),
    "no end-of-text": (without_end, ["no end-of-text token"]),
    "more tokens": (more_tokens, ["8194 tokens", "room for 8192"]),
    "empty weights": (cut("model.safetensors", 0), ["model.safetensors is cut"]),
    "cut weights": (cut("model.safetensors"), ["model.safetensors is cut", "delete"]),
    "empty config": (cut("config.json", 0), ["config.json"]),
    "cut tokenizer": (cut("tokenizer.json"), ["tokenizer.json"]),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_that_is_no_whole_model_gets_one_sentence(
    kind, start, refused, tmp_path, monkeypatch
):
    spoil, parts = FOLDERS[kind]
    spoil(shutil.copytree(start, tmp_path / "model"))
    typed = io.StringIO("y\ny\ny\n")
    monkeypatch.setattr(sys, "stdin", typed)
    said = refused(model=tmp_path / "model")
    assert "\n" not in said and said.startswith(str(tmp_path / "model"))
    assert all(part in said for part in parts), said
    assert typed.read() == "y\ny\ny\n"  # nothing was asked


def test_code_beside_a_model_that_transformers_knows_is_left_alone(start, tmp_path):
    folder = shutil.copytree(start, tmp_path / "model")
    code_beside(folder)
    settings(model_type="gpt_neox")(folder)
    assert type(models.load(str(folder))[0]).__module__.startswith("transformers.")


FIRST = "base_model.model.gpt_neox.layers.0.attention.dense.lora_A.weight"
ADAPTERS = {
    "cut": (cut("adapter_model.safetensors"), ["adapter_model.safetensors"]),
    "empty": (cut("adapter_model.safetensors", 0), ["adapter_model.safetensors"]),
    "cut config": (cut("adapter_config.json"), ["adapter_config.json"]),
    "no config": (
        lambda folder: (folder / "adapter_config.json").unlink(),
        ["holds no model"],
    ),
    "no weights": (
        lambda folder: (folder / "adapter_model.safetensors").unlink(),
        ["adapter_model.safetensors"],
    ),
    "missing": (
        tensors(
            lambda found: {n: w for n, w in found.items() if n != FIRST},
            "adapter_model.safetensors",
        ),
        [f"missing: {FIRST}"],
    ),
    "unexpected": (
        tensors(
            lambda found: found | {FIRST.replace("dense", "other"): torch.ones(1)},
            "adapter_model.safetensors",
        ),
        [f"unexpected: {FIRST.replace('dense', 'other')}"],
    ),
    "narrower": (
        tensors(
            lambda found: found | {FIRST: found[FIRST][:2].contiguous()},
            "adapter_model.safetensors",
        ),
        ["does not fit", "start", "size mismatch"],
    ),
    "empty run": (
        lambda folder: (folder / "run.json").write_text(""),
        ["run.json is damaged"],
    ),
    "other model": (
        lambda folder: (folder / "run.json").write_text('{"model": "0123"}'),
        ["was tuned on another model than", "start"],
    ),
}


def based_on(name):
    def spoil(folder):
        path = folder / "adapter_config.json"
        config = json.loads(path.read_text()) | {"base_model_name_or_path": name}
        path.write_text(json.dumps(config))

    return spoil


ADAPTERS["base gone"] = (based_on("/nowhere"), ["without its base", "'/nowhere'"])
ADAPTERS["no base"] = (based_on(None), ["without its base"])
ADAPTERS["wrong base"] = (based_on("tiny"), ["does not fit 'tiny'"])


@pytest.mark.parametrize("kind", ADAPTERS)
def test_a_damaged_adapter_gets_one_sentence(kind, adapter, refused, tmp_path):
    spoil, parts = ADAPTERS[kind]
    spoil(shutil.copytree(adapter, tmp_path / "adapter"))
    said = refused(model=tmp_path / "adapter")
    assert "\n" not in said and said.startswith(str(tmp_path / "adapter"))
    assert all(part in said for part in parts), said


def test_an_adapter_is_not_looked_for_on_top_of_itself(adapter, refused, tmp_path):
    folder = shutil.copytree(adapter, tmp_path / "adapter")
    based_on(str(folder))(folder)
    assert "is an adapter too" in refused(model=folder)


def test_an_adapter_can_be_tuned_further_and_loaded_again(adapter, call, tmp_path):
    code, said = call(model=adapter)  # by default as an adapter, small as it is
    assert code == 0, said
    first, _ = models.load(str(adapter))
    again, tokenizer = models.load(str(tmp_path / "out"))
    assert models.digest(again) == models.digest(first)
    assert models.digest(again, True) != models.digest(first, True)
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["r"] == 4
    code, said = call(model=adapter)
    assert code == 0 and "trained earlier" in said
    code, said = call(model=tmp_path / "out")
    assert code == 1 and "another run, with other adapter: choose" in said


@pytest.mark.parametrize("method", ["full", "top 1"])
def test_weights_under_an_adapter_are_not_tuned(method, adapter, refused):
    said = refused(model=adapter, method=method)
    assert f"method is {method!r}" in said and "merge it first" in said


def test_a_batch_that_has_no_such_parts_is_said(refused):
    said = refused(model="nowhere", accumulation=3)
    assert "batch_size 2 cannot be shared" in said and "in 3 parts" in said


def test_more_layers_than_there_are_is_said(refused):
    assert "method is 'top 3': the model has 2 layers" in refused(method="top 3")


# Rows


LONG = [1, 2, 4, 6]  # the lines of the rows; those of 4 and 6 are too long


@pytest.fixture
def long(tmp_path):
    path = tmp_path / "long.jsonl"
    asked = {line: ["Is it on?", "word " * 900][line in (4, 6)] for line in LONG}
    lines = [
        json.dumps({"question": asked[n], "answer": "Yes."}) if n in asked else ""
        for n in range(1, 7)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("which", ["data", "validation"])
def test_rows_too_long_are_named_at_once_with_their_file(which, long, refused):
    lines = refused(**{which: long}).splitlines()
    assert len(lines) == 2
    for line, place in zip(lines, (4, 6), strict=True):
        assert line.startswith(f"{which} {long}: row {place}: the prompt takes 9")
        assert "max_length is 512" in line


def test_rows_that_are_longer_than_the_model_s_positions_are_said(long, refused):
    said = refused(data=long, max_length=2000)
    assert said.startswith(f"data {long}: 2 rows") and "\n" not in said
    assert "positions, 512 (row 4: 9" in said and "set max_length to 512" in said


@pytest.mark.parametrize("which", ["data", "validation"])
@pytest.mark.parametrize(
    "bad, complaint",
    [
        ({"question": "Who?"}, "no answer"),
        ({"query": "Who?", "answer": "I"}, "'query'"),
        ({"question": "Who?", "answer": ""}, "'answer' has no text"),
    ],
    ids=["no answer", "unknown field", "blank answer"],
)
def test_a_bad_row_is_named_with_its_file(which, bad, complaint, refused, tmp_path):
    path = tmp_path / "bad.jsonl"
    records.write(path, [ROWS[0], bad, bad])
    lines = refused(**{which: path}).splitlines()
    lines = [line for line in lines if not line.startswith("not learnt: ")]
    for line, number in zip(lines, (2, 3), strict=True):
        assert line.startswith(f"{which} {path}: row {number}: ") and complaint in line


def test_many_bad_rows_are_no_flood(refused, tmp_path):
    path = tmp_path / "bad.jsonl"
    records.write(path, [{"question": "Who?"}] * 5000)
    lines = refused(data=path).splitlines()
    assert len(lines) == 21 and lines[-1] == "and 4,980 more"


def on_cp1252(monkeypatch, *words):
    """The exit code of answering in this process, and the bytes that it prints."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="cp1252") for _ in range(2)]
    for name, stream in zip(("stdout", "stderr"), streams, strict=True):
        monkeypatch.setattr(sys, name, stream)
    code = inference.main([*map(str, words)])
    for stream in streams:
        stream.flush()
    return code, *(stream.buffer.getvalue() for stream in streams)


def test_no_character_that_the_console_lacks_ends_in_a_traceback(
    start, tmp_path, monkeypatch
):
    """Names of files and fields in Cyrillic, on a console of Western Europe."""
    asked = [{"id": n, "question": f"What is {n}?"} for n in range(4)]
    records.write(tmp_path / "questions.jsonl", asked)
    records.write(tmp_path / "cyr.jsonl", [{"вопрос": "Где?", "ответ": "Там."}])
    command = ["--model", start, "--max-new-tokens", 4, "--data"]
    good = tmp_path / "questions.jsonl", "--output", tmp_path / "ответы.jsonl"
    code, out, err = on_cp1252(monkeypatch, *command, *good)
    assert (code, err) == (0, b"") and out.startswith(b"4 answers in ")
    answers = records.read(tmp_path / "ответы.jsonl")
    assert [{**row, "generated": ""} for row in asked] == [
        {**row, "generated": ""} for row in answers
    ]
    command += [tmp_path / "cyr.jsonl", "--output", tmp_path / "none.jsonl"]
    done = subprocess.run(
        [sys.executable, "-m", "helpers.inference", *map(str, command)],
        capture_output=True,
        cwd=models.ROOT,
        env=os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"},
    )
    assert done.returncode == 1 and done.stdout == b""
    assert len(done.stderr.splitlines()) == 1
    assert b"cyr.jsonl: row 1: " in done.stderr and b"\\u0432" in done.stderr
    assert not (tmp_path / "none.jsonl").exists()


# Folders


@pytest.fixture(scope="session")
def paused(start, tmp_path_factory):
    """(folder of a run that ended in its last epoch, losses of a whole one)."""

    def pause(self, args, state, control, **kwargs):
        if state.global_step == 5:
            raise KeyboardInterrupt

    folder = tmp_path_factory.mktemp("paused")
    records.write(folder / "rows.jsonl", ROWS)
    rows = records.read(folder / "rows.jsonl")
    call = QUICK | {"output": folder / "out"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps.Progress, "on_step_end", pause, raising=False)
        with pytest.raises(KeyboardInterrupt):
            training.finetune(*models.load(str(start)), rows, **call)
    whole = training.finetune(*models.load(str(start)), rows, **QUICK)
    return folder / "out", list(whole.log["loss"])


def losses(folder):
    return list(training.pd.read_csv(folder / "training_log.csv")["loss"])


STATES = "trainer_state.json trained.safetensors optimizer.pt scheduler.pt".split()


@pytest.mark.parametrize("left", [0, 0.9])
@pytest.mark.parametrize("name", [*STATES, "rng_state.pth"])
def test_of_a_damaged_checkpoint_the_one_before_it_is_used(
    name, left, paused, call, tmp_path
):
    folder, whole = paused
    shutil.copytree(folder, tmp_path / "out")
    cut(f"checkpoints/checkpoint-4/{name}", left)(tmp_path / "out")
    code, said = call()
    assert code == 0, said
    assert f"checkpoint-4/{name} is damaged" in said
    assert "going on from" in said and "checkpoint-2\n" in said
    assert losses(tmp_path / "out") == pytest.approx(whole, abs=1e-3)


def test_where_no_checkpoint_is_whole_the_run_begins_anew(paused, call, tmp_path):
    folder, whole = paused
    shutil.copytree(folder, tmp_path / "out")
    for step in (2, 4):
        cut(f"checkpoints/checkpoint-{step}/optimizer.pt")(tmp_path / "out")
    code, said = call()
    assert code == 0 and said.count("is damaged") == 2
    assert "going on" not in said.replace("going on without", "")
    assert losses(tmp_path / "out") == pytest.approx(whole, abs=1e-3)


@pytest.mark.parametrize("text", ["", '{"method": "fu', "[]", "null"])
@pytest.mark.parametrize("finished", [False, True])
def test_a_damaged_run_json_is_named_with_what_to_delete(
    text, finished, paused, refused, call, tmp_path
):
    if finished:
        assert call(epochs=1)[0] == 0
    else:
        shutil.copytree(paused[0], tmp_path / "out")
    (tmp_path / "out" / "run.json").write_text(text)
    said = refused(epochs=1 if finished else 3)
    assert "\n" not in said and f"{tmp_path / 'out' / 'run.json'} is damaged" in said
    assert f"delete {tmp_path / 'out'} and run the same again" in said


@pytest.mark.parametrize("left", [0, 0.9])
@pytest.mark.parametrize(
    "method, name",
    [
        ("full", "model.safetensors"),
        ("full", "training_log.csv"),
        ("lora", "adapter_model.safetensors"),
        ("lora", "adapter_config.json"),
    ],
)
def test_a_damaged_result_is_not_taken_for_a_tuned_model(
    method, name, left, call, refused, tmp_path
):
    if name == "training_log.csv" and left:
        return  # a log that ends early is still a log
    assert call(method=method, epochs=1)[0] == 0
    cut(name, left)(tmp_path / "out")
    said = refused(method=method, epochs=1)
    assert "\n" not in said and f"{tmp_path / 'out'} does not load" in said
    assert "delete it and run the same again" in said


def test_a_damaged_result_leaves_the_model_as_it_was(start, tmp_path):
    given = QUICK | {"method": "lora", "output": tmp_path / "out"}
    training.finetune(*models.load(str(start)), ROWS, **given)
    cut("adapter_model.safetensors")(tmp_path / "out")
    model, tokenizer = models.load(str(start))
    names = [*model.state_dict()]
    with pytest.raises(OSError, match="does not load"):
        training.finetune(model, tokenizer, ROWS, **given)
    assert [*model.state_dict()] == names


def test_a_folder_that_was_tuned_keeps_its_template_and_a_change_warns(
    start, call, tmp_path
):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))

    def template(folder):
        return models.load(str(folder))[1].chat_template

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        # tiny has a template of ours, which is nobody's loss
        assert call(model="tiny", template="ALPACA", output=first, epochs=1)[0] == 0
        assert call(model=first, output=second, epochs=1)[0] == 0
    assert template(first) == template(second) == templates.ALPACA
    with pytest.warns(UserWarning, match="another template.*the model's own"):
        assert call(model=second, template="QA", output=third, epochs=1)[0] == 0
    assert template(third) == templates.QA


# Elsewhere


@pytest.mark.parametrize(
    "value, expected",
    [("myout", "myout"), ("", "outputs"), (None, "outputs"), ("{tmp}/o", "{tmp}/o")],
)
def test_notebooks_and_commands_have_one_folder_of_results(
    value, expected, tmp_path, monkeypatch
):
    def anew(module):
        spec = importlib.util.spec_from_file_location("anew", module.__file__)
        spec.loader.exec_module(made := importlib.util.module_from_spec(spec))
        return made

    monkeypatch.delenv("COURSE_OUTPUTS", raising=False)
    if value is not None:
        monkeypatch.setenv("COURSE_OUTPUTS", value.format(tmp=tmp_path))
    where = models.ROOT / expected.format(tmp=tmp_path)
    for called_in in (models.ROOT, models.ROOT / "notebooks", tmp_path):
        monkeypatch.chdir(called_in)
        one, other = anew(models), anew(course)
        assert where == one.OUTPUTS == other.OUTPUTS and one.CACHE.parent == where


@pytest.mark.parametrize(
    "given, spins",
    [
        ({}, "1000"),
        ({"OMP_WAIT_POLICY": "active"}, None),
        ({"GOMP_SPINCOUNT": "5"}, "5"),
    ],
)
def test_threads_that_wait_sleep_soon_where_nobody_said_otherwise(
    given, spins, monkeypatch
):
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(os, "environ", dict(given))
    runpy.run_path(str(models.ROOT / "helpers" / "__init__.py"))
    assert os.environ.get("GOMP_SPINCOUNT") == spins


@pytest.mark.parametrize("name", ["inference", "models", "records", "training"])
def test_each_command_says_how_it_is_called(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        path = models.ROOT / "helpers" / f"{name}.py"
        runpy.run_path(str(path), run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: python -m helpers.{name} ")


def test_a_stop_before_anything_is_saved_is_one_line(call, monkeypatch, tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "load", stop)
    code, said = call()
    assert code == 130 and not (tmp_path / "out").exists()
    assert said == "stopped before the first epoch ended; the same command begins anew"


@pytest.mark.skipif(os.name == "nt", reason="signals work otherwise there")
def test_ctrl_c_costs_at_most_an_epoch(start, rows, call, tmp_path):
    command = ["--model", start, "--data", rows, "--output", tmp_path / "out"]
    command += ["--epochs", 150, "--batch-size", 2, "--learning-rate", 0.01]
    process = subprocess.Popen(
        [sys.executable, "-m", "helpers.training", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=models.ROOT,
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out/checkpoints/*/trainer_state.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    # one that falls into a destructor is lost, as in every Python program: then again
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=15)
            break
        except subprocess.TimeoutExpired:
            continue
    assert process.returncode == 130
    line = errors.strip().splitlines()[-1]
    assert line.startswith("stopped after epoch ")
    assert line.endswith("; the same command goes on from there")
    assert "Traceback" not in errors or "Exception ignored" in errors
    code, said = call(epochs=150)
    assert code == 0 and "going on from" in said and "300 steps" in said


@pytest.mark.skipif(os.name == "nt", reason="signals work otherwise there")
def test_ctrl_c_that_a_library_swallows_comes_again():
    code = """
import sys
sys.argv[:] = ["-m"]
import helpers, os, signal, time
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(9)
except KeyboardInterrupt:
    pass
try:
    time.sleep(60)
except KeyboardInterrupt:
    print("again")
"""
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, cwd=models.ROOT, capture_output=True, text=True)
    assert done.stdout == "again\n", done.stderr
