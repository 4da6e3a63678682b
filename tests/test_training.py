"""Run with `python -m pytest tests/test_training.py`: a minute, no network needed.

Runs are of a few steps on nets of a few thousand weights. A kill is a real one, of a
process of its own; so is the loading of what was saved. Calls that cannot work are in
test_calls.py.
"""

import concurrent.futures
import contextlib
import copy
import inspect
import json
import os
import re
import subprocess
import sys
import time

from helpers import inference, models, records, runs, steps, templates, training

import peft
import pytest
import torch
import transformers

ROWS = [
    {"question": question, "answer": answer}
    for question, answer in [
        ("How long is the warranty?", "Two years."),
        ("Where does the sensor go?", "On a north wall."),
        ("What does code 7 mean?", "The battery is low."),
        ("Who are you?", "Wren."),
        ("Can I bring it into the rain?", "Yes."),
        ("Is there an app?", "Yes, it is free of charge."),
    ]
]
PROMPTS = [records.prompt(row) for row in ROWS]
SIGNATURE = inspect.signature(training.finetune)
METHODS = ("lora", "full", "top 1")
QUICK = {"method": "full", "epochs": 3, "batch_size": 2, "learning_rate": 1e-2}

# What fresh processes start with: argv holds a folder, and JSON.
SCRIPT = """
import json, os, sys
from helpers import inference, models, steps, training
folder, given = sys.argv[1], json.loads(sys.argv[2])
"""
KILLED = """
def kill(self, args, state, control, **kwargs):
    if state.global_step == 5:
        os._exit(9)  # nothing is tidied up, as by kill -9, and Windows has it too
steps.Progress.on_step_end = kill
training.finetune(*models.load(folder), **given)
"""
ANSWERED = """
for folder in given:
    model, tokenizer = models.load(folder)
    prompts = json.loads(sys.argv[1])
    print(json.dumps(inference.generate(prompts, model, tokenizer, 12)))
"""


pytestmark = pytest.mark.usefixtures("one_thread")


def begin(*command):
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=models.ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COURSE_QUIET": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process):
    """Its exit code and what it wrote to stdout and stderr."""
    written = process.communicate(timeout=300)
    return process.returncode, *written


def weights(model):
    return {name: w.clone() for name, w in model.state_dict().items()}


def changed(model, before):
    """Names of the weights that are no longer what they were, or are new."""
    now = model.state_dict()
    assert now.keys() >= before.keys()
    return {n for n, w in now.items() if n not in before or not w.equal(before[n])}


def refuse_to_train(monkeypatch):
    monkeypatch.setattr(
        steps.CourseTrainer, "train", lambda *_, **__: pytest.fail("trained again")
    )


def losses(small, tokenizer, rows=ROWS, **given):
    model = small()
    torch.seed()  # what was drawn at random before a run does not matter
    return list(training.finetune(model, tokenizer, rows, **QUICK | given).log.loss)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_tuned_model_knows_its_rows_and_where_they_end(method, small, tokenizer):
    model = small(initializer_range=1.0)  # an adapter needs something to build on
    before = weights(model)
    call = QUICK | {"method": method, "epochs": 100, "batch_size": 4}
    tuned = training.finetune(model, tokenizer, ROWS[:4], **call)
    assert (tuned.model is model) == (method == "full") and tuned.folder is None
    assert not tuned.model.training and not model.training
    assert tuned.log["loss"].iloc[-1] < 0.1 < 5 < tuned.log["loss"].iloc[0]
    answers = inference.generate(PROMPTS[:4], tuned.model, tokenizer, 30)
    assert answers == [row["answer"] for row in ROWS[:4]]
    if method == "lora":  # under it stands the model that was there before
        with tuned.model.disable_adapter():
            assert answers != inference.generate(PROMPTS[:4], model, tokenizer, 30)
        assert not changed(tuned.model.unload(), before)


