"""Run with `python -m pytest tests/test_notebooks.py`: reads the notebooks, runs none.

What nbval cannot see: that there is something to compare, that a lesson can be read.
"""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IGNORE = "nbval-ignore-output"
MACHINE_PATH = re.compile(
    r"(?<![\w.])/(?:home|root|Users|tmp|work|mnt|var)/|[A-Z]:\\\\"
)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook):
    return [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]


def tags(cell):
    return cell.metadata.get("tags", [])


def pictures(cell):
    """The alt texts of the pictures in a cell's outputs, "" where there is none."""
    return [
        output.get("metadata", {}).get("image/png", {}).get("alt", "")
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]


def test_every_notebook_is_a_numbered_lesson_and_none_is_missed_by_nbval():
    assert NOTEBOOKS
    assert all(re.match(r"\d\d_\w+$", path.stem) for path in NOTEBOOKS)
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\ntest:")[2]
    recipe = recipe.partition("\n\n")[0]
    assert re.search(r"--nbval(\s|\\|$)", recipe) and "--nbval-lax" not in recipe
    assert re.search(r"\snotebooks\s*$", recipe), "make test must run the whole folder"


def test_a_notebook_is_valid_and_was_run_from_top_to_bottom(notebook):
    nbformat.validate(notebook)
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert "widgets" not in notebook.metadata


def test_no_error_and_no_warning_is_stored(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            assert output.output_type != "error" or "raises-exception" in tags(cell)
            assert output.get("name") != "stderr", output.text


def test_no_path_of_the_machine_it_ran_on_is_stored(notebook):
    for cell in notebook.cells:
        text = cell.source + str(cell.get("outputs", ""))
        assert not MACHINE_PATH.search(text), MACHINE_PATH.findall(text)


def test_at_least_six_of_ten_outputs_are_compared(notebook):
    printed = [cell for cell in code_cells(notebook) if cell.outputs]
    compared = [cell for cell in printed if IGNORE not in tags(cell)]
    assert len(compared) >= 0.6 * len(printed), f"{len(compared)} of {len(printed)}"


def test_an_output_that_is_not_compared_has_its_reason_and_an_assertion_near(notebook):
    cells = code_cells(notebook)
    for place, cell in enumerate(cells):
        if IGNORE in tags(cell):
            assert len(cell.metadata.get("reason", "").split()) >= 3, cell.source
            near = cells[place : place + 3]  # the cell itself or one of the next two
            assert any(re.search(r"^\s*assert ", c.source, re.M) for c in near), (
                cell.source
            )


def test_headings_are_one_title_and_no_level_skipped(notebook):
    levels = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"```.*?```", "", cell.source, flags=re.DOTALL)
            levels += [len(m[1]) for m in re.finditer(r"^(#+) ", text, re.M)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))


def test_folded_text_is_read_as_markdown(notebook):
    """Without a blank line around it, its stars and links show as they are typed."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for folded in re.findall(r"</summary>(.*?)</details>", cell.source, re.S):
                assert folded.startswith("\n\n") and folded.endswith("\n\n"), folded


def test_every_picture_has_words_for_those_who_do_not_see_it(notebook):
    for cell in notebook.cells:
        for alt in pictures(cell):
            assert len(alt.split()) >= 5, cell.source
        for alt in re.findall(r"!\[(.*?)\]\(", cell.source):
            assert len(alt.split()) >= 5, cell.source
        for image in re.findall(r"<img[^>]*>", cell.source):
            assert re.search(r'alt="[^"]{20,}"', image), image


def test_a_sentence_after_every_plot_says_what_it_shows(notebook):
    for cell, following in zip(notebook.cells, notebook.cells[1:], strict=False):
        if pictures(cell):
            assert following.cell_type == "markdown", cell.source
            first = following.source.strip().splitlines()[0]
            assert re.search(r"\bshows?\b", first), first
    assert not pictures(notebook.cells[-1])


def test_no_code_line_is_cut_off_on_a_projector(notebook):
    for cell in code_cells(notebook):
        for line in cell.source.splitlines():
            assert len(line) <= 88, line


def anchors(path):
    """The anchors of a Markdown file's headings, as GitHub and JupyterLab make them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    }


def test_no_link_or_picture_leads_nowhere(notebook):
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        for target in re.findall(r"\]\(([^)\s]+)\)", cell.source):
            if not target.startswith(("http:", "https:", "#")):
                name, _, anchor = target.partition("#")
                path = ROOT / "notebooks" / name
                assert path.is_file(), target
                assert not anchor or anchor in anchors(path), target


