"""Run with `python -m pytest tests/test_export.py`: two minutes, no network needed.

What is handed over as GGUF answers in llama.cpp as it did here, and what cannot be
written is refused before anything is.
"""

import json

from helpers import adapters, evaluation, inference, models, records

import pytest

pytestmark = pytest.mark.usefixtures("one_thread")
llama = pytest.importorskip("xllamacpp")


@pytest.fixture(scope="module")
def asked():
    test = [row for row in records.load("faq")["test"] if row["kind"] == "paraphrase"]
    return test[::10]


@pytest.fixture(scope="module")
def ours(asked):
    model, tokenizer = models.load("wren")
    prompts = [records.prompt(row) for row in asked]
    return inference.generate(prompts, model, tokenizer, max_new_tokens=48)


def served(path, rows):
    """Greedy answers by llama.cpp; the prompt by the template that the file carries."""
    options = llama.CommonParams()
    options.model.path = str(path)
    options.n_ctx, options.n_parallel, options.cpuparams.n_threads = 512, 1, 1
    server = llama.Server(options)
    answers = []
    for row in rows:
        said = server.handle_chat_completions(
            {"messages": records.prompt(row), "max_tokens": 48, "temperature": 0.0}
        )
        said = said if isinstance(said, dict) else json.loads(said)
        answers.append(said["choices"][0]["message"]["content"].strip())
    return answers


@pytest.mark.parametrize(("bits", "same", "size"), [(16, 0.9, 280), (4, 0.3, 100)])
def test_an_exported_adapter_answers_as_it_did(tmp_path, asked, ours, bits, same, size):
    if models.student() != "smollm2":
        pytest.skip("needs the student")
    path = tmp_path / "wren.gguf"
    assert models.main(["export", "wren", str(path), "--bits", str(bits)]) == 0
    assert path.stat().st_size < size * 1e6
    assert [file.name for file in tmp_path.iterdir()] == ["wren.gguf"]
    answers = served(path, asked)
    equal = [a == b for a, b in zip(answers, ours, strict=True)]
    assert sum(equal) >= same * len(equal)
    right = [
        sum(
            evaluation.has_key(a, row["keys"]) for a, row in zip(by, asked, strict=True)
        )
        for by in (answers, ours)
    ]
    assert abs(right[0] - right[1]) <= (3 if bits == 16 else 6)


REFUSED = {
    "no bits": (["wren", "{}/x.gguf", "--bits", "5"], "choose 16, 8 or 4"),
    "no suffix": (["wren", "{}/x.bin"], "ends in .gguf"),
    "no model": (["{}", "{}/x.gguf"], "holds no model"),
    "nobody": (["nobody", "{}/x.gguf"], "no model 'nobody'"),
    "there already": (["wren", "{}/old.gguf"], "there already"),
    "unknown to llama.cpp": (["tiny", "{}/x.gguf"], "does not take"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_cannot_be_exported_is_told_in_a_line(tmp_path, capsys, fault):
    arguments, word = REFUSED[fault]
    (tmp_path / "old.gguf").write_text("kept")
    assert models.main(["export", *(a.format(tmp_path) for a in arguments)]) == 1
    printed = capsys.readouterr()
    assert word in printed.err and len(printed.err.strip().splitlines()) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["old.gguf"]
    assert (tmp_path / "old.gguf").read_text() == "kept"


def test_a_converter_that_fails_half_way_leaves_nothing(tmp_path, monkeypatch):
    def fail(folder, output, kind):
        output.write_text("half")
        raise OSError("the disk is full")

    monkeypatch.setattr(adapters, "_convert", fail)
    with pytest.raises(OSError, match="full"):
        adapters.export("tiny", str(tmp_path / "x.gguf"))
    assert not list(tmp_path.iterdir())