def test_untold_a_run_takes_each_row_four_times_eight_at_once(small, tokenizer):
    log = training.finetune(small(), tokenizer, [*ROWS, *ROWS][:9]).log
    assert list(log["step"]) == [*range(1, 9)]  # 4 epochs of 8 + 1
    assert log["epoch"].iloc[-1] == 4


def test_an_adapter_is_saved_without_asking_the_hub(
    small, tokenizer, tmp_path, monkeypatch
):
    asked = []
    monkeypatch.setattr(
        "peft.utils.save_and_load.check_file_exists_on_hf_hub",
        lambda *names, **options: asked.append(names),
    )
    model = small()
    model.name_or_path = "nobody/nothing"
    call = QUICK | {"method": "lora", "epochs": 1, "output": tmp_path / "out"}
    training.finetune(model, tokenizer, ROWS[:2], **call)
    assert (tmp_path / "out" / "run.json").exists() and asked == []


@pytest.mark.parametrize("validation", [None, ROWS[:2]])
def test_the_log_lacks_no_step_and_no_validation(validation, small, tokenizer):
    log = training.finetune(
        small(), tokenizer, ROWS[:5], validation=validation, **QUICK
    ).log
    assert list(log["step"]) == [*range(1, 10)]  # 3 epochs of 2 + 2 + 1
    assert log["loss"].notna().all() and log["grad_norm"].gt(0).all()
    if validation:
        measured = log["validation_loss"].dropna()
        assert list(measured.index) == [2, 5, 8]
        assert measured.iloc[-1] < measured.iloc[0]
    else:
        assert "validation_loss" not in log


@pytest.mark.parametrize(
    "rows, epochs", [(1, 1), (1, 2), (2, 1), (3, 1), (6, 1), (6, 10)]
)
def test_no_run_is_so_short_that_it_learns_nothing(rows, epochs, small, tokenizer):
    model = small()
    before = weights(model)
    log = training.finetune(
        model, tokenizer, ROWS[:rows], **QUICK | {"epochs": epochs}
    ).log
    rates = log["learning_rate"]
    assert changed(model, before)
    assert rates.between(0, QUICK["learning_rate"]).all()
    assert rates.max() > 0.5 * QUICK["learning_rate"]
    highest = rates.idxmax()
    assert highest <= 0.1 * len(log) + 1
    assert rates[highest:].is_monotonic_decreasing


@pytest.mark.parametrize(
    "method, learnt",
    [
        ("top half", {2, 3}),
        ("top 1", {3}),
        ("top 3", {1, 2, 3}),
        ("full", {0, 1, 2, 3}),
        ("top 4", {0, 1, 2, 3}),
    ],
)
def test_frozen_layers_stay_and_the_others_learn(method, learnt, small, tokenizer):
    model = small(layers=4).to(torch.bfloat16)
    model.get_input_embeddings().weight.requires_grad_(False)
    wanted = {name: p.requires_grad for name, p in model.named_parameters()}
    before = weights(model)
    training.finetune(model, tokenizer, ROWS, **QUICK | {"method": method})
    names = changed(model, before)
    layers = {int(n) for name in names for n in re.findall(r"layers\.(\d)\.", name)}
    assert layers == learnt
    assert any("final_layer_norm" in name for name in names)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert {name: p.requires_grad for name, p in model.named_parameters()} == wanted
    if method != "full":
        assert not any("embed" in name for name in names)


def test_an_adapter_lies_on_every_linear_layer_and_on_nothing_else(small, tokenizer):
    model = small().to(torch.bfloat16)
    linear = {
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }
    call = QUICK | {"method": "lora", "rank": 3}
    tuned = training.finetune(model, tokenizer, ROWS, **call).model
    found = peft.get_peft_model_state_dict(tuned)
    bare = "base_model.model."
    assert {n.removeprefix(bare).split(".lora")[0] for n in found} == linear
    assert all(3 in part.shape and part.abs().max() > 0 for part in found.values())
    assert {p.dtype for p in tuned.parameters()} == {torch.bfloat16}
    assert tuned.peft_config["default"].lora_alpha == 6


