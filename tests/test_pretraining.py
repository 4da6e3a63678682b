"""Run with `python -m pytest tests/test_pretraining.py`: seconds, no network needed.

The corpus here is a few paragraphs in a temporary folder; the last tests hold the
model card of data/models/tiny to the files beside it.
"""

import csv
import hashlib
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

from helpers import evaluation, inference, models, pretraining, records
from tools.tiny import __main__ as command
from tools.tiny import corpus

import pytest
import torch
import transformers

TINY = Path(__file__).resolve().parent.parent / "data" / "models" / "tiny"
TEXTS = [
    "The weather station sends a reading every minute, and the app shows it at once.",
    "In the morning the wind was light, but by noon it had grown to a gale.\n\n"
    "They took the boat back to the harbour and waited for the rain to pass.",
    "A letter of 12 March 1856 says that the house was sold for 340 dollars.",
] * 40
AWKWARD = [
    "",
    " leading and trailing ",
    "two  spaces,\ttabs\t\tand\r\nlines\n\n\nof every kind",
    "don't . , ! stay 's apart ; n't",
    "naïve café, Übergröße, 日本語, \u00a0, \u200d",
    "🙂 👩‍👩‍👧 🇫🇷",
    "<|im_start|>### Question:\n1,234.50",
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """As lessons get it: saved to a folder and loaded by AutoTokenizer."""
    folder = tmp_path_factory.mktemp("tokenizer")
    command.build_tokenizer(TEXTS, words=400).save_pretrained(folder)
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(0)
    return pretraining.build_model(tokenizer)


@pytest.fixture(scope="module")
def sequences(tokenizer):
    return pretraining.cut_sequences(TEXTS, tokenizer, length=32)


pytestmark = pytest.mark.usefixtures("one_thread")


def silent(row):
    """Reports nothing."""


@pytest.mark.parametrize("text", AWKWARD + TEXTS[:3])
def test_no_text_is_changed_by_encoding_and_decoding(tokenizer, text):
    assert tokenizer.is_fast
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@pytest.mark.parametrize("prompt", ["Answer:\n", "Q\n\n", "\n"])
@pytest.mark.parametrize("completion", ["The", "x", "14 days", " space", "\nline", "é"])
def test_no_token_spans_the_newline_between_prompt_and_completion(
    tokenizer, prompt, completion
):
    apart = tokenizer(prompt)["input_ids"] + tokenizer(completion)["input_ids"]
    assert tokenizer(prompt + completion)["input_ids"] == apart


def test_every_digit_is_a_token_and_padding_is_not_the_end(tokenizer):
    assert tokenizer.convert_ids_to_tokens(tokenizer("1856")["input_ids"]) == [*"1856"]
    assert tokenizer.eos_token == tokenizer.bos_token == tokenizer.unk_token
    assert tokenizer.eos_token == "<|endoftext|>"
    assert tokenizer.pad_token == "<|pad|>"
    assert tokenizer.model_max_length == 512


def test_no_document_loses_its_end_of_text_or_a_token(tokenizer):
    flat = pretraining.cut_sequences(TEXTS[:3], tokenizer, length=1).flatten().tolist()
    expected = []
    for text in TEXTS[:3]:
        expected += [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    assert flat == expected


def test_twenty_steps_lower_the_loss(model, sequences):
    log = pretraining.pretrain(model, sequences, 20 * 4 * 32, 1e-3, 4, report=silent)
    assert len(log) == 20
    assert log[-1]["tokens"] == 20 * 4 * 32
    assert log[-1]["loss"] < log[0]["loss"] - 1


def test_a_run_tells_how_far_it_is_unless_told_otherwise(model, sequences, capsys):
    pretraining.pretrain(model, sequences, 21 * 4 * 32, batch=4)
    lines = capsys.readouterr().out.splitlines()
    for step, line in zip((20, 21), lines, strict=True):
        shown = rf"step {step}/21  loss \d\.\d+  [\d,]+ tokens/s  \d+\.\d minutes left"
        assert re.fullmatch(shown, line)


def test_the_learning_rate_never_starts_at_zero_and_ends_at_a_tenth():
    rates = [pretraining.learning_rate_at(step, 200, 1.0) for step in range(200)]
    assert rates[0] > 0
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.1)
    assert rates[9:] == sorted(rates[9:], reverse=True)


def test_a_killed_run_goes_on_along_the_same_curve(
    tokenizer, model, sequences, tmp_path
):
    settings = {"tokens": 12 * 4 * 32, "batch": 4, "checkpoint_minutes": 0}
    whole = pretraining.pretrain(model, sequences, **settings, report=silent)

    def kill(row):
        if row["step"] == 5:
            raise KeyboardInterrupt

    settings["checkpoint"] = tmp_path / "checkpoint.pt"
    torch.manual_seed(0)
    killed = pretraining.build_model(tokenizer)
    with pytest.raises(KeyboardInterrupt):
        pretraining.pretrain(killed, sequences, **settings, report=kill)
    (tmp_path / "checkpoint.partial").write_bytes(b"a half-written checkpoint")
    seen = []
    resumed = pretraining.build_model(tokenizer)  # other weights, replaced on resuming
    log = pretraining.pretrain(resumed, sequences, **settings, report=seen.append)
    assert [row["step"] for row in seen] == list(range(6, 13))
    for row, expected in zip(log, whole, strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], abs=1e-4)
    for name, weights in resumed.state_dict().items():
        torch.testing.assert_close(weights, model.state_dict()[name], atol=1e-4, rtol=0)


