"""Run with `python -m pytest tests/test_hub.py`: under a minute, loopback only.

The hub of tests/hub.py serves three data sets and a foreign model. HF_ENDPOINT and
HF_HOME are read when the libraries are imported, so what is tested runs in processes
of its own: with the hub, after it went away, and on a computer that never reached it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

from helpers import models, records

import huggingface_hub
import pandas as pd
import pytest
import tokenizers
import torch
import transformers
from hub import Hub
from huggingface_hub import constants
from tokenizers import decoders, normalizers, pre_tokenizers, trainers

ALPACA = [
    {"instruction": f"Add {n}.", "input": "", "output": f"{n}", "text": f"Add {n}. {n}"}
    for n in range(1000)
]
DOCS = {
    split: [{"question": f"What is {n}?", "answer": f"It is {n}."} for n in numbers]
    for split, numbers in {"train": range(20), "test": range(20, 23)}.items()
}
ARC = [
    {
        "id": f"item-{n}",
        "question": f"How many legs have {n} cats?",
        "choices": {"text": [str(4 * n), str(n), "none"], "label": ["A", "B", "C"]},
        "answerKey": "A",
    }
    for n in range(2, 12)
]
STUDENT = "someone/small"
TEXT = "The Mast, set up in 2024:\nhow HIGH is it?"

PRELUDE = """
import itertools, json, sys, time
from helpers import harness, evaluation, inference, models, records, templates, training

report, STUDENT, TEXT = {}, "someone/small", sys.argv[3]
records.HUB_SECONDS = 60  # a busy computer may take more than 5 for anything

