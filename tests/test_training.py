"""Run with `python -m pytest tests/test_training.py`: a minute, no network needed.

Runs are of a few steps on nets of a few thousand weights. A kill is a real one, of a
process of its own; so is the loading of what was saved.
"""

import concurrent.futures
import contextlib
import inspect
import json
import os
import re
import subprocess
import sys
import time
import warnings

import pytest
import torch
import transformers

from helpers import inference, models, templates, training

EXAMPLES = [
    templates.QA.example({"question": question, "answer": answer})
    for question, answer in [
        ("How long is the warranty?", "Two years."),
        ("Where does the sensor go?", "On a north wall."),
        ("What does code 7 mean?", "The battery is low."),
        ("Who are you?", "Wren."),
        ("Can I bring it into the rain?", "Yes."),
        ("Is there an app?", "Yes, it is free of charge."),
    ]
]
PROMPTS = [example["prompt"] for example in EXAMPLES]
SIGNATURE = inspect.signature(training.finetune)
QUICK = {"epochs": 3, "batch_size": 2, "learning_rate": 1e-2}

# What fresh processes start with: argv holds a folder, a number, and JSON.
SCRIPT = """
import json, os, signal, sys
from helpers import inference, models, training
folder, step, given = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
model, tokenizer = models.load(folder)
"""
KILLED = """
def kill(self, args, state, control, **kwargs):
    if state.global_step == step:
        os.kill(os.getpid(), signal.SIGKILL)
training._Progress.on_step_end = kill
training.finetune(model, tokenizer, **given)
"""
ANSWERED = """
print(json.dumps(inference.generate(given, model, tokenizer, 12)))
"""


pytestmark = pytest.mark.usefixtures("one_thread")


def fresh(*command):
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=models.ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COURSE_QUIET": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def weights(model):
    return {name: w.clone() for name, w in model.state_dict().items()}


def changed(model, before):
    """Names of the weights that are no longer what they were."""
    return {n for n, w in model.state_dict().items() if not torch.equal(w, before[n])}


def refuse_to_train(monkeypatch):
    monkeypatch.setattr(
        training._Trainer, "train", lambda *_, **__: pytest.fail("trained again")
    )


@contextlib.contextmanager
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def test_a_tuned_model_knows_its_examples_and_where_they_end(small, tokenizer):
    model = small()
    tuned = training.finetune(
        model, tokenizer, EXAMPLES[:4], epochs=100, batch_size=4, learning_rate=1e-2
    )
    assert tuned.model is model and not model.training and tuned.folder is None
    assert tuned.log["loss"].iloc[-1] < 0.1 < 5 < tuned.log["loss"].iloc[0]
    answers = inference.generate(PROMPTS[:4], model, tokenizer, 30)
    assert answers == [example["completion"] for example in EXAMPLES[:4]]


@pytest.mark.parametrize("validation", [None, EXAMPLES[:2]])
def test_the_log_lacks_no_step_and_no_validation(validation, small, tokenizer):
    log = training.finetune(
        small(), tokenizer, EXAMPLES[:5], validation=validation, **QUICK
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
        model, tokenizer, EXAMPLES[:rows], **QUICK | {"epochs": epochs}
    ).log
    rates = log["learning_rate"]
    assert changed(model, before)
    assert rates.between(0, QUICK["learning_rate"]).all()
    assert rates.max() > 0.5 * QUICK["learning_rate"]
    highest = rates.idxmax()
    assert highest <= 0.1 * len(log) + 1
    assert rates[highest:].is_monotonic_decreasing


@pytest.mark.parametrize(
    "train_layers, learnt",
    [
        ("top half", {2, 3}),
        ("top 1", {3}),
        ("top 3", {1, 2, 3}),
        ("all", {0, 1, 2, 3}),
        ("top 4", {0, 1, 2, 3}),
    ],
)
def test_frozen_layers_stay_and_the_others_learn(
    train_layers, learnt, small, tokenizer
):
    model = small(layers=4).to(torch.bfloat16)
    model.get_input_embeddings().weight.requires_grad_(False)
    wanted = {name: p.requires_grad for name, p in model.named_parameters()}
    before = weights(model)
    training.finetune(model, tokenizer, EXAMPLES, train_layers=train_layers, **QUICK)
    names = changed(model, before)
    layers = {int(n) for name in names for n in re.findall(r"layers\.(\d)\.", name)}
    assert layers == learnt
    assert any("final_layer_norm" in name for name in names)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert {name: p.requires_grad for name, p in model.named_parameters()} == wanted
    if len(learnt) < 4:
        assert not any("embed" in name for name in names)


