"""Lessons as slides with speaker notes, which open without a network.

    python -m tools.slides [--output DIR] [NOTEBOOK ...]

In: notebooks; the `slideshow` metadata of a cell says where a slide begins. Out: for
each a deck outputs/slides/NN_name.html, and assets/ beside the decks, to be copied with
them. It knows nothing about what lessons say.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tools.course import OUTPUTS, lessons, write

import nbformat
from nbconvert import SlidesExporter

# What a deck is shown with comes out of packages for Python: pip is wherever the course
# is, and knows the proxy there. Folder in assets/ -> pinned wheel, what to take of it.
PACKAGES = {
    "reveal.js-5.2.1": (
        "sphinx-revealjs==3.2.1 --hash=sha256:"
        "805bed3ca459346e0f01967d5ed1c40d6b7b917de1541e1e4566c8341fe7017b",
        r"sphinx_revealjs/_static/revealjs/"
        r"(LICENSE|dist/reveal\.(js|css)|plugin/notes/notes\.js"
        r"|dist/theme/(white\.css|fonts/source-sans-pro/.*(LICENSE|css|woff)))",
    ),
    "mathjax-3.2.2": (
        "sphinx-mathjax-offline==0.0.2 --hash=sha256:"
        "206418155b2ff2f57496fb8501fdccae3da978e53031ff296c73729ba16062c4",
        r"sphinx-mathjax-offline/static/mathjax/(tex-svg\.js)",
    ),
}
REVEAL, MATHJAX = (f"assets/{name}" for name in PACKAGES)

# nbconvert's own template loads require.js and jQuery besides, to do less than this.
# 88 columns of code fill the width of 1280; what is too high for a slide scrolls.
TEMPLATE = r"""
{%- extends 'index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}
<script>
MathJax = {
  tex: { inlineMath: [["$", "$"], ["\\(", "\\)"]] },
  options: {
    enableMenu: false,
    ignoreHtmlClass: "reveal",
    processHtmlClass: "jp-RenderedMarkdown|jp-RenderedLatex",
  },
};
</script>
<script defer src="{{ resources.mathjax_url }}"></script>
{%- endblock -%}
{%- block data_png scoped -%}
<div class="jp-RenderedImage jp-OutputArea-output">
<img src="data:image/png;base64,{{ output.data['image/png'] | escape_html }}"
alt="{{ (output | get_metadata('alt', 'image/png') or '') | escape_html }}">
</div>
{%- endblock -%}
{%- block html_head_css -%}
<style>
body .reveal { --r-main-font-size: 30px; --r-heading-text-transform: none;
  --r-heading1-size: 1.9em; --r-heading2-size: 1.5em; --r-heading3-size: 1.2em;
  --jp-content-font-family: var(--r-main-font); --jp-content-font-size1: 30px;
  --jp-content-line-height: 1.35; --jp-code-font-size: 22px;
  --jp-code-line-height: 1.3; }
.reveal .slides { text-align: left; }
html:not(.reveal-print) .reveal .slides > section > section { max-height: 690px;
  overflow: hidden auto; }
html:not(.reveal-print) .reveal .fragment:not(.visible) { display: none; }
.reveal .slides section section { padding: 0 8px 0 0; box-sizing: border-box; }
.reveal .slides section ::-webkit-scrollbar { width: 10px; height: 10px; }
.reveal .slides section::-webkit-scrollbar { width: 10px; }
.reveal .slides ::-webkit-scrollbar-thumb { background: #999; border-radius: 5px; }
.reveal .slides section > *, .reveal .slides .jp-Cell { padding: 0; }
.reveal .slides .jp-RenderedHTMLCommon { padding: 0; }
.reveal .slides pre { width: auto; margin: 0; box-shadow: none; font-size: 22px;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.reveal .slides .highlight { margin: 0; }
.reveal .slides .jp-OutputArea-output { overflow: auto hidden; }
.reveal .slides .jp-OutputArea-output pre { font-size: 20px; }
.reveal .slides table { font-size: 24px; margin: 8px 0; }
.reveal .slides .jp-OutputArea-output table { font-size: 20px; }
.reveal .slides .jp-RenderedHTMLCommon :not(pre) > code { font-size: 0.85em; }
.reveal .slides img { display: block; max-width: 100%; height: 470px;
  margin: 8px auto; object-fit: contain; }
.reveal .slides .jp-RenderedImage img { height: 420px; }
.reveal .slides a:not([href]) { color: inherit; }
.reveal .controls { font-size: 7px; }
.reveal .slide-number { right: auto; left: 8px; }
</style>
{%- endblock -%}
{%- block footer_js -%}
<script src="{{ resources.reveal.url_prefix }}/dist/reveal.js"></script>
<script src="{{ resources.reveal.url_prefix }}/plugin/notes/notes.js"></script>
<script>
// Notes of a slide are shown from its start, also those that follow a fragment.
for (const notes of document.querySelectorAll(".fragment aside.notes"))
  notes.closest("section").append(notes);
// The keys of a presenter's remote scroll a high slide before they leave it.
function turn(forward) {
  const slide = Reveal.getCurrentSlide(), before = slide.scrollTop;
  slide.scrollBy(0, forward ? 500 : -500);
  if (slide.scrollTop === before) forward ? Reveal.next() : Reveal.prev();
}
Reveal.on("fragmentshown", (event) =>
  event.fragment.scrollIntoView({ block: "nearest" }));
Reveal.initialize({
  width: 1280, height: 720, center: false, hash: true, transition: "none",
  slideNumber: "c/t", pdfSeparateFragments: false, plugins: [RevealNotes],
  keyboard: { 32: (event) => turn(!event.shiftKey), 33: () => turn(false),
    34: () => turn(true) },
});
</script>
{%- endblock -%}
"""


def fetch(assets: Path) -> None:
    """Put the scripts and styles of a deck into `assets`, where they are not yet there.

    Raises OSError with what pip said when they cannot be had.
    """
    assets.mkdir(parents=True, exist_ok=True)
    for name, (pin, wanted) in PACKAGES.items():
        if (assets / name).exists():
            continue
        print(f"fetching {name}", flush=True)
        with tempfile.TemporaryDirectory(dir=assets) as folder:
            scratch = Path(folder)
            (scratch / "pins.txt").write_text(pin, encoding="utf-8")
            options = ["--quiet", "--retries=1", "--no-deps", "--only-binary=:all:"]
            pip = subprocess.run(
                [sys.executable, "-m", "pip", "download", *options, "-r", "pins.txt"],
                cwd=scratch,
                capture_output=True,
                text=True,
            )
            if pip.returncode:
                raise OSError(
                    f"{pip.stderr.strip()}\n----\n"
                    f"Slides need {name}, which is not in {assets} and could not be "
                    "fetched. Run this again with a network (9 MB, once), or copy that "
                    "folder from a computer where it worked."
                )
            (wheel,) = scratch.glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                for member in archive.namelist():
                    if found := re.fullmatch(wanted, member):
                        path = scratch / "taken" / found[1]
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_bytes(archive.read(member))
            (scratch / "taken").rename(assets / name)


def relink(page: str, folder: Path) -> str:
    """Links from lesson to lesson lead from deck to deck; other files are not there."""

    def target(link: re.Match) -> str:
        path = Path(link[2].partition("#")[0])
        if path.suffix == ".ipynb" and (folder / path) in lessons(folder):
            return f'{link[1]}href="{path.stem}.html"'
        return link[1]  # without an address it is shown as text

    return re.sub(r'(<a\b[^>]*?)\bhref="(?!#|\w+:)([^"]*)"', target, page)


def deck(notebook: Path) -> str:
    """The slides of a notebook as HTML, pictures inside.

    Raises ValueError when no slide is left or a picture cannot be put inside.
    """
    nb = nbformat.read(notebook, as_version=4)
    exporter = SlidesExporter(
        raw_template=TEMPLATE,
        reveal_url_prefix=REVEAL,
        reveal_theme="white",
        mathjax_url=f"{MATHJAX}/tex-svg.js",
        embed_images=True,
        exclude_anchor_links=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    names = {"name": notebook.stem, "path": str(notebook.parent)}
    page, _ = exporter.from_notebook_node(nb, {"metadata": names})
    if outside := re.findall(r'<img\b[^>]*\bsrc="(?!data:)([^"]*)"', page):
        raise ValueError(
            f"a picture is {', '.join(outside)}, and no such file is there: mend the "
            "address in the cell; a deck shows no picture from a network"
        )
    return relink(page, notebook.parent)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.slides",
        description="Make a deck of slides with speaker notes (key s) of each lesson.",
    )
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--output", type=Path, default=OUTPUTS / "slides")
    options = parser.parse_args(argv)
    try:
        fetch(options.output / "assets")
        for notebook in options.notebooks or lessons():
            path = options.output / f"{notebook.stem}.html"
            try:
                write(path, deck(notebook.resolve()))
            except ValueError as error:
                raise ValueError(f"{notebook}: {error}") from error
            print(path, flush=True)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