def complaint(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"

def first_five():
    loaded = records.load("tatsu-lab/alpaca", streaming=True)
    assert type(loaded).__name__ == "IterableDatasetDict", loaded
    rows = list(itertools.islice(loaded["train"], 5))
    for row in rows:  # what lessons do with them
        (asked,) = records.prompt(row)
        assert asked["content"].startswith(row["instruction"])
        assert records.answer(row) == row["output"].strip()
        assert isinstance(row["input"], str)
    return rows
"""

ONLINE = """
report["alpaca"] = first_five()
docs = records.load("lamini/lamini_docs")
report["docs"] = {split: rows.to_list() for split, rows in docs.items()}
report["student"] = models.student()
model, tokenizer = models.load(report["student"])
report["type"] = model.config.model_type
report["ids"] = tokenizer(TEXT).input_ids
prompts = [records.prompt(row) for row in docs["test"]]
report["answers"] = inference.generate(prompts, model, tokenizer, max_new_tokens=4)
before = {name: weight.clone() for name, weight in model.state_dict().items()}
rows = docs["train"].select(range(8))  # a set of the hub as it is, no list
tuned = training.finetune(model, tokenizer, rows, epochs=1, output=sys.argv[2])
report["losses"] = tuned.log["loss"].tolist()
after = model.state_dict()
report["changed"] = [name for name in after if not after[name].equal(before[name])]
model, tokenizer = models.load(sys.argv[2])
report["tuned"] = [model.config.model_type, tokenizer(TEXT).input_ids]
items = harness.run(model, tokenizer, "arc_easy", limit=4)
report["arc"] = items.to_dict(orient="list")
names = ["someone/missing", "someone/script", "someone/empty", "../alpaca", "alpaca"]
report["refused"] = {name: complaint(records.load, name) for name in names}
report["no model"] = complaint(models.load, "someone/missing", None, "tiny")
"""

GONE = """
docs = records.load("lamini/lamini_docs")
report["docs"] = {split: rows.to_list() for split, rows in docs.items()}
docs = records.load("lamini/lamini_docs", streaming=True)
report["streamed"] = {split: list(rows) for split, rows in docs.items()}
model, tokenizer = models.load(STUDENT, instead="tiny")
report["type"] = model.config.model_type
report["ids"] = tokenizer(TEXT).input_ids
"""

NEVER = """
slept, sleep = [], time.sleep
time.sleep = lambda seconds: [slept.append(seconds), sleep(seconds)]
report["alpaca"] = first_five()
report["docs"] = list(records.load("lamini/lamini_docs"))
model, _ = models.load(STUDENT, instead="tiny")
report["type"] = model.config.model_type
report["set"] = complaint(records.load, "someone/missing")
report["model"] = complaint(models.load, STUDENT)
report["slept"] = sum(slept)
"""


def run(hub, home, script):
    """What the script reports, with its `output` and the `requests` it made."""
    asked = len(hub.log)
    # tests run in offline mode, and where a proxy is set, it is not for the loopback
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_OFFLINE")}
    environment |= {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home / "huggingface"),
        "NO_PROXY": "127.0.0.1",
        "COURSE_MODEL": STUDENT,
        "COURSE_QUIET": "1",
    }
    code = PRELUDE + script + "\njson.dump(report, open(sys.argv[1], 'w'))"
    done = subprocess.run(
        [sys.executable, "-c", code, home / "report.json", home / "tuned", TEXT],
        env=environment,
        cwd=records.DATA.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((home / "report.json").read_text())
    streams = {"output": done.stdout, "errors": done.stderr}
    return report | streams | {"requests": hub.log[asked:]}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A hub with the sets that lessons name, a foreign model, and useless sets."""
    folder = tmp_path_factory.mktemp("hub")

    def repository(kind, name):
        made = folder / kind / name
        made.mkdir(parents=True)
        return made

    files = {"tatsu-lab/alpaca": {"train": ALPACA}, "lamini/lamini_docs": DOCS}
    for name, splits in files.items():
        made = repository("datasets", name)
        for split, rows in splits.items():
            pd.DataFrame(rows).to_parquet(made / f"{split}-00000-of-00001.parquet")
    arc = repository("datasets", "allenai/ai2_arc") / "ARC-Easy"
    arc.mkdir()
    for split in ("train", "validation", "test"):
        pd.DataFrame(ARC).to_parquet(arc / f"{split}-00000-of-00001.parquet")
    data = "\n".join(
        f"  - {{split: {split}, path: ARC-Easy/{split}-*}}"
        for split in ("train", "validation", "test")
    )
    (arc.parent / "README.md").write_text(
        f"---\nconfigs:\n- config_name: ARC-Easy\n  data_files:\n{data}\n---\n"
    )
    (repository("datasets", "someone/script") / "script.py").touch()
    (repository("datasets", "someone/empty") / "README.md").touch()

    # of another architecture, and with a normaliser that its class does not have
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([row["question"] for row in DOCS["train"]], trainer)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=bpe.get_vocab_size(),
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=128,
        bos_token_id=0,
        eos_token_id=0,
    )
    made = repository("models", STUDENT)
    transformers.GPT2LMHeadModel(config).save_pretrained(made)
    bpe.save(str(made / "tokenizer.json"))
    (made / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    with Hub(folder) as hub:
        hub.ids = bpe.encode(TEXT).ids
        yield hub


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def online(hub, home):
    hub.up = True
    return run(hub, home, ONLINE)


@pytest.fixture(scope="module")
def gone(hub, home, online):
    """After `online` and with its caches."""
    hub.up = False
    return run(hub, home, GONE)


@pytest.fixture(scope="module")
def never(hub, tmp_path_factory):
    hub.up = False
    return run(hub, tmp_path_factory.mktemp("new"), NEVER)


def test_streaming_gives_the_first_rows_in_order(online):
    assert online["alpaca"] == ALPACA[:5]


def test_a_set_of_the_hub_loses_no_split_and_no_row(online):
    assert online["docs"] == DOCS


def test_the_student_is_the_model_that_the_learner_names(online):
    assert online["student"] == STUDENT
    assert online["type"] == "gpt2"
    assert len(online["answers"]) == len(DOCS["test"])


def test_a_foreign_model_learns_in_all_its_layers(online):
    assert len(online["losses"]) == 1 and 0 < online["losses"][0] < 10
    changed = " ".join(online["changed"])
    assert all(part in changed for part in ("wte", "h.0.", "h.1.", "ln_f"))


def test_a_tokenizer_keeps_what_its_class_does_not_know(hub, online, gone):
    assert online["ids"] == hub.ids
    assert online["tuned"] == ["gpt2", hub.ids]
    assert gone["ids"] == hub.ids


def test_a_public_benchmark_is_asked_by_its_name(online):
    items = online["arc"]
    assert items["question"] == [row["question"] for row in ARC[:4]]
    for scores, correct in zip(
        items["log_probabilities"], items["correct"], strict=True
    ):
        assert len(scores) == 3 and max(scores) < 0
        assert correct == (scores[0] == max(scores))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("someone/missing", "doesn't exist on the Hub"),
        ("someone/script", "scripts are no longer supported.*not a script"),
        ("someone/empty", "doesn't contain any data files"),
        ("../alpaca", "there are faq, .*owner/name.*records.read"),
        ("alpaca", "there are faq, .*owner/name.*records.read"),
    ],
)
def test_a_set_that_cannot_be_loaded_says_why_in_one_message(online, name, reason):
    message = online["refused"][name]
    assert message.startswith("ValueError: ") and "\n" not in message
    assert repr(name) in message
    assert re.search(reason, message)


def test_a_wrong_model_id_is_not_covered_up_by_the_model_instead(online):
    assert online["no model"].startswith("OSError: could not get 'someone/missing'")


