"""Running lessons, on small made-up ones: `… -m pytest tests/test_course.py`"""

import json
import os
import signal
import subprocess
import sys
import time

from tools import course

import nbformat
import pytest


def notebook(folder, name, *sources):
    """A notebook of code cells, with a stale output that a run must replace."""
    cells = []
    for k, source in enumerate(sources):
        cell = nbformat.v4.new_code_cell(source, id=f"cell-{k}", execution_count=40 + k)
        cell.metadata["execution"] = {"iopub.status.busy": "2020-01-01T00:00:00Z"}
        cell.outputs = [nbformat.v4.new_output("stream", text="stale\n")]
        cells.append(cell)
    nb = nbformat.v4.new_notebook(cells=cells)
    nb.metadata["widgets"] = {"state": "left over"}
    path = folder / f"{name}.ipynb"
    nbformat.write(nb, path)
    return path


def verdict_cell(outputs, lesson, claim, result):
    text = json.dumps({"lesson": lesson, "claim": claim, "result": result})
    file = outputs / "verdicts" / lesson / "one.json"
    return (
        "from pathlib import Path\n"
        f"file = Path({str(file)!r})\n"
        "file.parent.mkdir(parents=True)\n"
        f"_ = file.write_text({text!r})"
    )


def test_a_failing_lesson_is_shown_and_does_not_stop_the_next(tmp_path, capsys):
    outputs = tmp_path / "outputs"
    old = outputs / "verdicts" / "01_first" / "old.json"
    old.parent.mkdir(parents=True)
    old.write_text('{"lesson": "01_first", "claim": "stale claim", "result": "holds"}')
    os.utime(old, (2**33, 2**33))  # a clock that was set back since: from the future
    first = notebook(tmp_path, "01_first", "print('so far')", "wrong = 1 / 0", "3")
    second = notebook(
        tmp_path,
        "02_second",
        verdict_cell(outputs, "02_second", "tuned beats untuned", "undecided"),
        "import os\nprint(os.environ['COURSE_QUIET'], Path.cwd().name)",
    )
    before = first.read_text()

    assert course.run([first, second], outputs, in_place=True) == 1

    printed = capsys.readouterr().out
    assert "wrong = 1 / 0" in printed and "ZeroDivisionError: division" in printed
    assert "cell 2/3" in printed and "cell 3/3" not in printed
    table = printed[printed.index("lesson  ") :]
    assert "FAILED" in table and "undecided: tuned beats untuned" in table
    assert "stale claim" not in table

    assert first.read_text() == before, "a lesson that failed keeps its stored outputs"
    assert "ZeroDivisionError" in (outputs / "course" / "01_first.html").read_text()
    ran = nbformat.read(second, as_version=4)
    assert ran.cells[1].outputs[0].text == f"1 {tmp_path.name}\n"
    assert [cell.execution_count for cell in ran.cells] == [1, 2]
    assert [cell.id for cell in ran.cells] == ["cell-0", "cell-1"]
    assert "widgets" not in ran.metadata and "execution" not in ran.cells[0].metadata
    assert (outputs / "course" / "02_second.ipynb").read_text() == second.read_text()
    kept = json.loads((outputs / "course" / "durations.json").read_text())
    assert list(kept) == ["02_second"] and kept["02_second"]["cells"] == 2
    assert 0 < kept["02_second"]["minutes"] < 1


def test_without_in_place_the_notebook_is_left_as_it_is(tmp_path):
    path = notebook(tmp_path, "01_first", "print('fresh')")
    before = path.read_text()
    assert course.run([path], tmp_path / "outputs") == 0
    assert path.read_text() == before
    assert "fresh" in (tmp_path / "outputs" / "course" / "01_first.ipynb").read_text()
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("damaged", ["{", "[1]", "null", "a folder"])
def test_durations_that_cannot_be_read_begin_anew(damaged, tmp_path, capsys):
    path, file = notebook(tmp_path, "01_first", "1"), tmp_path / "course/durations.json"
    (file if damaged == "a folder" else file.parent).mkdir(parents=True)
    if damaged == "a folder":  # as where a disk is full: said, and the table is printed
        assert course.run([path], tmp_path) == 1
        assert "Error: " in (said := capsys.readouterr().out) and "FAILED" in said
    else:
        file.write_text(damaged)
        assert course.run([path], tmp_path) == 0
        assert list(json.loads(file.read_text())) == ["01_first"]


