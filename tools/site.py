"""The course as a web site, from what the notebooks store: nothing is run.

    make site                    # or: python -m tools.site [--repository URL]

In: README.md, INSTRUCTORS.md, the glossary, the datasheet, the lessons. Out, below
outputs/site/: source/, the same files as Sphinx wants them; html/, the site, with each
lesson to download in html/lessons/ and its copy for Colab in html/colab/. Needs what
site/requirements.txt pins. A link that leads nowhere ends the build.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
OUTPUTS = ROOT / (os.environ.get("COURSE_OUTPUTS") or "outputs")  # as in models.py
# the branch that .github/workflows/site.yml publishes: Colab opens notebooks from there
BRANCH = "gh-pages"
FIGURES = "notebooks/figures"
# file of the repository -> page
MORE = {
    "notebooks/glossary.md": "notebooks/glossary.md",
    "INSTRUCTORS.md": "INSTRUCTORS.md",
    "data/README.md": "data/README.md",
}
FOR_COLAB = """\
# On Colab: fetches the course and its packages, a few minutes, once per session
import os

if not os.path.isdir("/content/course"):
    !git clone --quiet --depth 1 {repository} /content/course
%cd -q /content/course/notebooks
%run ../tools/colab.py"""
BEFORE_COLAB = (
    "**This copy is for Colab.** Run the next cell first. If it restarts the kernel, "
    "run it once more; then go on below. What you change here is lost with the "
    "session, unless you save a copy in Drive."
)


def lessons(root: Path = ROOT) -> list[str]:
    """Paths of the lessons in the repository, in order."""
    found = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    return [path.relative_to(root).as_posix() for path in found]


def pages(root: Path = ROOT) -> dict[str, str]:
    """File of the repository -> page of the site, both relative, in order."""
    return {"README.md": "index.md"} | {path: path for path in lessons(root)} | MORE


def origin(root: Path = ROOT) -> str | None:
    """The address on GitHub that the checkout came from, None where there is none."""
    git = ["git", "-C", str(root), "remote", "get-url", "origin"]
    try:
        found = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    except OSError:  # git is not installed
        return None
    path = re.fullmatch(r"(?:https://|git@|ssh://git@)github\.com[/:](.+?)", found)
    return f"https://github.com/{path[1].removesuffix('.git')}" if path else None


def relink(text: str, file: str, repository: str | None, root: Path = ROOT) -> str:
    """The Markdown `text` of `file` with links as the site needs them.

    Links to pages lead to pages, pictures stay; links to other files of the repository
    lead to `repository`, or are plain text where that is None. Raises ValueError when a
    link leads nowhere.
    """
    site = pages(root)
    here = (root / file).parent

    def target(link: re.Match) -> str:
        image, words, address = link.groups()
        if re.match(r"[\w+.-]+:|#|//", address):
            return link[0]
        name, mark, anchor = address.partition("#")
        path = Path(os.path.normpath(here / name))
        if not path.exists() or not path.is_relative_to(root):
            raise ValueError(
                f"{file}: the link ({address}) leads to no file of the repository: "
                "mend the address"
            )
        found = path.relative_to(root).as_posix()
        if image:
            return link[0]
        if found in site:
            start = (root / site[file]).parent
            way = os.path.relpath(root / site[found], start).replace(os.sep, "/")
            return f"[{words}]({way}{mark}{anchor})"
        if repository:
            return f"[{words}]({repository}/blob/HEAD/{found}{mark}{anchor})"
        return words

    # what stands in code is left alone
    parts = re.split(r"(^```.*?^```|`[^`\n]+`(?!\]))", text, flags=re.M | re.S)
    link = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
    parts[::2] = [link.sub(target, part) for part in parts[::2]]
    return "".join(parts)


def unfold(text: str) -> str:
    """HTML that folds Markdown, with the empty lines without which none is rendered."""
    return re.sub(
        r"\n+</details>",
        "\n\n</details>",
        text.replace("</summary>\n", "</summary>\n\n"),
    )


def buttons(file: str, repository: str | None) -> str:
    """What stands under the title of a lesson: where it can be run, as HTML."""
    name = Path(file).name
    links = [f'<a href="../lessons/{name}" download>Download the notebook</a>']
    note = ""
    if repository:
        where = repository.removeprefix("https://github.com/")
        colab = f"https://colab.research.google.com/github/{where}/blob/{BRANCH}/colab"
        binder = f"https://mybinder.org/v2/gh/{where}/HEAD?urlpath=lab/tree"
        links = [
            f'<a href="{colab}/{name}">Run in Colab</a>',
            f'<a href="{binder}/{file}">Run in Binder</a>',
            *links,
        ]
        note = (
            "<small>Colab needs a Google account. Binder needs none, but has 2 GB of "
            "memory: enough for <code>tiny</code>, not for tuning the student.</small>"
        )
    return f'<p class="run-it">{" ".join(links)}{note}</p>'


def lesson_page(
    nb: nbformat.NotebookNode,
    file: str,
    repository: str | None,
    root: Path = ROOT,
) -> nbformat.NotebookNode:
    """`nb`, changed in place, as Sphinx shows it best."""
    for place, cell in enumerate(nb.cells):
        if cell.cell_type == "markdown":
            text = unfold(relink(cell.source, file, repository, root))
            if place == 0:
                title, _, rest = text.partition("\n")
                title = f"# {Path(file).name[:2]} {title.removeprefix('# ')}"
                text = f"{title}\n\n{buttons(file, repository)}\n\n{rest.lstrip()}"
            if cell.metadata.get("slideshow", {}).get("slide_type") == "notes":
                text = text.removeprefix("*For the instructor:*").strip()
                text = (
                    "<details><summary>For the instructor</summary>\n\n"
                    f"{text}\n\n</details>"
                )
            cell.source = text
            continue
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            cell.metadata.setdefault("tags", []).append("hide-input")
        for output in cell.get("outputs", []):
            # MyST-NB takes the words for a picture from the cell, not from its output
            if alt := output.get("metadata", {}).get("image/png", {}).get("alt"):
                cell.metadata["mystnb"] = {"image": {"alt": alt}}
    return nb


def colab_copy(nb: nbformat.NotebookNode, repository: str) -> nbformat.NotebookNode:
    """`nb`, changed in place, with the set-up before its first cell and no outputs."""
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nb.cells[:0] = [
        nbformat.v4.new_markdown_cell(BEFORE_COLAB, id="colab-words"),
        nbformat.v4.new_code_cell(
            FOR_COLAB.format(repository=repository), id="colab-set-up"
        ),
    ]
    return nb


def contents(root: Path = ROOT) -> str:
    """The table of contents, as MyST has it."""
    groups = {"Lessons": lessons(root), "More": list(MORE)}
    return "\n".join(
        f"\n```{{toctree}}\n:hidden:\n:caption: {name}\n"
        + "\n".join(path.rpartition(".")[0] for path in paths)
        + "\n```"
        for name, paths in groups.items()
    )


def lay_out(source: Path, repository: str | None, root: Path = ROOT) -> None:
    """Write what Sphinx reads into the folder `source`, which is made anew."""
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(root / FIGURES, source / FIGURES)
    (source / "_static").mkdir()
    shutil.copy(root / "site" / "style.css", source / "_static")
    shutil.copy(root / "site" / "conf.py", source)  # its paths are relative to it
    extra = source / "_extra"
    (extra / "lessons").mkdir(parents=True)
    (extra / "colab").mkdir()
    for file, page in pages(root).items():
        goal = source / page
        goal.parent.mkdir(parents=True, exist_ok=True)
        if file.endswith(".ipynb"):
            read = (root / file).read_text(encoding="utf-8")
            (extra / "lessons" / goal.name).write_text(read, encoding="utf-8")
            if repository:
                copy = colab_copy(nbformat.reads(read, as_version=4), repository)
                nbformat.write(copy, extra / "colab" / goal.name)
            nb = nbformat.reads(read, as_version=4)
            nbformat.write(lesson_page(nb, file, repository, root), goal)
            continue
        text = (root / file).read_text(encoding="utf-8")
        text = unfold(relink(text, file, repository, root))
        if not re.search(
            r"^## ", text, re.M
        ):  # the glossary's words are one level lower
            text = re.sub(r"^### ", "## ", text, flags=re.M)
        if page == "index.md":
            text += contents(root)
        goal.write_text(text, encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.site",
        description="Make the lessons into a web site, from their stored outputs.",
    )
    parser.add_argument("--output", type=Path, default=OUTPUTS / "site")
    parser.add_argument(
        "--repository",
        metavar="URL",
        default=origin(),
        help="where the course is on GitHub, for the buttons of Colab and Binder "
        "(otherwise: where this checkout came from; without one, no such buttons)",
    )
    options = parser.parse_args(argv)
    repository = (options.repository or "").rstrip("/") or None
    if repository and not re.fullmatch(
        r"https://github\.com/[\w.-]+/[\w.-]+", repository
    ):
        parser.error(
            f"--repository is {repository}, and Colab and Binder need a repository "
            "like https://github.com/OWNER/NAME"
        )
    try:
        from sphinx.cmd.build import main as sphinx
    except ImportError:
        print(
            "Sphinx is not in this Python: use `make site`, or first run "
            f"{sys.executable} -m pip install -r site/requirements.txt",
            file=sys.stderr,
        )
        return 1
    source, html = options.output / "source", options.output / "html"
    try:
        lay_out(source, repository)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    shutil.rmtree(html, ignore_errors=True)
    arguments = ["-q", "-b", "html", "-d", str(options.output / "doctrees")]
    arguments += ["-n", "-W", "--keep-going", "-E"]
    if repository:
        arguments += ["-D", f"html_theme_options.repository_url={repository}"]
        arguments += ["-D", "html_theme_options.use_repository_button=1"]
    failed = sphinx([*arguments, str(source), str(html)])
    if not failed:
        print(f"{html / 'index.html'}: open it in a browser")
    return failed


if __name__ == "__main__":
    sys.exit(main())