def test_no_bars_and_notices_reach_a_lesson_that_is_to_be_quiet(online, gone, never):
    assert "examples/s" not in online["errors"]  # a bar of datasets
    assert gone["output"] + gone["errors"] + never["errors"] == ""


def test_what_was_downloaded_is_used_when_the_hub_is_gone(gone):
    assert gone["docs"] == gone["streamed"] == DOCS
    assert gone["type"] == "gpt2"


def test_without_a_hub_the_stand_ins_are_named_in_one_line_each(never):
    rows = records.read(records.DATA / "larkfield" / "instructions.jsonl")
    assert never["alpaca"] == rows[:5]
    assert set(never["docs"]) == {"train", "validation", "test"}  # those of faq
    assert never["type"] == "gpt_neox"
    assert never["output"].splitlines() == [
        "The hub does not answer: instructions stands in for tatsu-lab/alpaca.",
        "The hub does not answer: faq stands in for lamini/lamini_docs.",
        f"The hub does not answer: tiny stands in for {STUDENT}.",
    ]


def test_without_a_hub_what_nothing_stands_in_for_says_what_to_check(never):
    assert never["set"].startswith("ConnectionError: could not load 'someone/missing'")
    assert "network" in never["set"] and "records.read" in never["set"]
    assert never["model"].startswith(f"OSError: could not get {STUDENT!r}")


def test_a_dead_hub_is_asked_once_and_not_for_minutes(gone, never):
    for report in (gone, never):
        paths = [path for _, path, _ in report["requests"]]
        # the client's own question which agent runs it, tried once as well
        assert [path for path in paths if path != "/api/agent-harnesses"] == ["/"]
        assert len(paths) <= 2
    # seconds between retries, which a busy computer does not lengthen
    assert never["slept"] < 1


@pytest.fixture
def ask(monkeypatch):
    """hub_answers as in a new process with a network."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    huggingface_hub.close_session()
    records.hub_answers.cache_clear()
    yield records.hub_answers
    huggingface_hub.close_session()
    records.hub_answers.cache_clear()


@pytest.mark.parametrize("up", [True, False])
def test_whether_the_hub_answers_is_asked_once(ask, hub, up, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    hub.up, asked = up, len(hub.log)
    assert [ask(), ask()] == [up, up]
    assert len(hub.log) == asked + 1


def test_offline_mode_is_believed_without_asking(ask, hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.up, asked = True, len(hub.log)
    assert not ask()
    assert len(hub.log) == asked


def test_a_name_server_that_hangs_is_not_waited_for(ask, monkeypatch):
    """The client's own timeout covers connections, not the look-up of addresses."""
    session = SimpleNamespace(head=lambda *arguments, **options: time.sleep(30))
    monkeypatch.setattr(huggingface_hub.utils, "get_session", lambda: session)
    monkeypatch.setattr(records, "HUB_SECONDS", 0.1)
    started = time.monotonic()
    assert not ask()
    assert time.monotonic() - started < 10


PUBLISHED = """
model, tokenizer = models.load("someone/mine")
report["ids"] = tokenizer(TEXT).input_ids
report["sum"] = sum(weight.double().abs().sum().item() for weight in model.parameters())
"""


def test_what_lesson_10_publishes_is_private_and_comes_back_the_same(tmp_path):
    """The lesson's own command, on a folder as the lesson makes it, in a dry run."""
    lesson = (models.ROOT / "notebooks" / "10_your_first_finetune.ipynb").read_text()
    (command,) = re.findall(r"hf (upload YOUR_NAME/mine \S+ --private)", lesson)
    command = command.replace("YOUR_NAME", "someone").split()
    merged = tmp_path / command[2]
    shutil.copytree(models.ROOT / "data" / "models" / "tiny", merged)
    (merged / "README.md").write_text(
        "---\nbase_model: tiny\nlicense: mit\n---\n# Mine"
    )
    with Hub(tmp_path / "hub") as hub:
        environment = {k: v for k, v in os.environ.items() if "OFFLINE" not in k}
        environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
        environment |= {"HF_TOKEN": "hf_secret", "NO_PROXY": "127.0.0.1"}
        done = subprocess.run(
            [sys.executable, "-m", "huggingface_hub.cli.hf", *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "hf_secret" not in done.stdout + done.stderr
        assert hub.private == ["someone/mine"]
        assert hub.tokens == {"Bearer hf_secret"}
        back = run(hub, tmp_path, PUBLISHED)
    there = tmp_path / "hub" / "models" / "someone" / "mine"
    for path in merged.iterdir():
        assert (there / path.name).read_bytes() == path.read_bytes()
    model, tokenizer = models.load("tiny")
    total = sum(weight.double().abs().sum().item() for weight in model.parameters())
    assert back["sum"] == pytest.approx(total, rel=1e-6)
    assert back["ids"] == tokenizer(TEXT).input_ids