def test_a_cell_meant_to_fail_does_not_fail_the_lesson(tmp_path):
    path = notebook(tmp_path, "01_first", "1 / 0", "print('on')")
    nb = nbformat.read(path, as_version=4)
    nb.cells[0].metadata["tags"] = ["raises-exception"]
    nbformat.write(nb, path)
    assert course.run([path], tmp_path / "outputs") == 0


@pytest.mark.parametrize("case", ["a cell skipped", "no code"])
def test_a_lesson_that_runs_nothing_is_a_failure(case, tmp_path, capsys):
    path = notebook(tmp_path, "01_first", "print('on')", "print('and on')")
    nb = nbformat.read(path, as_version=4)
    nb.cells[1].metadata["tags"] = ["skip-execution"]
    if case == "no code":
        nb.cells = [nbformat.v4.new_markdown_cell("# First")]
    nbformat.write(nb, path)
    assert course.run([path], tmp_path / "outputs", in_place=True) == 1
    assert "code cells ran: " in capsys.readouterr().out
    assert not (tmp_path / "outputs" / "course" / "durations.json").exists()


def test_a_lesson_that_is_done_in_no_time_is_a_failure():
    assert "5 code cells in 0.001 s" in course.left_out(5, 5, 0.001)
    assert "4 of 5" in course.left_out(4, 5, 60) and "0 of 0" in course.left_out(
        0, 0, 9
    )
    assert course.left_out(5, 5, 60) is None


def test_a_dead_kernel_and_a_broken_file_are_failures_like_others(tmp_path, capsys):
    broken = tmp_path / "01_broken.ipynb"
    broken.write_text("{")
    dead = notebook(tmp_path, "02_dead", "import os\nos.kill(os.getpid(), 9)")
    assert course.run([broken, dead], tmp_path / "outputs") == 1
    printed = capsys.readouterr().out
    assert "01_broken" in printed and "NotJSONError" in printed
    assert "os.kill" in printed and "DeadKernelError" in printed


def test_a_damaged_verdict_costs_no_table(tmp_path, capsys):
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_text('{"lesson": "01"}')
    half = tmp_path / ".c.json.part" / "c.json"
    half.parent.mkdir()
    half.write_text("{")
    assert course.verdicts(tmp_path, set()) == [{"lesson": "01"}]
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{tmp_path / 'a.json'} is damaged") and "delete it" in line


@pytest.mark.skipif(os.name == "nt", reason="signals work otherwise there")
def test_ctrl_c_keeps_what_was_finished_and_prints_the_table(tmp_path):
    paths = [
        notebook(tmp_path, "01_first", "print('done')"),
        notebook(tmp_path, "02_long", "import time\ntime.sleep(60)"),
        notebook(tmp_path, "03_never", "print('never')"),
    ]
    code = "import sys; from pathlib import Path; from tools import course; " + (
        "sys.exit(course.run([Path(p) for p in sys.argv[2:]], Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "outputs"), *map(str, paths)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=course.ROOT
    )
    printed = ""
    while "02_long" not in printed:
        printed += process.stdout.readline()
    started = time.monotonic()
    while time.monotonic() - started < 3:  # in the cell, not in the start of its kernel
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=45)
    assert process.returncode == 130
    table = rest[rest.index("lesson  ") :]
    assert "01_first" in table and "02_long" not in table and "03_never" not in rest
    finished = {path.name for path in (tmp_path / "outputs" / "course").iterdir()}
    assert finished == {"01_first.ipynb", "01_first.html", "durations.json"}
