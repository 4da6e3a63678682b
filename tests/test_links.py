"""Run with `python -m pytest tests/test_links.py`: a second, no network needed."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tools import links

import pytest

SAID = {"/ok": [200], "/gone": [404], "/shaky": [503, 502, 200], "/shy": [403]}


@pytest.fixture
def server():
    left = {path: list(codes) for path, codes in SAID.items()}
    left["/down"] = [503] * 9
    left["/moved"] = [301]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(left[self.path].pop(0))
            self.send_header("Location", "/ok")
            self.end_headers()

        def log_message(self, *words):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}", left
        found.shutdown()


@pytest.mark.parametrize(
    "path, said, asked",
    [
        ("/ok", "ok", 1),
        ("/moved", "ok", 1),
        ("/gone", "404", 1),
        ("/shaky", "ok", 3),
        ("/shy", "shy (403)", 1),
        ("/down", "503", 3),
    ],
)
def test_an_address_gets_its_second_chance_only_where_that_can_help(
    path, said, asked, server
):
    base, left = server
    before = len(left[path])
    assert links.ask(base + path, waits=(0, 0)) == said
    assert before - len(left[path]) == asked


def test_a_server_that_is_not_there_is_a_fault_and_not_a_traceback():
    assert "Connect" in links.ask("http://127.0.0.1:9/", waits=(0,))


def test_addresses_are_found_whole_and_made_up_ones_left_out(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "[a](https://a.org/b_(c)), <https://b.org/x#y>, see https://c.org/d. "
        "`HTTPS_PROXY=http://proxy.example:8080` http://127.0.0.1:8000/v1 "
        "https://github.com/OWNER/course",
        encoding="utf-8",
    )
    cells = [
        {"cell_type": "markdown", "source": ["[d](https://d.org)", "\n"]},
        {"cell_type": "code", "source": ["url = 'https://e.org'"]},
    ]
    lesson = tmp_path / "lesson.ipynb"
    lesson.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    found = links.addresses([page, lesson])
    assert found == {
        "https://a.org/b_(c)": ["page.md"],
        "https://b.org/x": ["page.md"],
        "https://c.org/d": ["page.md"],
        "https://d.org": ["lesson.ipynb"],
    }