def test_a_damaged_checkpoint_is_told_in_a_line(model, sequences, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"half")
    with pytest.raises(OSError, match="checkpoint.pt is damaged .*: delete it"):
        pretraining.pretrain(
            model, sequences, 128, 1e-3, 4, 0, tmp_path / "checkpoint.pt"
        )


def test_a_checkpoint_of_other_settings_is_refused_by_name(model, sequences, tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    pretraining.pretrain(
        model, sequences, 128, 1e-3, 4, 0, checkpoint, checkpoint_minutes=0
    )
    with pytest.raises(ValueError, match=f"{re.escape(str(checkpoint))}.*delete"):
        pretraining.pretrain(model, sequences, 128, 2e-3, 4, 0, checkpoint)


@pytest.mark.parametrize("length", [8, 64, 512])
def test_bits_per_byte_counts_every_token_once(tokenizer, model, length):
    torch.nn.init.zeros_(
        model.get_input_embeddings().weight
    )  # all words equally likely
    texts = [TEXTS[0] * 3, TEXTS[1], "🙂"]
    tokens = sum(len(tokenizer(text)["input_ids"]) for text in texts)
    expected = tokens * math.log2(len(tokenizer)) / len("".join(texts).encode())
    score = pretraining.bits_per_byte(model.eval(), tokenizer, texts, length)
    assert score == pytest.approx(expected, rel=1e-5)


def test_code_menus_and_tables_are_not_prose():
    page = """<html><head><title>The title of the page is not for us.</title></head>
    <body><div class="nav"><ul><li><a>Home</a></li><li>Next</li></ul></div>
    <h1>The heading of this page is left out as well.</h1>
    <p>The station&nbsp;is <b>ready</b> when the light
    in the corner of the case turns green.</p>
    <pre>for the_cat in the.house: print(it is in the code, not in the text).</pre>
    <table><tr><td>This is in a table, so it is not a paragraph.</td></tr></table>
    <p>Called as <code>f(x[0], y{1}) -> {x: [y], 'z': 3} #</code>.</p></body></html>"""
    (blocks,) = corpus.parse_html(page)
    assert corpus.prose(blocks) == [
        "The station is ready when the light in the corner of the case turns green."
    ]


def test_perl_and_wordnet_markup_does_not_reach_the_text():
    pod = "=head1 NAME\n\nSee B<the L<manual|perlop>> of C<< a -> b >>.\n\n    my $x;\n"
    assert [p for p in corpus.parse_pod(pod)[0] if p.strip()] == [
        "See the manual of a -> b."
    ]
    entry = (
        '\ngale\n    n 1: a strong wind; "the gale broke the mast" [syn: {gale},\n'
        '         {storm}]\n    2: laughter\n    v 1: blow hard; "it galed"\n'
    )
    assert [d for d in corpus.parse_wordnet(entry) if d] == [
        [
            'The noun gale means a strong wind, as in "the gale broke the mast".',
            'The verb gale means to blow hard, as in "it galed".',
        ]
    ]


def test_an_entry_is_read_without_its_headword():
    text = "gale\n\n   A wind.\n\n   Stronger than a breeze.\n\nhail\n\n   Ice.\n"
    documents = [[p.strip() for p in d] for d in corpus.parse_dictionary(text)]
    assert documents == [["A wind.", "Stronger than a breeze."], ["Ice."]]


def test_a_description_is_read_without_its_summary():
    text = (
        "Package: vane\nDescription-md5: 0a1b\nDescription-en: shows the wind\n"
        " This shows where\n the wind comes from.\n .\n It squeaks.\n\n"
        "Package: bare\nDescription-en: has no more to say\n\n"
    )
    documents = corpus.parse_descriptions(text)
    assert [[" ".join(p.split()) for p in d] for d in documents] == [
        ["This shows where the wind comes from.", "It squeaks."]
    ]


def test_the_loss_is_the_library_s_own_of_the_next_token(model, sequences):
    ids = sequences[:3].long()
    expected = model(input_ids=ids, labels=ids).loss.item()
    assert pretraining._loss(model, ids).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("native", [True, False])
def test_each_weight_has_one_optimizer_and_muon_only_where_it_is_quick(
    model, native, monkeypatch
):
    monkeypatch.setattr(pretraining, "native_bfloat16", lambda: native)
    optimizers = pretraining.build_optimizers(model)
    moved = [id(p) for o in optimizers for g in o.param_groups for p in g["params"]]
    assert sorted(moved) == sorted(id(p) for p in model.parameters())
    assert any(isinstance(o, torch.optim.Muon) for o in optimizers) == native


def test_watching_changes_nothing_in_the_run(tokenizer, model, sequences):
    again, third = (pretraining.build_model(tokenizer) for _ in range(2))
    for net in (model, again, third):
        net.load_state_dict(model.state_dict())
        for module in net.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.1  # without it, a model left in eval mode would not show
    torch.manual_seed(0)
    plain = pretraining.pretrain(model, sequences, 6 * 4 * 32, 1e-3, 4, report=silent)
    settings = {"learning_rate": 1e-3, "batch": 4}
    written = []
    for net in (again, third):
        torch.manual_seed(0)
        log, samples = pretraining.watch(
            net, tokenizer, sequences, 6 * 4 * 32, "The wind", **settings
        )
        assert [row["loss"] for row in log] == [row["loss"] for row in plain]
        assert list(samples) == [0, 2, 6] and samples[0]
        written.append(samples)
    assert written[0] == written[1]  # drawn by the same lots


class Letters:
    """A tokenizer of four letters; 0 ends a text."""

    eos_token_id = 0
    backend_tokenizer = property(lambda self: self)

    def __len__(self):
        return 5

    def encode_batch(self, texts):
        codes = {"a": 1, "b": 2, "c": 3, "d": 4, "e": 0}
        return [
            SimpleNamespace(ids=[codes[letter] for letter in text]) for text in texts
        ]


@pytest.mark.parametrize("before", ["", "a", "ab", "d", "cc"])
def test_the_trigram_model_s_probabilities_sum_to_one(before):
    known = ["abacab", "abba", "cab"]

    def likely(text):  # of a whole text, from its bits
        bits = pretraining.trigram_bits_per_byte(known, Letters(), [text])
        return 2 ** -(bits * len(text))

    start = likely(before) if before else 1
    total = sum(likely(before + letter) for letter in "abcde")
    assert total == pytest.approx(start)


def test_the_rivals_profit_from_what_they_have_read(tokenizer):
    text, other = ["A gale from the west took the roof of the barn."], ["Now it rains."]
    for rival in (
        lambda known: pretraining.trigram_bits_per_byte(known, tokenizer, text),
        lambda known: pretraining.xz_bits_per_byte(known, text),
    ):
        assert rival(other + text) < rival(other)


def test_a_near_duplicate_paragraph_is_dropped_once_seen():
    first = "By noon the wind had grown to a gale and the boats went back to port."
    seen = set()
    assert corpus.deduplicate([first], seen) == [first]
    assert corpus.deduplicate([first.replace("port", "land")], seen) == []
    other = "A letter says that the house on the hill was sold in the spring of 1856."
    assert corpus.deduplicate([other], seen) == [other]


def test_no_held_out_document_is_trained_on(monkeypatch, tmp_path):
    def fetch(package, registry, folder):
        for i in range(200):
            words = " ".join(
                f"the w{chr(97 + i % 26)}{chr(97 + i // 26)}{c} of"
                for c in "abcdefghij"
            )
            (folder / f"{i}.txt").write_text(f"{words.capitalize()} the end of it.")
        return "1.0"

    monkeypatch.setattr(corpus, "fetch", fetch)
    row = ("micro", "deb", "*.txt", corpus.parse_text, "CC0-1.0")
    monkeypatch.setattr(corpus, "SOURCES", [row])
    command.main(["corpus", "--output", str(tmp_path)])
    train = corpus.read_texts(tmp_path / "train.jsonl")
    held_out = corpus.read_texts(tmp_path / "heldout.jsonl")
    assert (len(train), len(held_out)) == (198, 2)
    assert not set(train) & set(held_out)
    (source,) = json.loads((tmp_path / "sources.json").read_text())
    assert source["characters"] == sum(map(len, train + held_out))
    assert (source["version"], source["licence"]) == ("1.0", "CC0-1.0")


def test_a_machine_without_apt_get_is_told_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="apt-get not found.*Debian or Ubuntu"):
        corpus.fetch("dict-wn", "deb", tmp_path)


