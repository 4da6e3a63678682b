"""Run with `python -m pytest tests/test_security.py`: seconds, loopback only.

Strangers' models, hubs and rows, tried as an attacker would: what they plant must not
run, leave its place or be shown as code; and secrets stay out of what a run leaves.
"""

import ast
import io
import json
import os
import pickle
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

from helpers import inference, models, records, runs, strangers, training
from tools import course, slides

import huggingface_hub
import nbformat
import pytest
import safetensors.torch
import torch
from hub import Hub, _Handler
from huggingface_hub import constants
from test_house import LESSONS, ROOT, code

FOLDERS = ["helpers", "tools", "exercises", "examples", "benchmarks"]
MODULES = sorted(path for f in FOLDERS for path in (ROOT / f).rglob("*.py"))


# What our own code may not use


def unsafe(source: str) -> list[str]:
    """What in a program runs what it reads, by line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            names += [getattr(node, "module", None) or ""]
            banned = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}
            names = banned.intersection(name.split(".")[0] for name in names)
            found += [f"{node.lineno}: import {name}" for name in names]
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        bad = called in ("eval", "exec", "os.system", "os.popen", "yaml.load")
        bad |= called.endswith(("torch.load", "joblib.load", "read_pickle"))
        bad &= given.get("weights_only") != "True"
        bad |= given.get("shell", "False") != "False"
        bad |= given.get("allow_pickle", "False") != "False"
        bad |= given.get("trust_remote_code", "False") != "False"
        found += [f"{node.lineno}: {ast.unparse(node)}"] * bad
    return found


@pytest.mark.parametrize("path", [*MODULES, *LESSONS], ids=lambda path: path.stem)
def test_nothing_of_ours_runs_what_it_reads(path):
    found = unsafe(code(path))
    if path.name == "faults.py":  # puts faults into our own modules, and runs those
        found = [line for line in found if "exec(code, vars(module)" not in line]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "eval(text)",
        "exec(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "yaml.load(text)",
        "subprocess.run(line, shell=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=asked)",
        "numpy.load(path, allow_pickle=True)",
        "os.system(line)",
    ],
)
def test_the_search_for_what_runs_what_it_reads_finds_it(line):
    assert unsafe(f"def f():\n    {line}\n")
    assert not unsafe("model.eval()\nre.compile(text)\nyaml.safe_load(text)")


# What comes with a model


@pytest.fixture
def marker(tmp_path):
    """A file that only code of an attacker would make."""
    path = tmp_path / "ran"
    yield path
    assert not path.exists(), "code of a stranger was run"


def run_me(marker):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    return Evil()


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def pickled(folder, evil, source):
    (folder / "model.safetensors").unlink()
    torch.save(evil, folder / "pytorch_model.bin")


def pickled_of_old(folder, evil, source):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(evil))


def pickled_by_name(folder, evil, source):
    (folder / "model.safetensors").write_bytes(pickle.dumps(evil))


def named_in_the_index(name):
    def spoil(folder, evil, source):
        file = folder / "model.safetensors"
        found = dict.fromkeys(safetensors.torch.load_file(file), name)
        file.rename(folder.parent / "outside.safetensors")
        torch.save(evil, folder / "evil.bin")
        index = {"metadata": {}, "weight_map": found}
        (folder / strangers.INDEX).write_text(json.dumps(index))

    return spoil


def code_of_a_model(folder, evil, source):
    (folder / "evil.py").write_text(source)
    own = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}
    change(folder / "config.json", auto_map=own, model_type="evil")


def code_of_a_tokenizer(folder, evil, source):
    (folder / "evil.py").write_text(source)
    own = {"AutoTokenizer": ["evil.T", "evil.T"]}
    change(folder / "tokenizer_config.json", auto_map=own, tokenizer_class="T")
    (folder / "tokenizer.json").unlink()


def code_of_the_hub(folder, evil, source):
    change(folder / "config.json", attn_implementation="someone/kernel")


def template(text):
    def spoil(folder, evil, source):
        (folder / "chat_template.jinja").write_text(text)

    return spoil


MODELS = {
    "pickled": (pickled, "its weights are no safetensors"),
    "pickled as of old": (pickled_of_old, "its weights are no safetensors"),
    "pickled under another name": (pickled_by_name, "cut or damaged"),
    "pickled part": (named_in_the_index("evil.bin"), "'evil.bin', which is no"),
    "part outside": (named_in_the_index("../outside.safetensors"), "no safetensors"),
    "code": (code_of_a_model, "which the course never runs"),
    "tokenizer's code": (code_of_a_tokenizer, "does not load as a model"),
    "kernel": (code_of_the_hub, "someone/kernel"),
    "range": (template("{% for i in range(10**9) %}x{% endfor %}"), "fails"),
    "division": (template("{{ 1 // 0 }}"), "its chat template fails"),
    "recursion": (template("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), "fails"),
    "flood": (template("{{ 'a' * 10**7 }}"), "writes 10,000,000 characters"),
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_stranger_s_model_is_refused_in_a_sentence_and_runs_nothing(
    kind, start, tmp_path, marker, monkeypatch
):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\ny\ny\n"))
    folder = shutil.copytree(start, tmp_path / "model")
    spoil, said = MODELS[kind]
    spoil(folder, run_me(marker), f"import os\nos.mkdir({str(marker)!r})")
    with pytest.raises(OSError, match=re.escape(said)) as caught:
        models.load(str(folder))
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


def test_what_lies_beside_a_good_model_is_left_alone(start, tmp_path, marker):
    folder = shutil.copytree(start, tmp_path / "model")
    torch.save(run_me(marker), folder / "pytorch_model.bin")
    torch.save(run_me(marker), folder / "training_args.bin")
    (folder / "custom_generate").mkdir()
    source = f"import os\nos.mkdir({str(marker)!r})"
    (folder / "custom_generate" / "generate.py").write_text(source)
    model, tokenizer = models.load(str(folder))
    inference.generate("Hi", model, tokenizer, 1)


def test_an_adapter_of_pickled_weights_is_refused(adapter, tmp_path, marker):
    folder = shutil.copytree(adapter, tmp_path / "adapter")
    (folder / "adapter_model.safetensors").unlink()
    torch.save(run_me(marker), folder / "adapter_model.bin")
    with pytest.raises(OSError, match="adapter_model.safetensors"):
        models.load(str(folder))


OPEN = "['__builtins__']['open']('{marker}', 'w')"
ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''|attr('__class__')|attr('__mro__') }}",
    "{{ cycler.__init__.__globals__.os.mkdir('{marker}') }}",
    "{{ raise_exception.__globals__" + OPEN + " }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(cycler) }}",
    "{{ messages.append(1) }}",
    "{% include '/etc/passwd' %}",
]


@pytest.mark.parametrize("text", ESCAPES)
def test_no_chat_template_gets_out_of_its_sandbox(text, tokenizer, marker, monkeypatch):
    text = text.replace("{marker}", str(marker))
    monkeypatch.setattr(tokenizer, "chat_template", text)
    talk = [{"role": "user", "content": "Hi"}]
    try:
        wrote = tokenizer.apply_chat_template(talk, tokenize=False)
    except Exception:
        wrote = ""
    assert wrote == "" and talk == [{"role": "user", "content": "Hi"}]


def test_a_stranger_s_checkpoint_runs_nothing_when_its_run_goes_on(
    start, tmp_path, marker, monkeypatch, capsys
):
    """Trainer keeps the optimizer in a form that could hold code."""
    rows = [{"question": f"Is {n} on?", "answer": "Yes."} for n in range(4)]
    settings = {"output": tmp_path / "out", "epochs": 2, "batch_size": 4}

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(runs, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            training.finetune(*models.load(str(start)), rows, **settings)
    last = runs.last_checkpoint(tmp_path / "out")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        assert (last / name).exists()
        torch.save(run_me(marker), last / name)
    (last / "SHA256SUMS").unlink()
    capsys.readouterr()
    training.finetune(*models.load(str(start)), rows, **settings)
    said = capsys.readouterr().out.splitlines()
    assert "optimizer.pt is damaged" in said[0] and "going back" in said[0]
    assert "going on from" in said[1] and said[1].endswith("checkpoint-1")


# What a hub says


class Liar(_Handler):
    """Says that a file belongs elsewhere."""

    def send(self, status, body, **headers):
        for name in {"ETag", "X_Repo_Commit"} & headers.keys() & self.server.lies:
            headers[name] = self.server.lies_to
        super().send(status, body, **headers)


@pytest.fixture
def liar(tmp_path, monkeypatch):
    repository = tmp_path / "hub" / "models" / "some" / "one"
    repository.mkdir(parents=True)
    (repository / "config.json").write_text("{}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    huggingface_hub.close_session()
    with Hub(tmp_path / "hub") as hub:
        hub.RequestHandlerClass = Liar
        hub.lies, hub.lies_to = set(), ""
        yield hub
    huggingface_hub.close_session()


@pytest.mark.parametrize("header", ["ETag", "X_Repo_Commit"])
@pytest.mark.parametrize("up", ["{}/outside", "../../../../outside", "..", "a\\b"])
def test_no_hub_writes_outside_of_its_folder(header, up, liar, tmp_path):
    """huggingface_hub 2.4 takes both for parts of a path."""
    liar.lies, liar.lies_to = {header}, up.format(tmp_path)
    home = tmp_path / "a" / "b" / "c"
    before = sorted((tmp_path / "hub").rglob("*"))
    with pytest.raises(OSError, match="names a place outside"):
        huggingface_hub.hf_hub_download(
            "some/one", "config.json", endpoint=liar.url, cache_dir=home
        )
    assert not [p for p in tmp_path.rglob("*") if "outside" in p.name]
    assert sorted((tmp_path / "hub").rglob("*")) == before


@pytest.mark.parametrize("name", ["../up.json", "/abs.json", "a/../../up.json"])
def test_no_name_of_a_file_leads_out_of_the_folder(name, liar, tmp_path):
    with pytest.raises((ValueError, OSError)):
        huggingface_hub.hf_hub_download(
            "some/one", name, endpoint=liar.url, cache_dir=tmp_path / "a" / "b"
        )
    assert not [p for p in tmp_path.rglob("*.json") if "hub" not in p.parts]


def test_an_honest_hub_is_believed(liar, tmp_path):
    home = tmp_path / "home"
    file = huggingface_hub.hf_hub_download(
        "some/one", "config.json", endpoint=liar.url, cache_dir=home
    )
    assert home in Path(file).parents and Path(file).read_text() == "{}"


# Secrets

SECRETS = {
    "HF_TOKEN": "hf_planted0001",
    "OPENAI_API_KEY": "sk-planted0002",
    "COURSE_ENDPOINT_KEY": "sk-planted0003",
    "HTTPS_PROXY": "http://someone:planted0004@127.0.0.1:9",
    "HF_ENDPOINT": "http://someone:planted0005@127.0.0.1:9",
}


def test_no_secret_is_in_what_a_run_prints_logs_or_writes(
    start, tmp_path, monkeypatch, capfd, caplog
):
    caplog.set_level("DEBUG")
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    data, out = tmp_path / "rows.jsonl", tmp_path / "tuned"
    rows = [{"question": f"Is {n} on?", "answer": "Yes."} for n in range(8)]
    records.write(data, rows)
    common = ["--data", str(data), "--output"]
    shape = [str(out), "--model", str(start), "--epochs=1", "--method=lora", "--rank=2"]
    assert training.main([*common, *shape]) == 0
    answers = [str(tmp_path / "answers.jsonl"), "--model", str(out)]
    assert inference.main([*common, *answers, "--max-new-tokens=1"]) == 0
    assert models.main(["merge", str(out), str(tmp_path / "merged")]) == 0
    assert training.main([*common, str(tmp_path / "no"), "--model", "some/one"]) == 1
    endpoint = inference.Endpoint("http://127.0.0.1:9/v1", "parrot", timeout=0.1)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(OSError) as caught:
        endpoint.generate("Hi")
    said = "".join(capfd.readouterr()) + caplog.text + str(caught.value)
    written = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(written) > 10 and "the tuned model is in" in said
    assert "planted" not in said
    assert not [p for p in written if b"planted" in p.read_bytes()]


def test_a_password_in_the_address_of_a_hub_is_not_shown(monkeypatch, capfd):
    def fails(*_, **__):
        raise ConnectionError(f"no way to {SECRETS['HF_ENDPOINT']}/api")

    monkeypatch.setattr(records, "hub_answers", lambda: True)
    monkeypatch.setattr("datasets.load_dataset", fails)
    with pytest.raises(ValueError, match="no way to http://") as caught:
        records.load("some/one")
    assert "planted" not in str(caught.value) + "".join(capfd.readouterr())


SHAPES = re.compile(
    r"\b(hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9_-]{30,}|gh[pousr]_\w{30,}|AKIA[A-Z0-9]{16})"
)


def test_no_token_lies_in_the_repository():
    folders = [*FOLDERS, "notebooks", "data", "tests", ".github", ".ci"]
    kinds = {".py", ".ipynb", ".md", ".json", ".jsonl", ".csv", ".yml", ".yaml"}
    files = [p for f in folders for p in (ROOT / f).rglob("*") if p.suffix in kinds]
    files += [p for p in ROOT.iterdir() if p.is_file()]
    assert len(files) > 100 and SHAPES.search("key: hf_" + "aB3" * 12)
    found = {p for p in files if SHAPES.search(p.read_text("utf-8", "replace"))}
    assert found == set()


# What is shown

PLANTED = '<script>alert("planted")</script><img src=x onerror=planted()>'


class Page(HTMLParser):
    """What of a page is planted: scripts and handlers."""

    def __init__(self, text):
        super().__init__()
        self.found, self.inside, self.text = [], None, ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.inside = tag
        for name, value in attributes:
            if name.startswith("on") and "planted" in (value or ""):
                self.found.append((tag, name))

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside == "script" and "planted" in data:
            self.found.append(("script", data))
        elif self.inside != "script":
            self.text += data


def shown(tmp_path):
    """A notebook with what rows, answers, labels and errors of strangers may hold."""
    rows = [{"question": PLANTED, "answer": PLANTED, PLANTED: PLANTED}] * 2
    frames = [records.check(rows), records.notices(rows)]
    make = nbformat.v4.new_output
    outputs = [make("stream", text=PLANTED)]
    outputs += [
        make("execute_result", {"text/html": f._repr_html_(), "text/plain": PLANTED})
        for f in frames
    ]
    outputs.append(make("execute_result", {"text/plain": repr(rows)}))
    outputs.append(make("error", ename=PLANTED, evalue=PLANTED, traceback=[PLANTED]))
    cell = nbformat.v4.new_code_cell(f"print({PLANTED!r})", outputs=outputs)
    title = nbformat.v4.new_markdown_cell("# Rows", metadata={"slideshow": {}})
    path = tmp_path / "<img src=x onerror=planted()>.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[title, cell]), path)
    return path


@pytest.mark.parametrize("page", ["lesson", "deck"])
def test_what_a_row_or_an_answer_holds_is_shown_and_not_run(
    page, tmp_path, monkeypatch
):
    notebook = shown(tmp_path)
    if page == "deck":
        text = slides.deck(notebook)
    else:
        monkeypatch.setattr(course, "execute", lambda nb, folder: None)
        out = tmp_path / "out"
        course.run_lesson(notebook, out, in_place=False)
        text = (out / f"{notebook.stem}.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.found == []
    assert page.text.count('<script>alert("planted")</script>') >= 3  # as text
    assert Page(PLANTED).found  # else the test says nothing
