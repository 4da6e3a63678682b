"""Do the links lead somewhere? Asks each web address that the repository names.

    python -m tools.links

In: Markdown, the text of notebooks and CITATION.cff, as git lists them. Out: a line per
address that is gone; exit code 1 when there is one. Links inside the repository are
tested without a network by tests/test_notebooks.py and tests/test_people.py.
"""

import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2

ROOT = Path(__file__).resolve().parents[1]
KINDS = "*.md", "*.ipynb", "*.cff"
ADDRESS = re.compile(r"https?://[^\s<>\"'`\]{}|\\]+")
MADE_UP = re.compile(r"//(localhost|127\.|[\w.-]*\.example\b)|OWNER")
WAITS = 2.0, 10.0, 30.0  # seconds before each further try
SHY = {401, 403, 405, 429}  # the address is there, but not for programs


def text(path: Path) -> str:
    """What people read of a file: of a notebook its Markdown."""
    content = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return content
    cells = json.loads(content)["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] != "code")


def addresses(paths: list[Path]) -> dict[str, list[str]]:
    """Web address -> the files that name it; made-up ones left out."""
    found: dict[str, list[str]] = {}
    for path in paths:
        for address in ADDRESS.findall(text(path)):
            address = address.rstrip(".,;:!?*")
            while address.endswith(")") and address.count(")") > address.count("("):
                address = address[:-1].rstrip(".,;:")
            if not MADE_UP.search(address):
                found.setdefault(address.partition("#")[0], []).append(path.name)
    return found


def ask(address: str, waits: tuple[float, ...] = WAITS) -> str:
    """What became of an address: "ok", "shy (403)", or why it is gone."""
    said = ""
    for wait in (0.0, *waits):
        time.sleep(wait)
        try:
            with httpx2.stream(
                "GET", address, follow_redirects=True, timeout=30
            ) as answer:
                code = answer.status_code
        except httpx2.HTTPError as error:
            said = f"{type(error).__name__}: {error}"
            continue
        if code < 400:
            return "ok"
        said = str(code)
        if code in SHY:
            return f"shy ({code})"
        if code < 500:
            break
    return said


def main() -> int:
    listed = ["git", "ls-files", "-z", *KINDS]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout
    paths = [ROOT / name for name in names.decode("utf-8").split("\0") if name]
    found = addresses(paths)
    with ThreadPoolExecutor(8) as pool:
        answers = dict(zip(found, pool.map(ask, found), strict=True))
    gone = 0
    for address, said in sorted(answers.items()):
        if said != "ok":
            gone += not said.startswith("shy")
            print(f"{said:12}  {address}  in {', '.join(sorted({*found[address]}))}")
    print(f"{len(found)} addresses asked, {gone} gone")
    return 1 if gone else 0


if __name__ == "__main__":
    sys.exit(main())
