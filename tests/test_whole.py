"""Run with `python -m pytest tests/test_whole.py`: seconds, no network needed.

What is written is whole or is not there, and what was damaged since is told. The faults
themselves, by the hundred, are those of tools/faults.py; here is a sample of them.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from helpers import files, models, runs, whole
from tools import faults

import filelock
import pytest
import safetensors.torch
import torch

pytestmark = pytest.mark.usefixtures("one_thread")
unix = pytest.mark.skipif(os.name == "nt", reason="signals work otherwise there")


def test_what_cannot_be_finished_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    whole.write(path, "old")
    with pytest.raises(ZeroDivisionError), whole.beside(path) as made:
        made.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and [*tmp_path.iterdir()] == [path]


def test_what_a_killed_process_left_is_cleared(tmp_path):
    left = tmp_path / ".out.part" / "out"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    with whole.beside(tmp_path / "out") as made:
        assert not made.exists()
        made.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not list((tmp_path / "out").iterdir())


@unix
def test_rows_that_a_killed_process_was_writing_are_cleared_by_the_next(tmp_path):
    code = f"""
import os
from helpers import files
def rows():
    yield {{"text": "half"}}
    os.kill(os.getpid(), 9)
files.write({str(tmp_path / "a.jsonl")!r}, rows())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=models.ROOT)
    assert done.returncode == -signal.SIGKILL and not (tmp_path / "a.jsonl").exists()
    files.write(tmp_path / "a.jsonl", [{"text": "all"}])
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_two_that_write_one_thing_do_not_mix(tmp_path):
    with whole.beside(tmp_path / "out") as made:
        made.mkdir()
        with pytest.raises(OSError, match="another process is writing .*out: wait"):
            with whole.beside(tmp_path / "out"):
                pytest.fail("both at once")
    path = tmp_path / "a.txt"
    texts = [letter * 100_000 for letter in "abcdefgh"]
    threads = [threading.Thread(target=whole.write, args=(path, t)) for t in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts


@pytest.mark.parametrize(
    "fault",
    [
        OSError(28, "No space left on device"),
        Exception("No space left on device (os error 28)"),  # as tokenizers says it
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos"),
    ],
)
def test_a_full_disk_is_told_with_its_remedy_whoever_finds_it(fault, tmp_path):
    with pytest.raises(OSError, match=r"could not write .*out \(.*\): free some space"):
        with whole.told(tmp_path / "out"):
            raise fault


@pytest.mark.parametrize("fault", [ValueError("x"), OSError("worded: do this")])
def test_other_faults_pass_as_they_are(fault, tmp_path):
    with pytest.raises(type(fault)) as caught, whole.told(tmp_path):
        raise fault
    assert caught.value is fault


def test_safetensors_own_error_is_one_of_these(tmp_path):
    with pytest.raises(OSError, match="free some space"), whole.told(tmp_path):
        safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / "none" / "a")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_file_of_a_shipped_model_is_told(name, tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    for path in models.TINY.iterdir():
        if path.name != name:
            (folder / path.name).symlink_to(path)
    data = bytearray((models.TINY / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(OSError, match=f"{name} is damaged: its SHA-256.*Get the fold"):
        models.load(str(folder))
    (folder / whole.SUMS).unlink()  # as it says, for one who changed it on purpose
    whole.check(folder)


class RunMe:
    """Makes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.fixture
def checkpoints(tmp_path):
    """Two of a run, as Trainer leaves them, of a net with one layer; the second."""
    net = torch.nn.Linear(9, 9)
    net(torch.ones(9)).sum().backward()
    optimizer = torch.optim.AdamW(net.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1)
    for step in (1, 2):
        optimizer.step(), schedule.step()
        place = tmp_path / "checkpoints" / f"checkpoint-{step}"
        runs.save_trained(net, str(place))
        with runs.unchecked():
            torch.save(optimizer.state_dict(), place / "optimizer.pt")
            torch.save(schedule.state_dict(), place / "scheduler.pt")
        state = {"python": 1, "numpy": 2, "cpu": torch.ones(9)}
        torch.save(state, place / "rng_state.pth")
        (place / runs.STATE).write_text(json.dumps({"global_step": step, "epoch": 1}))
    return place


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
@pytest.mark.parametrize("what", ["code", "nothing", "a list", "another model's"])
def test_a_strangers_checkpoint_is_told_and_not_gone_on_from(
    name, what, checkpoints, tmp_path, capsys
):
    other = torch.optim.AdamW([torch.nn.Parameter(torch.ones(3))]).state_dict()
    found = {"code": RunMe(tmp_path / "ran"), "nothing": {}, "a list": [1]}
    torch.save(found.get(what, other), checkpoints / name)
    (checkpoints / whole.SUMS).unlink()  # as one who means harm would
    assert runs.last_checkpoint(tmp_path).name == "checkpoint-1"
    (line,) = capsys.readouterr().out.splitlines()
    assert f"{name} is damaged (" in line and line.endswith("going back to before it")
    assert "weights_only" not in line  # torch's advice would run it
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("shape", [(9, 8), (1,)])
def test_weights_of_another_model_are_not_put_into_this_one(shape, checkpoints):
    weights = {"weight": torch.ones(shape), "bias": torch.ones(9)}
    safetensors.torch.save_file(weights, checkpoints / runs.TRAINED)
    with pytest.raises(OSError, match="of another model, by its weight: delete"):
        runs.load_trained(torch.nn.Linear(9, 9), str(checkpoints))


def test_a_damaged_checkpoint_is_not_gone_on_from(checkpoints, tmp_path, capsys):
    place = checkpoints
    assert runs.last_checkpoint(tmp_path) == place
    for name, at in [(runs.TRAINED, -5), ("optimizer.pt", 700)]:
        data = bytearray((place / name).read_bytes())
        data[at] ^= 1
        (place / name).write_bytes(data)
        assert runs.last_checkpoint(tmp_path).name == "checkpoint-1"
        assert f"{name} is damaged" in capsys.readouterr().out
        data[at] ^= 1
        (place / name).write_bytes(data)
    for text in ({"global_step": 1}, {"global_step": 2, "epo4h": 1}, [2]):
        (place / runs.STATE).write_text(json.dumps(text))
        assert runs.last_checkpoint(tmp_path).name == "checkpoint-1"
    assert runs.last_checkpoint(tmp_path).name == "checkpoint-1"


def test_a_second_process_does_not_train_into_the_same_folder(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with filelock.FileLock(tmp_path / "checkpoints" / "lock"):
        with pytest.raises(OSError, match="another process is tuning into it: wait"):
            runs.begin(tmp_path, {})
    runs.begin(tmp_path, {})
    runs.begin(tmp_path, {})  # in the same kernel, after Ctrl-C
    runs.forget(tmp_path)
    assert not tmp_path.exists()


@pytest.mark.parametrize("left", ["run.tmp", "checkpoints/lock"])
def test_a_run_killed_in_its_first_moment_keeps_no_folder_occupied(left, tmp_path):
    (tmp_path / left).parent.mkdir(exist_ok=True)
    (tmp_path / left).touch()
    assert not runs.finished(tmp_path, {})
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
    (tmp_path / "checkpoints" / "mine.txt").touch()
    with pytest.raises(FileExistsError, match="not empty"):
        runs.finished(tmp_path, {})


@unix
def test_ctrl_c_that_falls_into_a_destructor_comes_again():
    code = """
import helpers, signal, time
class Resource:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
try:
    Resource()
    time.sleep(20)
except KeyboardInterrupt:
    print("came")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=models.ROOT, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("came\n", "")


@unix
def test_ctrl_c_while_a_command_imports_is_one_line(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "helpers.training"],
        cwd=models.ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    while "filelock" not in (line := process.stderr.readline()):
        assert line, "nothing was imported"
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1].splitlines()
    said = [line for line in said if line and not line.startswith("import time:")]
    assert said == ["stopped; the same command begins anew"]
    assert process.returncode == 130


# A sample of tools/faults.py, and that it sees what it is for


SAMPLE = ["kill lora", "disk rows", "two rows", "kill rows", "clock verdict"]
SAMPLE += ["byte tiny config.json", "byte tiny tokenizer.json", "endpoint cut"]


@unix
def test_nothing_is_lost_in_a_sample_of_faults(capsys):
    assert faults.main([*SAMPLE, "--share", "0"]) == 0
    assert f"{len(SAMPLE)} runs, 0 lost" in capsys.readouterr().out


@unix
def test_a_file_that_is_not_written_whole_is_seen(tmp_path, monkeypatch):
    def in_place(place: Path) -> int:
        (place / "a").write_text("[1")
        (place / "b").touch()
        (place / "a").write_text("[1, 2]")
        return 0

    monkeypatch.setattr(faults.KNOWN, "folder", tmp_path / "known", raising=False)
    careless = faults.on_file("careless", in_place, "a", "[]")
    monkeypatch.setitem(faults.WORKS, "careless", careless)
    faults.learn("careless")
    seen = []
    for seed in range(8):
        place = tmp_path / f"{seed}" / "place"
        place.mkdir(parents=True)
        try:
            faults.kill("careless", faults.random.Random(seed), place)
        except faults.Lost as lost:
            seen.append(str(lost))
    assert "left a, neither old nor new" in seen