def test_every_exercise_has_a_solution_that_is_folded_and_right(notebook):
    open_ones, solved = [], []
    for cell in code_cells(notebook):
        calls = re.findall(r"^exercises\.(\w+)\(", cell.source, re.M)
        printed = "".join(output.get("text", "") for output in cell.outputs)
        if not calls:
            continue
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            assert printed.strip() == "right", cell.source
            solved += calls
        else:
            assert printed.strip() == "not done yet", cell.source
            open_ones += calls
    assert open_ones == solved
    if "import exercises" in str(notebook) or open_ones:
        assert len(open_ones) >= 3


def test_every_cell_of_a_lesson_with_slides_has_its_place_in_them(notebook):
    kinds = [c.metadata.get("slideshow", {}).get("slide_type") for c in notebook.cells]
    if any(kinds):
        assert all(kinds)
        assert kinds.count("slide") >= 5 and kinds.count("notes") >= 3


# DESIGN: what a person can take in at a sitting of 75 minutes
LIMITS = {"code cells": 45, "words": 3500, "predictions": 5, "verdicts": 3}


def prose(notebook):
    """The Markdown cells, without code in them, comments and HTML tags."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"```.*?```|`[^`\n]*`", "", cell.source, flags=re.DOTALL)
            yield re.sub(r"<[^>]+>", "", text)


def test_a_lesson_stays_within_a_sitting(notebook):
    """An exception stands in the notebook's metadata, "exceptions": limit -> reason."""
    sources = [cell.source for cell in code_cells(notebook)]
    written = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    found = {
        "code cells": len(sources),
        "words": sum(len(text.split()) for text in written),
        "predictions": sum(len(re.findall(r"\*\*Predict\b", t)) for t in written),
        "verdicts": sum(text.count("evaluation.verdict(") for text in sources),
    }
    exceptions = notebook.metadata.get("exceptions", {})
    over = {name for name in LIMITS if found[name] > LIMITS[name]}
    assert over == set(exceptions), found
    assert all(len(reason.split()) >= 5 for reason in exceptions.values())


def test_the_first_thing_a_learner_sees_is_short(notebook):
    sources = [cell.source for cell in code_cells(notebook)]
    assert len(sources[0].splitlines()) <= 8
    for source in sources:
        assert len(source.splitlines()) <= 20, source


def printed_text(notebook):
    parts = []
    for cell in code_cells(notebook):
        for output in cell.outputs:
            parts.append(output.get("text", ""))
            data = output.get("data", {})
            parts += [data.get("text/plain", ""), str(data.get("text/html", ""))]
    return "\n".join(parts)


def test_every_percentage_in_prose_was_printed(notebook):
    """Whole, or as a share (0.795), or rounded from what was printed. 95 is free: it is
    the level of every interval."""
    figures = [float(x) for x in re.findall(r"\d+(?:\.\d+)?", printed_text(notebook))]
    for text in prose(notebook):
        for said in re.findall(r"(\d+(?:\.\d+)?)\s?(?:%|per ?cent\b)", text):
            places = len(said.partition(".")[2])
            shown = any(
                abs(round(figure * scale, places) - float(said)) < 10**-places / 2
                for figure in figures
                for scale in (1, 100)
            )
            assert said == "95" or shown, text


def terms():
    """What the glossary explains -> its anchor."""
    text = (ROOT / "notebooks" / "glossary.md").read_text(encoding="utf-8")
    names = re.findall(r"^### (.+)$", text, re.M)
    return {n: re.sub(r"[^\w\- ]", "", n.lower()).replace(" ", "-") for n in names}


# words of the glossary that prose also uses in their everyday sense
EVERYDAY = {
    "Behaviour",
    "Context",
    "Job",
    "Student",
    "Net",
    "Step",
    "Seed",
    "Vocabulary",
}


def test_a_word_of_the_glossary_is_linked_where_it_is_first_used(notebook):
    text = "\n\n".join(prose(notebook))
    other = r"^#.*$|!\[[^\]]*\]\([^)]*\)|\[[^\]]*\]\([^)]*ipynb[^)]*\)"
    text = re.sub(other, "", text, flags=re.M)
    late = {}
    for term, anchor in terms().items():
        word = re.escape(term.lower()).replace(r"\ ", r"\s")
        used = re.search(rf"(?<![\w/#-]){word}s?(?![\w-])", text.lower())
        if used and term not in EVERYDAY:
            link = text.find(f"(glossary.md#{anchor})")
            if link < 0 or text.rfind("[", 0, link) > used.start():
                late[term] = text[max(0, used.start() - 40) : used.end() + 20]
    assert not late