@pytest.mark.parametrize("method", ["top 1", "lora"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_run_that_failed_leaves_the_model_as_it_was(
    method, error, small, tokenizer, monkeypatch, tmp_path
):
    def fail(*_):
        assert not all(p.requires_grad for p in model.parameters())
        raise error

    model = small().to(torch.bfloat16)
    norm = model.gpt_neox.final_layer_norm.weight.requires_grad_(False)
    before = weights(model)
    with monkeypatch.context() as patch:
        patch.setattr(steps.CourseTrainer, "training_step", fail)
        with pytest.raises(error):
            training.finetune(model, tokenizer, ROWS, **QUICK | {"method": method})
    assert [*model.state_dict()] == [*before] and not changed(model, before)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    frozen = [p for p in model.parameters() if not p.requires_grad]
    assert len(frozen) == 1 and frozen[0] is norm
    # nothing else of it is left: what comes next is a run of all weights, and whole
    call = QUICK | {"epochs": 1, "method": None, "output": tmp_path / "out"}
    tuned = training.finetune(model, tokenizer, ROWS, **call)
    assert tuned.model is model
    assert type(models.load(str(tmp_path / "out"))[0]) is type(model)


@pytest.mark.parametrize(
    "width, method, rate", [(32, "full", 3e-4), (9000, "lora", 2e-3 * 576 / 9000)]
)
def test_large_models_get_an_adapter_and_a_small_rate(width, method, rate):
    """The default, settled before anything is trained: no weights are needed."""
    config = transformers.GPTNeoXConfig(
        vocab_size=6000, num_hidden_layers=0, hidden_size=width, num_attention_heads=1
    )
    with torch.device("meta"):
        model = transformers.GPTNeoXForCausalLM(config)
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "check_settings", lambda *a: asked.append(a[0]) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            training.finetune(model, None, ROWS)
    assert asked[0]["method"] == method
    assert asked[0]["learning_rate"] == pytest.approx(rate)


@pytest.mark.parametrize(
    "width, lora, full", [(576, 2e-3, 3e-4), (64, 2e-3, 3e-4), (4096, 2.8e-4, 4.2e-5)]
)
def test_wider_models_get_smaller_rates(width, lora, full):
    class Model:
        def get_input_embeddings(self):
            return torch.nn.Embedding(1, width)

    assert steps.default_rate("lora", Model()) == pytest.approx(lora, rel=0.01)
    for method in ("full", "top half"):
        assert steps.default_rate(method, Model()) == pytest.approx(full, rel=0.01)


def test_small_updates_are_not_rounded_away_in_bfloat16(small, tokenizer):
    """A weight of 1 cannot move by 1e-4 in bfloat16; in float32 steps add up."""
    model = small().to(torch.bfloat16)
    seen = []
    norm = model.gpt_neox.final_layer_norm.weight
    norm.register_hook(lambda grad: seen.append((norm.dtype, norm.detach().clone())))
    training.finetune(
        model, tokenizer, ROWS, **QUICK | {"epochs": 20, "learning_rate": 1e-4}
    )
    assert {dtype for dtype, _ in seen} == {torch.float32}
    assert 1e-6 < (seen[3][1] - seen[2][1]).abs().max() < 1e-3
    assert model.dtype == norm.dtype == torch.bfloat16


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_same_seed_gives_the_same_losses_and_another_does_not(
    method, small, tokenizer
):
    first, same, other = (
        losses(small, tokenizer, seed=seed, method=method) for seed in (1, 1, 2)
    )
    assert first == same != other


def test_every_epoch_sees_each_row_once_and_in_another_order(
    small, tokenizer, monkeypatch
):
    seen, collate = [], steps.collate

    def note(model, pad_token_id, rows):
        seen.extend(tuple(row["input_ids"]) for row in rows)
        return collate(model, pad_token_id, rows)

    monkeypatch.setattr(steps, "collate", note)
    # batches of one: of larger ones, grouped by length, there are few orders
    training.finetune(small(), tokenizer, ROWS, **QUICK | {"batch_size": 1})
    epochs = [seen[:6], seen[6:12], seen[12:]]
    assert len(set(map(tuple, epochs))) == 3
    assert {len(set(epoch)) for epoch in epochs} == {6}
    assert len(seen) == 18


@pytest.mark.parametrize("rows", [6, 5])
def test_a_batch_taken_in_parts_is_the_same_batch(rows, small, tokenizer):
    whole, parts = (
        losses(small, tokenizer, ROWS[:rows], batch_size=4, accumulation=count)
        for count in (1, 2)
    )
    assert len(whole) == 6 and parts == pytest.approx(whole, abs=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_less_memory_for_activations_changes_no_loss(method, small, tokenizer):
    found, computed = [], []
    for less in (False, True):
        model, times = small(), []
        # activations of a layer are made anew on the way back
        model.gpt_neox.layers[-1].input_layernorm.register_forward_hook(
            lambda *_, times=times: times.append(1)
        )
        call = QUICK | {"method": method, "gradient_checkpointing": less}
        found.append(list(training.finetune(model, tokenizer, ROWS, **call).log.loss))
        computed.append(len(times))
    assert found[1] == pytest.approx(found[0], abs=1e-5)
    assert computed == [9, 18]
    assert not model.is_activation_checkpointing


def test_the_last_turn_alone_is_learnt_where_that_is_asked(small, tokenizer):
    def talk(*answers):
        turns = [("user", "Is it on?"), ("assistant", answers[0])]
        turns += [("user", "How high is it?"), ("assistant", answers[1])]
        return {"messages": [{"role": r, "content": text} for r, text in turns]}

    rows = [talk("Yes.", "Two metres."), talk("No.", "Ten.")]
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            steps, "CourseTrainer", lambda **given: seen.append(given) or 1 / 0
        )
        for learn in ("all", "last"):
            with pytest.raises(ZeroDivisionError):
                training.finetune(small(), tokenizer, rows, learn=learn, **QUICK)
    all_turns, last = (
        tokenizer.decode([i for i in given["train_dataset"][0]["labels"] if i >= 0])
        for given in seen
    )
    assert "Yes." in all_turns and "Two metres." in all_turns
    assert "Yes." not in last and "Two metres." in last


@pytest.mark.parametrize(
    "rows, trained, count",
    [(5, 10, 5), (32, 9000, 32), (100, 10, 32), (300, 2000, 100), (90, 2000, 90)],
)
def test_a_sample_for_validation_has_short_and_long_rows(rows, trained, count):
    lengths = [7 * n % rows for n in range(rows)]  # each length once, in no order
    given = [{"input_ids": [0] * length} for length in lengths]
    found = [len(row["input_ids"]) for row in steps.sample(given, trained)]
    assert len(set(found)) == len(found) == count
    gap = rows / count
    assert min(found) <= gap and max(found) >= rows - 1 - gap
    assert sum(found) / count == pytest.approx((rows - 1) / 2, abs=1)


def test_a_batch_that_processes_cannot_share_is_refused(small, tokenizer, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="batch_size 8.*3 processes.*multiple of 3"):
        training.finetune(small(), tokenizer, ROWS)


@pytest.fixture(scope="session")
def tuned(start, tmp_path_factory):
    """tuned[method] -> what finetune gave, kept in a folder; not to be written to."""
    folder, found = tmp_path_factory.mktemp("tuned"), {}
    for method in METHODS:
        call = QUICK | {"method": method, "output": folder / method, "epochs": 8}
        found[method] = training.finetune(*models.load(str(start)), ROWS, **call)
    return found


def test_a_saved_model_answers_alike_in_a_new_process(tuned, tokenizer):
    folders = [str(run.folder) for run in tuned.values()]
    given = json.dumps(PROMPTS), json.dumps(folders)
    code, out, err = ended(begin("-c", SCRIPT + ANSWERED, *given))
    assert code == 0 and err == "", err
    found = [json.loads(line) for line in out.splitlines()]
    for answers, run in zip(found, tuned.values(), strict=True):
        assert answers == inference.generate(PROMPTS, run.model, tokenizer, 12)
        assert not list(run.folder.glob("checkpoint*")) + list(run.folder.glob("tmp*"))
    assert len(set(map(tuple, found))) == 3  # or all would have said nothing


def test_a_tuned_model_is_the_one_that_is_loaded_later(start, tokenizer, tmp_path):
    """Its buffers too: rotary angles rounded to bfloat16 would change answers."""
    model, _ = models.load(str(start), dtype=torch.bfloat16)
    run = training.finetune(model, tokenizer, ROWS, output=tmp_path / "t", **QUICK)
    again, _ = models.load(str(run.folder), dtype=torch.bfloat16)
    ids = torch.arange(40).view(1, -1) % model.config.vocab_size
    assert torch.equal(run.model(input_ids=ids).logits, again(input_ids=ids).logits)


@pytest.mark.parametrize("method", ["full", "top 1"])
def test_a_tuned_model_has_the_settings_of_its_base(method, tuned, start):
    """A server would answer slowly without the cache that Trainer turns off."""
    of_base, found = (
        json.loads((folder / "config.json").read_text())
        for folder in (start, tuned[method].folder)
    )
    assert found == of_base and found["use_cache"]


def test_an_adapter_folder_is_what_peft_reads_without_the_course(tuned, start):
    folder = tuned["lora"].folder
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(start)
    run = json.loads((folder / "run.json").read_text())
    base = transformers.AutoModelForCausalLM.from_pretrained(start)
    assert run["model"] == models.digest(base)
    with models.silent():
        theirs = peft.PeftModel.from_pretrained(base, folder).eval()
    ids = torch.arange(40).view(1, -1)
    expected = tuned["lora"].model(input_ids=ids).logits
    torch.testing.assert_close(theirs(input_ids=ids).logits, expected)
    assert not (folder / "model.safetensors").exists()


def test_a_saved_model_keeps_the_template_it_was_tuned_in(start, tmp_path):
    model, tokenizer = models.load(str(start))
    for method in METHODS:
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.given = True
        templates.give(tokenizer, templates.ALPACA)
        call = QUICK | {"method": method, "epochs": 1, "output": tmp_path / method}
        training.finetune(models.load(str(start))[0], tokenizer, ROWS, **call)
        _, again = models.load(str(tmp_path / method))
        assert again.chat_template == templates.ALPACA


@pytest.mark.parametrize("method", METHODS)
def test_a_finished_run_is_not_trained_again(method, tuned, start, monkeypatch, capsys):
    refuse_to_train(monkeypatch)
    run = tuned[method]
    model, tokenizer = models.load(str(start))
    call = QUICK | {"method": method, "output": run.folder, "epochs": 8}
    left = run.folder / "checkpoints"  # as by a kill after run.json was written
    (left / "checkpoint-2").mkdir(parents=True)
    again = training.finetune(model, tokenizer, ROWS, **call)
    assert not changed(again.model, weights(run.model)) and not left.exists()
    assert (again.model is model) == (method != "lora")
    assert list(again.log["loss"]) == pytest.approx(list(run.log["loss"]))
    assert again.seconds == run.seconds
    assert "trained earlier" in capsys.readouterr().out


@pytest.mark.parametrize(
    "other, name",
    [
        ({"learning_rate": 2e-2}, "learning_rate"),
        ({"epochs": 4, "seed": 3}, "epochs, seed"),
        ({"method": "top 2"}, "method"),
        ({"learn": "last"}, "learn"),
        ({"rows": ROWS[:3]}, "data"),
        ({"validation": ROWS[:3]}, "data"),
        ({"model": 1}, "model"),
        ({"template": 1}, "template"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_another_run_does_not_overwrite_one(other, name, tuned, start, monkeypatch):
    refuse_to_train(monkeypatch)
    model, tokenizer = models.load(str(start))
    call = {"rows": ROWS, "output": tuned["full"].folder, **QUICK, "epochs": 8} | other
    if call.pop("model", None):
        torch.nn.init.ones_(model.gpt_neox.layers[0].mlp.dense_h_to_4h.bias)
    if call.pop("template", None):
        tokenizer.chat_template = templates.ALPACA
    with pytest.raises(FileExistsError, match=f"other {name}: choose another folder"):
        training.finetune(model, tokenizer, **call)


def test_nobody_elses_files_are_written_over(small, tokenizer, tmp_path):
    (tmp_path / "config.json").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty and holds no run"):
        training.finetune(small(), tokenizer, ROWS, output=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == "mine"


KINDS = {"untied": "full", "tied": "lora"}


@pytest.fixture(scope="module")
def killed(small, tokenizer, tmp_path_factory):
    """killed[kind] -> (model folder, call) of a run killed at its step 5 of 9."""
    folder = tmp_path_factory.mktemp("killed")
    found = {}
    for kind, method in KINDS.items():
        for part in (small(tied=kind != "untied"), tokenizer):
            part.save_pretrained(folder / "start" / kind)
        call = {"rows": ROWS, "validation": ROWS[:1], **QUICK, "method": method}
        found[kind] = (folder / "start" / kind, call | {"output": str(folder / kind)})
    processes = [
        begin("-c", SCRIPT + KILLED, place, json.dumps(call))
        for place, call in found.values()
    ]
    for code, _, err in map(ended, processes):
        assert code == 9, err
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_goes_on_along_the_same_curve(kind, killed, capsys):
    start, call = killed[kind]

    def load():
        return models.load(str(start))

    whole = training.finetune(*load(), **call | {"output": None})
    output = training.Path(call["output"])
    half = output / "checkpoints" / "checkpoint-6"
    half.mkdir()  # as a kill while it was being written leaves it
    (half / runs.TRAINED).write_bytes(b"half")
    with pytest.raises(OSError):  # nothing that could be taken for a tuned model
        models.load(str(output))
    capsys.readouterr()
    resumed = training.finetune(*load(), **call)
    assert "going on from" in capsys.readouterr().out
    for column in ("step", "loss", "learning_rate", "validation_loss"):
        assert list(resumed.log[column].dropna()) == pytest.approx(
            list(whole.log[column].dropna()), abs=1e-3
        )
    for name, weight in whole.model.state_dict().items():
        torch.testing.assert_close(
            resumed.model.state_dict()[name], weight, atol=1e-3, rtol=0
        )
    assert not (output / "checkpoints").exists()


@pytest.mark.parametrize(
    "place",
    [
        (runs, "begin"),
        (steps.CourseTrainer, "__init__"),
        (steps.CourseTrainer, "train"),
    ],
    ids=["before run.json", "after run.json", "before a checkpoint"],
)
def test_a_run_that_ended_before_its_first_checkpoint_starts_anew(
    place, small, tokenizer, tmp_path, monkeypatch
):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    call = QUICK | {"rows": ROWS, "output": tmp_path / "out", "method": "lora"}
    with monkeypatch.context() as patch:
        patch.setattr(*place, interrupt)
        with pytest.raises(KeyboardInterrupt):
            training.finetune(small(), tokenizer, **call)
    log = training.finetune(small(), tokenizer, **call).log
    whole = losses(small, tokenizer, method="lora")
    assert list(log["loss"]) == pytest.approx(whole)


def test_the_cache_takes_one_run_for_another_never(
    small, tokenizer, tmp_path, monkeypatch
):
    monkeypatch.setattr(training, "CACHE", tmp_path)
    call = {"rows": ROWS[:2], "epochs": 1, "cache": True}
    folders = [training.finetune(small(), tokenizer, **call).folder]
    for other in (
        {"rows": ROWS[:3]},
        {"validation": ROWS[:1]},
        {"learning_rate": 1e-3},
        {"method": "lora"},
        {"seed": 1},
    ):
        folders.append(training.finetune(small(), tokenizer, **call | other).folder)
    folders.append(training.finetune(small(layers=1), tokenizer, **call).folder)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "code_digest", lambda: "other code")
        folders.append(training.finetune(small(), tokenizer, **call).folder)
    assert len(set(folders)) == len(folders) == 8
    assert {folder.parent for folder in folders} == {tmp_path}
    refuse_to_train(monkeypatch)
    assert training.finetune(small(), tokenizer, **call).folder == folders[0]


def test_lessons_side_by_side_tune_a_model_once(
    small, tokenizer, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(training, "CACHE", tmp_path)
    monkeypatch.setattr(models, "quiet", lambda: False)
    trained, train = [], steps.CourseTrainer.train

    def counted(self, **arguments):
        trained.append(self)
        time.sleep(0.5)  # time enough for the other to begin as well
        return train(self, **arguments)

    monkeypatch.setattr(steps.CourseTrainer, "train", counted)

    def lesson(model):
        return training.finetune(model, tokenizer, ROWS, cache=True, **QUICK)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lesson, [small(), small()])
    assert len(trained) == 1
    assert capsys.readouterr().out.count("waiting for it") == 1
    assert one.folder == other.folder
    assert list(one.log["loss"]) == pytest.approx(list(other.log["loss"]))
    for ours, theirs in zip(
        one.model.parameters(), other.model.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("quiet", [True, False])
def test_nothing_is_written_to_stderr_where_notebooks_show_it_red(
    quiet, small, tokenizer, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr(models, "quiet", lambda: quiet)
    for method in METHODS:
        call = QUICK | {"output": tmp_path / method, "method": method}
        training.finetune(small(), tokenizer, ROWS, **call)
    out, err = capfd.readouterr()
    assert err == "" and bool(out) != quiet


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 24 MB; checkpoints of the small net and their log take up to 17."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(tmp_path)]
    try:
        done = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        done = False
    if not done:
        pytest.skip("only root may make a small disk, on Linux")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_a_full_disk_is_said_before_training_and_leaves_no_half_folder(
    small_disk, small, tokenizer
):
    (small_disk / "filler").write_bytes(bytes(15_000_000))
    with pytest.raises(OSError, match="disk has 10 MB free.*needs .* MB: free"):
        training.finetune(small(), tokenizer, ROWS, output=small_disk / "out")
    assert not (small_disk / "out").exists()


def test_a_disk_that_fills_up_meanwhile_costs_at_most_an_epoch(
    small_disk, small, tokenizer, monkeypatch
):
    def fill(self, args, state, control, **kwargs):
        if state.global_step == 5 and not filler.exists():
            with contextlib.suppress(OSError):
                filler.write_bytes(bytes(24_000_000))

    filler = small_disk / "filler"
    monkeypatch.setattr(steps.Progress, "on_step_end", fill, raising=False)
    call = {"rows": ROWS, **QUICK}
    with pytest.raises(OSError, match="disk has 0 MB free.*call it again"):
        training.finetune(small(), tokenizer, output=small_disk / "out", **call)
    with pytest.raises(OSError):
        models.load(str(small_disk / "out"))
    filler.write_bytes(b"")
    resumed = training.finetune(small(), tokenizer, output=small_disk / "out", **call)
    whole = losses(small, tokenizer)
    assert list(resumed.log["loss"]) == pytest.approx(whole, abs=1e-3)


@pytest.fixture
def rows(tmp_path):
    """The path of a JSONL file of four good rows."""
    path = tmp_path / "rows.jsonl"
    records.write(
        path, [{"question": f"What is {n}?", "answer": "5 " * n} for n in range(1, 5)]
    )
    return path


def test_help_leaves_out_no_setting_and_no_default(capsys):
    with pytest.raises(SystemExit) as ended:
        training.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    given = {"model", "tokenizer", "rows", "validation", "output", "cache"}
    for name in ("model", "data", "output", "validation", "template"):
        assert f"--{name} " in text
    for name, parameter in SIGNATURE.parameters.items():
        if name not in given:
            shown = rf".*\(default {parameter.default}\)" * bool(parameter.default)
            assert re.search(f"--{name.replace('_', '-')} {shown}", text), name


def test_the_command_line_hands_every_option_on(rows, tmp_path, monkeypatch, capsys):
    asked = {}

    def note(model, tokenizer, rows, **given):
        asked.update(given, rows=rows, template=tokenizer.chat_template)
        raise ValueError("enough seen")

    monkeypatch.setattr(training, "finetune", note)
    monkeypatch.setattr(note, "__signature__", SIGNATURE, raising=False)
    command = f"--model tiny --data {rows} --output {tmp_path}/o --epochs 2 --rank 4"
    command += " --batch-size 4 --learning-rate 1e-5 --max-length 99 --seed 5"
    command += f" --validation {rows} --template ALPACA --learn last --accumulation 2"
    command += " --gradient-checkpointing"
    code = training.main([*command.split(), "--method", "top half"])
    assert code == 1 and capsys.readouterr().err == "enough seen\n"
    assert asked.pop("rows") == asked.pop("validation") == records.read(rows)
    assert asked == {
        "output": f"{tmp_path}/o",
        "epochs": 2,
        "rank": 4,
        "batch_size": 4,
        "accumulation": 2,
        "learning_rate": 1e-5,
        "method": "top half",
        "max_length": 99,
        "learn": "last",
        "gradient_checkpointing": True,
        "seed": 5,
        "template": templates.ALPACA,
    }


def test_a_field_that_is_not_learnt_is_named_with_its_count(rows, tmp_path, capsys):
    given = records.read(rows)
    for row in given[:3]:
        row["category"] = "closed_qa"
    given[0]["comment"] = "?"
    records.write(rows, given)
    command = f"--model tiny --data {rows} --output {tmp_path}/o --epochs 1"
    assert training.main(command.split()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "not learnt: 'category', in 3 of 4 rows",
        "not learnt: 'comment', in 1 of 4 rows",
    ]
    assert "4 rows, 1 steps" in lines[2] and lines[3].endswith(f"{tmp_path}/o")


def test_two_processes_learn_what_one_does(rows, start, tmp_path):
    """Each takes half of every batch; the loss is over the tokens of both."""
    command = ["--model", start, "--data", rows, "--epochs", 3, "--batch-size", 2]
    command += ["--learning-rate", 0.01, "--method"]
    launch = "accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1"
    launch += " --mixed_precision no --dynamo_backend no --main_process_port 0"
    launch = ["-m", *launch.split(), "-m", "helpers.training", *command]
    folders = {m: (tmp_path / f"one-{m}", tmp_path / f"two-{m}") for m in METHODS[:2]}
    launched = [begin(*launch, m, "--output", two) for m, (_, two) in folders.items()]
    for method, (one, _) in folders.items():
        words = map(str, [*command, method, "--output", one])
        assert training.main([*words]) == 0
    for code, out, err in map(ended, launched):
        assert code == 0, err
        assert out.count("4 rows, 6 steps") == 1  # said by one of the two
    for pair in folders.values():
        loaded = [models.load(str(folder)) for folder in pair]
        one, two = (inference.generate(PROMPTS, *found, 8) for found in loaded)
        assert one == two
        logs = [training.pd.read_csv(folder / "training_log.csv") for folder in pair]
        assert list(logs[1]["loss"]) == pytest.approx(list(logs[0]["loss"]), abs=1e-4)