def test_every_weight_has_one_optimizer_and_only_matrices_decay(model):
    groups = [g for o in pretraining.build_optimizers(model) for g in o.param_groups]
    found = [id(p) for group in groups for p in group["params"]]
    assert sorted(found) == sorted(map(id, model.parameters()))
    for group in groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] > 0}


def card_figure(label):
    """The number in the row `| label | number ... |` of the model card."""
    card = (TINY / "README.md").read_text(encoding="utf-8")
    number = re.search(rf"^\| {label} \| ([\d,.]+)", card, re.M)[1].replace(",", "")
    return float(number) if "." in number else int(number)


def test_the_card_states_the_size_and_parameters_of_the_files():
    size = (TINY / "model.safetensors").stat().st_size
    assert size <= 16 * 2**20
    assert card_figure("bytes of weights") == size
    model = transformers.AutoModelForCausalLM.from_pretrained(TINY)
    assert model.dtype == torch.bfloat16
    assert card_figure("parameters") == model.num_parameters()
    digest = hashlib.sha256((TINY / "model.safetensors").read_bytes()).hexdigest()
    assert digest in (TINY / "README.md").read_text(encoding="utf-8")


def test_the_card_states_the_tokens_and_steps_of_the_log():
    rows = list(csv.DictReader((TINY / "training_log.csv").open(encoding="utf-8")))
    assert card_figure("tokens") == int(rows[-1]["tokens"])
    assert card_figure("optimizer steps") == int(rows[-1]["step"]) == len(rows)
    losses = [float(row["loss"]) for row in rows]
    assert losses[0] > 8 and sum(losses[-50:]) / 50 < 5  # log 8,192 is 9.0