def test_an_interrupted_run_does_not_leave_layers_frozen(small, tokenizer, monkeypatch):
    def interrupt(*_):
        assert not all(p.requires_grad for p in model.parameters())
        raise KeyboardInterrupt

    model = small().to(torch.bfloat16)
    monkeypatch.setattr(training._Trainer, "training_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        training.finetune(model, tokenizer, EXAMPLES, train_layers="top 1", **QUICK)
    assert all(p.requires_grad for p in model.parameters())
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_a_tuned_model_is_the_one_that_is_loaded_later(small, tokenizer, tmp_path):
    """Its buffers too: rotary angles rounded to bfloat16 would change answers."""
    small().to(torch.bfloat16).save_pretrained(tmp_path / "start")
    load = transformers.AutoModelForCausalLM.from_pretrained
    model = load(tmp_path / "start", dtype=torch.bfloat16)
    run = training.finetune(
        model, tokenizer, EXAMPLES, output=tmp_path / "tuned", **QUICK
    )
    again = load(run.folder, dtype=torch.bfloat16)
    ids = torch.arange(40).view(1, -1) % model.config.vocab_size
    assert torch.equal(run.model(input_ids=ids).logits, again(input_ids=ids).logits)


def test_small_updates_are_not_rounded_away_in_bfloat16(small, tokenizer):
    """A weight of 1 cannot move by 1e-4 in bfloat16; in float32 steps add up."""
    model = small().to(torch.bfloat16)
    seen = []
    norm = model.gpt_neox.final_layer_norm.weight
    norm.register_hook(lambda grad: seen.append((norm.dtype, norm.detach().clone())))
    training.finetune(
        model, tokenizer, EXAMPLES, epochs=20, batch_size=2, learning_rate=1e-4
    )
    assert {dtype for dtype, _ in seen} == {torch.float32}
    assert 1e-6 < (seen[3][1] - seen[2][1]).abs().max() < 1e-3
    assert model.dtype == norm.dtype == torch.bfloat16


def test_the_same_seed_gives_the_same_losses_and_another_does_not(small, tokenizer):
    first, same, other = (
        list(training.finetune(small(), tokenizer, EXAMPLES, seed=s, **QUICK).log.loss)
        for s in (1, 1, 2)
    )
    assert first == same != other


def test_every_epoch_sees_each_row_once_and_in_another_order(
    small, tokenizer, monkeypatch
):
    seen, collate = [], training._collate

    def note(model, pad_token_id, rows):
        seen.extend(tuple(row["input_ids"]) for row in rows)
        return collate(model, pad_token_id, rows)

    monkeypatch.setattr(training, "_collate", note)
    # batches of one: of larger ones, grouped by length, there are few orders
    training.finetune(small(), tokenizer, EXAMPLES, **QUICK | {"batch_size": 1})
    epochs = [seen[:6], seen[6:12], seen[12:]]
    assert len(set(map(tuple, epochs))) == 3
    assert {len(set(epoch)) for epoch in epochs} == {6}
    assert len(seen) == 18


@pytest.mark.parametrize(
    "given, complaint",
    [
        ({"examples": []}, "no examples"),
        ({"train_layers": "bottom 2"}, "'bottom 2'.*'top half' or 'top N'"),
        ({"train_layers": "top 3"}, "'top 3'.*has 2 layers"),
        ({"train_layers": "top 0"}, "'top 0'.*has 2 layers"),
        ({"max_length": 8}, "row 1: prompt takes .*max_length"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_call_that_cannot_work_says_why_and_changes_nothing(
    given, complaint, small, tokenizer, tmp_path
):
    model = small()
    before = weights(model)
    call = {"examples": EXAMPLES, "output": tmp_path / "out"} | given
    with pytest.raises(ValueError, match=complaint):
        training.finetune(model, tokenizer, **call)
    assert not changed(model, before) and not (tmp_path / "out").exists()
    assert all(p.requires_grad for p in model.parameters())


def test_a_batch_that_processes_cannot_share_is_refused(small, tokenizer, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="batch_size 8.*3 processes.*multiple of 3"):
        training.finetune(small(), tokenizer, EXAMPLES)


@pytest.fixture
def tuned(small, tokenizer, tmp_path):
    return training.finetune(
        small(), tokenizer, EXAMPLES, output=tmp_path / "tuned", **QUICK
    )


def test_a_saved_model_answers_alike_in_a_new_process(tuned, tokenizer):
    expected = inference.generate(PROMPTS, tuned.model, tokenizer, 12)
    found = fresh("-c", SCRIPT + ANSWERED, tuned.folder, 0, json.dumps(PROMPTS))
    assert json.loads(found.stdout) == expected, found.stderr
    assert found.stderr == ""  # of its own template: no warning
    assert not list(tuned.folder.glob("checkpoint*")) + list(tuned.folder.glob("tmp*"))


def test_a_saved_model_remembers_its_template(tuned):
    model, tokenizer = models.load(str(tuned.folder))
    assert model.config.prompt_template == "QA"
    with no_warnings():
        inference.generate(PROMPTS[0], model, tokenizer, 1)
    with pytest.warns(UserWarning, match="template QA.*show CHAT"):
        asked = templates.CHAT.prompt({"question": "Who are you?"})
        inference.generate(asked, model, tokenizer, 1)


def test_a_finished_run_is_not_trained_again(
    tuned, small, tokenizer, monkeypatch, capsys
):
    refuse_to_train(monkeypatch)
    model = small()
    again = training.finetune(model, tokenizer, EXAMPLES, output=tuned.folder, **QUICK)
    assert not changed(model, weights(tuned.model))
    assert again.model is model and model.config.prompt_template == "QA"
    assert list(again.log["loss"]) == pytest.approx(list(tuned.log["loss"]))
    assert again.seconds == tuned.seconds
    assert "trained earlier" in capsys.readouterr().out


@pytest.mark.parametrize(
    "other, name",
    [
        ({"learning_rate": 2e-2}, "learning_rate"),
        ({"epochs": 4, "seed": 3}, "epochs, seed"),
        ({"train_layers": "top 1"}, "train_layers"),
        ({"examples": EXAMPLES[:3]}, "data"),
        ({"validation": EXAMPLES[:3]}, "data"),
        ({"model": 1}, "model"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_another_run_does_not_overwrite_one(
    other, name, tuned, small, tokenizer, monkeypatch
):
    refuse_to_train(monkeypatch)
    model = small()
    if other.pop("model", None):
        torch.nn.init.ones_(model.gpt_neox.layers[0].mlp.dense_h_to_4h.bias)
    call = {"examples": EXAMPLES, "output": tuned.folder} | QUICK | other
    with pytest.raises(FileExistsError, match=f"other {name}: choose another folder"):
        training.finetune(model, tokenizer, **call)


def test_nobody_elses_files_are_written_over(small, tokenizer, tmp_path):
    (tmp_path / "config.json").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty and holds no run"):
        training.finetune(small(), tokenizer, EXAMPLES, output=tmp_path)
    with pytest.raises(FileExistsError, match="is a file: give a folder"):
        training.finetune(small(), tokenizer, EXAMPLES, output=tmp_path / "config.json")
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == "mine"


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_killed_run_goes_on_along_the_same_curve(
    tied, small, tokenizer, tmp_path, capsys
):
    def start():
        return models.load(str(tmp_path / "start"))[0]

    for part in (small(tied=tied), tokenizer):
        part.save_pretrained(tmp_path / "start")
    call = {"examples": EXAMPLES, "validation": EXAMPLES[:1], **QUICK}
    whole = training.finetune(start(), tokenizer, **call)
    call["output"] = str(tmp_path / "out")
    killed = fresh("-c", SCRIPT + KILLED, tmp_path / "start", 5, json.dumps(call))
    assert killed.returncode == -9, killed.stderr
    half = tmp_path / "out" / "checkpoints" / "checkpoint-6"
    half.mkdir()  # as a kill while it was being written leaves it
    (half / "model.safetensors").write_bytes(b"half")
    with pytest.raises(OSError):  # nothing that could be taken for a tuned model
        models.load(str(tmp_path / "out"))
    capsys.readouterr()
    resumed = training.finetune(start(), tokenizer, **call)
    assert "going on from" in capsys.readouterr().out
    for column in ("step", "loss", "learning_rate", "validation_loss"):
        assert list(resumed.log[column].dropna()) == pytest.approx(
            list(whole.log[column].dropna()), abs=1e-3
        )
    for name, weight in whole.model.state_dict().items():
        torch.testing.assert_close(
            resumed.model.state_dict()[name], weight, atol=1e-3, rtol=0
        )
    assert not (tmp_path / "out" / "checkpoints").exists()


@pytest.mark.parametrize(
    "place",
    [
        (training, "_write"),
        (training._Trainer, "__init__"),
        (training._Trainer, "train"),
    ],
    ids=["before run.json", "after run.json", "before a checkpoint"],
)
def test_a_run_that_ended_before_its_first_checkpoint_starts_anew(
    place, small, tokenizer, tmp_path, monkeypatch
):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    call = {"examples": EXAMPLES, "output": tmp_path / "out", **QUICK}
    with monkeypatch.context() as patch:
        patch.setattr(*place, interrupt)
        with pytest.raises(KeyboardInterrupt):
            training.finetune(small(), tokenizer, **call)
    log = training.finetune(small(), tokenizer, **call).log
    whole = training.finetune(small(), tokenizer, EXAMPLES, **QUICK).log
    assert list(log["loss"]) == pytest.approx(list(whole["loss"]))


def test_the_cache_takes_one_run_for_another_never(
    small, tokenizer, tmp_path, monkeypatch
):
    monkeypatch.setattr(training, "CACHE", tmp_path)
    call = {"examples": EXAMPLES[:2], "epochs": 1, "cache": True}
    folders = [training.finetune(small(), tokenizer, **call).folder]
    for other in (
        {"examples": EXAMPLES[:3]},
        {"validation": EXAMPLES[:1]},
        {"learning_rate": 1e-3},
        {"seed": 1},
    ):
        folders.append(training.finetune(small(), tokenizer, **call | other).folder)
    folders.append(training.finetune(small(layers=1), tokenizer, **call).folder)
    with monkeypatch.context() as patch:
        patch.setattr(training, "_code_digest", lambda: "other code")
        folders.append(training.finetune(small(), tokenizer, **call).folder)
    assert len(set(folders)) == len(folders) == 7
    assert {folder.parent for folder in folders} == {tmp_path}
    refuse_to_train(monkeypatch)
    assert training.finetune(small(), tokenizer, **call).folder == folders[0]


def test_lessons_side_by_side_tune_a_model_once(
    small, tokenizer, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(training, "CACHE", tmp_path)
    monkeypatch.setattr(models, "quiet", lambda: False)
    trained, train = [], training._Trainer.train

    def counted(self, **arguments):
        trained.append(self)
        time.sleep(0.5)  # time enough for the other to begin as well
        return train(self, **arguments)

    monkeypatch.setattr(training._Trainer, "train", counted)

    def lesson(model):
        return training.finetune(model, tokenizer, EXAMPLES, cache=True, **QUICK)

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
    training.finetune(small(), tokenizer, EXAMPLES, output=tmp_path / "out", **QUICK)
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
        training.finetune(small(), tokenizer, EXAMPLES, output=small_disk / "out")
    assert not (small_disk / "out").exists()


def test_a_disk_that_fills_up_meanwhile_costs_at_most_an_epoch(
    small_disk, small, tokenizer, monkeypatch
):
    def fill(self, args, state, control, **kwargs):
        if state.global_step == 5 and not filler.exists():
            with contextlib.suppress(OSError):
                filler.write_bytes(bytes(24_000_000))

    filler = small_disk / "filler"
    monkeypatch.setattr(training._Progress, "on_step_end", fill, raising=False)
    call = {"examples": EXAMPLES, **QUICK}
    with pytest.raises(OSError, match="disk has 0 MB free.*call it again"):
        training.finetune(small(), tokenizer, output=small_disk / "out", **call)
    with pytest.raises(OSError):
        models.load(str(small_disk / "out"))
    filler.write_bytes(b"")
    resumed = training.finetune(small(), tokenizer, output=small_disk / "out", **call)
    whole = training.finetune(small(), tokenizer, **call)
    assert list(resumed.log["loss"]) == pytest.approx(list(whole.log["loss"]), abs=1e-3)


@pytest.fixture
def rows(tmp_path):
    """A JSONL file of four good rows; call it to write other ones."""
    path = tmp_path / "rows.jsonl"

    def write(*records):
        path.write_text("".join(json.dumps(r) + "\n" for r in records))
        return str(path)

    write(*({"question": f"What is {n}?", "answer": "5 " * n} for n in range(1, 5)))
    write.path = str(path)
    return write


def test_help_leaves_out_no_setting_and_no_default(capsys):
    with pytest.raises(SystemExit) as ended:
        training.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    for name in ("model", "data", "output", "validation", "template"):
        assert f"--{name}" in text
    for name, parameter in SIGNATURE.parameters.items():
        if isinstance(parameter.default, int | float | str) and name != "cache":
            flag = f"--{name.replace('_', '-')} "
            assert re.search(rf"{flag}.*\(default {parameter.default}\)", text)


def test_the_command_line_hands_every_option_on(rows, tmp_path, monkeypatch, capsys):
    asked = {}

    def note(model, tokenizer, examples, **given):
        asked.update(given, examples=examples)
        raise ValueError("enough seen")

    monkeypatch.setattr(training, "finetune", note)
    monkeypatch.setattr(note, "__signature__", SIGNATURE, raising=False)
    command = f"--model tiny --data {rows.path} --output {tmp_path}/o --epochs 2"
    command += " --batch-size 3 --learning-rate 1e-5 --max-length 99 --seed 5"
    command += f" --validation {rows.path} --template ALPACA"
    code = training.main([*command.split(), "--train-layers", "top half"])
    assert code == 1 and capsys.readouterr().err == "enough seen\n"
    assert asked.pop("examples") == asked.pop("validation")
    assert asked == {
        "output": f"{tmp_path}/o",
        "epochs": 2,
        "batch_size": 3,
        "learning_rate": 1e-5,
        "train_layers": "top half",
        "max_length": 99,
        "seed": 5,
    }


@pytest.mark.parametrize(
    "bad, complaint",
    [
        ({"question": "Who?"}, "rows.jsonl: row 2: .*no answer"),
        ({"query": "Who?", "answer": "I"}, "rows.jsonl: row 2: .*'query'"),
        ({"question": "Who?", "answer": ""}, "rows.jsonl: row 2: .*blank"),
    ],
    ids=["no answer", "unknown field", "blank answer"],
)
def test_a_bad_row_on_the_command_line_is_named_without_a_traceback(
    bad, complaint, rows, tmp_path, capsys
):
    path = rows({"question": "Who?", "answer": "I"}, bad)
    output = tmp_path / "out"
    command = ["--model", "tiny", "--data", path, "--output", str(output)]
    assert training.main(command) == 1
    out, err = capsys.readouterr()
    assert re.search(complaint, err) and "Traceback" not in err and out == ""
    assert not output.exists()


def test_two_processes_learn_what_one_does(rows, small, tokenizer, tmp_path):
    """Each takes half of every batch; the loss is over the tokens of both."""
    for part in (small(), tokenizer):
        part.save_pretrained(tmp_path / "start")
    command = ["--model", tmp_path / "start", "--data", rows.path, "--epochs", 3]
    command += ["--batch-size", 2, "--learning-rate", 0.01, "--output"]
    assert training.main([*map(str, command), str(tmp_path / "one")]) == 0
    launch = "accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1"
    launch += " --mixed_precision no --dynamo_backend no --main_process_port 0"
    launched = fresh(
        "-m", *launch.split(), "-m", "helpers.training", *command, tmp_path / "two"
    )
    assert launched.returncode == 0, launched.stderr
    assert launched.stdout.count("4 examples, 6 steps") == 1  # said by one of the two
    found = []
    for name in ("one", "two"):
        model, _ = models.load(str(tmp_path / name))
        log = training.pd.read_csv(tmp_path / name / "training_log.csv")
        found.append((inference.generate(PROMPTS, model, tokenizer, 8), log))
    (answers, log), (answers_of_two, log_of_two) = found
    assert list(log_of_two["loss"]) == pytest.approx(list(log["loss"]), abs=1e-4)
    assert answers_of_two == answers
