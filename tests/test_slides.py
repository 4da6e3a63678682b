"""Decks of made-up lessons: `… -m pytest tests/test_slides.py` (15 seconds, no browser)

For the packages that pip would fetch stand wheels with files of the same names.
"""

import base64
import hashlib
import os
import re
import subprocess
import sys
import zipfile
from html.parser import HTMLParser

from tools import course, slides

import nbformat
import pytest

REVEAL = "sphinx_revealjs/_static/revealjs/"
FONTS = REVEAL + "dist/theme/fonts/source-sans-pro/"
MEMBERS = {
    "sphinx_revealjs-3.2.1": [
        "sphinx_revealjs/builders.py",
        REVEAL + "LICENSE",
        REVEAL + "dist/reveal.js",
        REVEAL + "dist/reveal.js.map",
        REVEAL + "dist/reveal.css",
        REVEAL + "dist/theme/white.css",
        REVEAL + "dist/theme/black.css",
        FONTS + "source-sans-pro.css",
        FONTS + "source-sans-pro-regular.woff",
        REVEAL + "plugin/notes/notes.js",
    ],
    "sphinx_mathjax_offline-0.0.2": [
        "sphinx-mathjax-offline/static/mathjax/tex-svg.js",
        "sphinx-mathjax-offline/static/mathjax/core.js",
    ],
}
PNG = base64.b64encode(b"not really a picture").decode()


def tags(page):
    """[(tag, {attribute: value})] of a page."""
    found = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.append(
        (tag, dict(attributes))
    )
    parser.feed(page)
    return found


@pytest.fixture
def no_index(monkeypatch):
    """pip without a network, and without what this computer's settings say."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


@pytest.fixture
def wheels(no_index, tmp_path, monkeypatch):
    """A folder of stand-ins, from which pip takes what the course pins."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    packages = {}
    for (name, (pin, wanted)), (stem, members) in zip(
        slides.PACKAGES.items(), MEMBERS.items(), strict=True
    ):
        path = folder / f"{stem}-py3-none-any.whl"
        package, version = stem.split("-")
        with zipfile.ZipFile(path, "w") as archive:
            for member in members:
                archive.writestr(member, member)
            about = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
            archive.writestr(f"{stem}.dist-info/METADATA", about)
            archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\n")
            archive.writestr(f"{stem}.dist-info/RECORD", "")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        packages[name] = re.sub(r"(?<=sha256:)\w{64}$", digest, pin), wanted
    monkeypatch.setattr(slides, "PACKAGES", packages)
    monkeypatch.setenv("PIP_FIND_LINKS", folder.as_uri())
    return folder


def cell(kind, source, slide_type=None, **more):
    new = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
    made = new(source, **more)
    if slide_type:
        made.metadata["slideshow"] = {"slide_type": slide_type}
    return made


def lesson(folder, name, *cells):
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), path)
    return path


@pytest.fixture
def notebook(tmp_path):
    folder = tmp_path / "notebooks"
    plot = nbformat.v4.new_output(
        "display_data",
        {"image/png": PNG},
        metadata={"image/png": {"alt": 'A "falling" curve'}},
    )
    lesson(folder, "02_next", cell("markdown", "# Next"))
    (folder / "figures").mkdir()
    (folder / "figures" / "loop.svg").write_text("<svg><!-- the loop --></svg>")
    links = (
        "[next](02_next.ipynb#part) [term](glossary.md#term) [paper](https://a.org/b)"
    )
    return lesson(
        folder,
        "01_first",
        cell("markdown", "# First\n\n" + links, "slide"),
        cell("markdown", "![The loop drawn as a circle](figures/loop.svg)"),
        cell("markdown", "Say this **aloud**.", "notes"),
        cell("code", "plot()", "subslide", outputs=[plot]),
        cell("code", "unfolded_solution = 42", "skip"),
        cell("markdown", "A formula: $e^x$", "fragment"),
    )


@pytest.fixture
def page(wheels, notebook, tmp_path):
    """The deck of the notebook, as text; it stands in tmp_path/decks."""
    assert slides.main(["--output", str(tmp_path / "decks"), str(notebook)]) == 0
    return (tmp_path / "decks" / "01_first.html").read_text(encoding="utf-8")


