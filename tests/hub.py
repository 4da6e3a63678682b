"""A Hugging Face hub on the loopback, for tests: its repositories are plain folders.

FOLDER/models/OWNER/NAME/...        FOLDER/datasets/OWNER/NAME/...

with Hub(FOLDER) as hub:   # hub.url is for HF_ENDPOINT, which libraries read once
    hub.log                # [(method, path, status)] of the requests so far
    hub.up = False         # hang up on every request from here on: status None

It takes uploads too, each file as a part of the commit: hub.private lists what was to
be private, hub.tokens those that came with them.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

FILE = re.compile(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
FACTS = re.compile(
    r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree)/[^/]+(?:/(.+))?)?"
)
TAKES = re.compile(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/[^/]+")


class Hub(ThreadingHTTPServer):
    """Serves the repositories in `folder` while its `with` block lasts."""

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.log, self.up = Path(folder), [], True
        self.private, self.tokens = [], set()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        if not self.server.up:
            self.server.log.append((self.command, self.path, None))
            self.close_connection = True
            return
        path = unquote(urlsplit(self.path).path)
        if path == "/":
            self.send(200, b"")
        elif found := FILE.fullmatch(path):
            kind, name, revision, file = found.groups()
            self.send_file(self.repository(kind or "models", name), revision, file)
        elif found := FACTS.fullmatch(path):
            kind, name, what, below = found.groups()
            self.send_facts(self.repository(kind, name), name, what, below or ".")
        else:
            self.send_miss("RepoNotFound")

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        self.server.tokens.add(self.headers.get("Authorization"))
        path = unquote(urlsplit(self.path).path)
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            if asked.get("private") or asked.get("visibility") == "private":
                self.server.private.append(name)
            self.send(200, {"url": f"{self.server.url}/{name}", "id": name})
        elif path == "/api/validate-yaml":  # the head of a model card
            self.send(200, {"errors": [], "warnings": []})
        elif found := TAKES.fullmatch(path):
            getattr(self, f"take_{found[2]}")(found[1], body)
        else:
            self.send_miss("RepoNotFound")

    def take_preupload(self, name, body):
        files = [
            {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
            for file in json.loads(body)["files"]
        ]
        self.send(200, {"files": files})

    def take_commit(self, name, body):
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                path = self.server.folder / "models" / name / line["value"]["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(line["value"]["content"]))
        sha = _commit(self.repository("models", name))
        url = f"{self.server.url}/{name}/commit/{sha}"
        self.send(200, {"success": True, "commitOid": sha, "commitUrl": url})

    def send(self, status, body, **headers):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.server.log.append((self.command, self.path, status))
        self.send_response(status)
        for name, value in {"Content_Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_miss(self, code, **headers):
        self.send(404, {"error": code}, X_Error_Code=code, **headers)

    def repository(self, kind, name):
        """{path: bytes} of what a repository holds, or None."""
        folder = self.server.folder / kind / name
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        return files or None

    def send_file(self, files, revision, name):
        if files is None:
            return self.send_miss("RepoNotFound")
        headers = {"X_Repo_Commit": _commit(files)}
        if revision not in ("main", headers["X_Repo_Commit"]):
            return self.send_miss("RevisionNotFound")
        if name not in files:  # with the commit, so that clients remember the lack
            return self.send_miss("EntryNotFound", **headers)
        content = files[name]
        headers["ETag"] = f'"{_sha(content)}"'
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not part:
            return self.send(200, content, **headers)
        size = len(content)  # a part of it is what streaming asks for
        first, last = int(part[1]), min(int(part[2] or size), size - 1)
        headers["Content_Range"] = f"bytes {first}-{last}/{size}"
        self.send(206, content[first : last + 1], **headers)

    def send_facts(self, files, name, what, below):
        if files is None:
            return self.send_miss("RepoNotFound")
        if what != "tree":
            siblings = [{"rfilename": path} for path in files]
            facts = {"id": name, "sha": _commit(files), "siblings": siblings}
            return self.send(200, facts)
        entries = {
            path: {"type": "file", "size": len(content), "oid": _sha(content)}
            for path, content in files.items()
        }
        for path in files:
            for folder in PurePosixPath(path).parents:
                entries[str(folder)] = {"type": "directory", "size": 0, "oid": ""}
        if below not in entries:
            return self.send_miss("EntryNotFound")
        top, deep = PurePosixPath(below), "recursive=true" in self.path.lower()
        inside = [
            entry | {"path": path}
            for path, entry in entries.items()
            if top in (parents := list(PurePosixPath(path).parents))
            and (deep or top == parents[0])
        ]
        self.send(200, inside)


def _sha(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def _commit(files: dict[str, bytes]) -> str:
    return _sha(json.dumps({path: _sha(files[path]) for path in files}).encode())