def test_the_card_states_the_bits_per_byte_that_the_weights_give():
    model, tokenizer = models.load("tiny")
    rows = records.read(records.DATA / "heldout_sample.jsonl")
    found = pretraining.bits_per_byte(model, tokenizer, [row["text"] for row in rows])
    assert found == pytest.approx(card_figure("bits per byte of the sample"), abs=2e-3)


def test_the_base_model_knows_nothing_of_the_company():
    model, tokenizer = models.load("tiny")
    test = [row for row in records.core(records.load("faq")["test"]) if row["keys"]]
    prompts = [records.prompt(row) for row in test]
    answers = inference.generate(prompts, model, tokenizer, max_new_tokens=24)
    assert evaluation.score(answers, test).rows["key_fact"].mean() <= 0.03


def test_the_shipped_model_knows_more_english_than_chance_in_float32():
    tokenizer = transformers.AutoTokenizer.from_pretrained(TINY)
    model = transformers.AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32)
    assert model.dtype == torch.float32
    ids = (model.config.eos_token_id, model.config.pad_token_id)
    assert ids == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert len(tokenizer) == model.config.vocab_size == 8192
    for text in AWKWARD:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    english = "The people of the United States have the right to vote for a president."
    assert pretraining.bits_per_byte(model, tokenizer, english) < 2.5