def test_a_deck_opens_without_a_network_wherever_its_folder_is_copied(page, tmp_path):
    loading = "script", "link", "img", "iframe", "source"
    found = [
        attributes.get("src") or attributes.get("href")
        for tag, attributes in tags(page)
        if tag in loading
    ]
    files = [path for path in found if path and not path.startswith("data:")]
    assert {path.rpartition("/")[2] for path in files} == {
        "reveal.js",
        "reveal.css",
        "white.css",
        "notes.js",
        "tex-svg.js",
    }
    for path in files:
        assert not path.startswith(("/", "file:")) and ".." not in path
        assert (tmp_path / "decks" / path).is_file(), path
    loads = r"""(?:url\(|import|from|src=|fetch\()\W{0,3}(?:https?:)?//[^\s"')]*"""
    assert not re.findall(loads, page)
    assert str(tmp_path) not in page


def test_notes_are_for_the_speaker_and_skipped_cells_for_nobody(page):
    (notes,) = re.findall(r'<aside class="notes">(.*?)</aside>', page, re.DOTALL)
    assert "<strong>aloud</strong>" in notes
    assert page.count("aloud") == 1
    assert "unfolded_solution" not in page
    assert ">plot</span>" in page and "$e^x$" in page


def test_pictures_are_inside_the_deck_with_their_alt_texts(page):
    pictures = {a["alt"]: a["src"] for tag, a in tags(page) if tag == "img"}
    loop = pictures["The loop drawn as a circle"]
    assert loop.startswith("data:image/svg+xml;base64,")
    assert b"the loop" in base64.b64decode(loop.partition(",")[2])
    assert pictures['A "falling" curve'] == "data:image/png;base64," + PNG


def test_links_lead_to_decks_and_to_the_web_but_to_no_file_left_behind(page):
    links = [a["href"] for tag, a in tags(page) if tag == "a" and "href" in a]
    assert links == ["02_next.html", "https://a.org/b"]
    assert ">term</a>" in page


def test_what_a_deck_needs_is_fetched_once_and_nothing_else_is_kept(
    page, notebook, tmp_path, monkeypatch
):
    assets = tmp_path / "decks" / "assets"
    names = {path.name for path in assets.rglob("*") if path.is_file()}
    assert "source-sans-pro-regular.woff" in names and "LICENSE" in names
    assert not names & {"builders.py", "reveal.js.map", "black.css", "pins.txt"}
    assert {path.name for path in assets.iterdir()} == set(slides.PACKAGES)

    def fail(*_, **__):
        raise AssertionError("fetched again")

    monkeypatch.setattr(subprocess, "run", fail)
    assert slides.main(["--output", str(tmp_path / "decks"), str(notebook)]) == 0


def test_a_package_that_is_not_the_pinned_one_is_refused(wheels, tmp_path, capsys):
    (wheel,) = wheels.glob("sphinx_revealjs*")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr(REVEAL + "dist/reveal.js.extra", "another script")
    assert slides.main(["--output", str(tmp_path / "decks")]) == 1
    assert "DO NOT MATCH THE HASHES" in capsys.readouterr().err
    assert not list((tmp_path / "decks" / "assets").iterdir())


def test_without_a_network_the_first_run_says_what_to_do(no_index, notebook, tmp_path):
    output = tmp_path / "decks"
    command = [sys.executable, "-m", "tools.slides", "--output", output, notebook]
    run = subprocess.run(command, cwd=course.ROOT, capture_output=True, text=True)
    assert run.returncode == 1
    assert "could not be fetched" in run.stderr and "network" in run.stderr
    assert f"which is not in {output / 'assets'}" in run.stderr
    assert "Traceback" not in run.stderr
    assert not list(output.glob("*.html")) and not list((output / "assets").iterdir())


@pytest.mark.parametrize(
    "source, slide_type, named",
    [
        ("![A picture that is gone](figures/gone.svg)", "slide", "figures/gone.svg"),
        ("![A picture from afar](https://a.org/b.png)", "slide", "https://a.org/b.png"),
        ("# All of it skipped", "skip", "hidden"),
    ],
)
def test_a_lesson_that_makes_no_whole_deck_is_named(
    source, slide_type, named, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(slides, "fetch", lambda assets: None)
    path = lesson(tmp_path / "nb", "01_odd", cell("markdown", source, slide_type))
    output = tmp_path / "decks"
    assert slides.main(["--output", str(output), str(path)]) == 1
    said = capsys.readouterr().err
    assert "01_odd.ipynb" in said and named in said
    assert not list(output.glob("*.html"))
    assert slides.main(["--output", str(output), str(tmp_path / "none.ipynb")]) == 1
    assert "none.ipynb" in capsys.readouterr().err
