"""Look at every page of the site in a browser, wide, narrow and dark.

    make site
    python -m pip install playwright axe-playwright-python
    python -m playwright install chromium     # or --browser /usr/bin/chromium
    python -m tools.site_check [--browser PATH] [FOLDER]

In: the folder that `make site` made. Out: a line for each fault: what axe-core finds
serious or critical (folded parts are opened for it), a page wider than the window,
anything that a page misses or fetches from elsewhere, a search without results, a
button or link of the page's head that the Tab key does not reach. Exit status 1 where
there are faults.
"""

import argparse
import functools
import http.server
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from tools.site import OUTPUTS

LOOKS = ((1280, "light"), (390, "light"), (1280, "dark"))
GRAVE = ("serious", "critical")
OPEN = "document.querySelectorAll('details').forEach(d => { d.open = true })"
TOO_WIDE = "document.documentElement.scrollWidth > window.innerWidth"
# the link or button where Tab has led; the page as a whole is none
FOCUSED = """(e => e.matches('a, button') ? e.className + ' ' + e.textContent : '')(
    document.activeElement)"""
REACHED = ("search-button", "Run in Colab", "Run in Binder", "Download the notebook")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and writes no log."""

    def log_message(self, format: str, *args: object) -> None:
        pass


def serve(folder: Path) -> str:
    """The address at which `folder` is served until this program ends."""
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def faults_of(page, axe, address: str, base: str) -> Iterator[str]:
    """What is wrong with the page at `address`, one line each."""
    missed: list[str] = []
    page.on("requestfailed", lambda request: missed.append(f"fetches {request.url}"))
    page.on(
        "response",
        lambda answer: answer.ok or missed.append(f"{answer.status} {answer.url}"),
    )
    page.on(
        "request",
        lambda request: (
            request.url.startswith((base, "data:"))
            or missed.append(f"fetches {request.url}")
        ),
    )
    page.goto(address, wait_until="networkidle")
    yield from missed
    page.evaluate(OPEN)
    page.wait_for_timeout(500)  # until what unfolds has its colours
    if page.evaluate(TOO_WIDE):
        yield "wider than the window"
    for found in axe.run(page).response["violations"]:
        if found["impact"] in GRAVE:
            nodes = found["nodes"]
            yield (
                f"{found['impact']}: {found['id']}: {found['help']} ({len(nodes)}), "
                f"first {nodes[0]['target']} {nodes[0]['html'][:120]}"
            )


def unreached(page, address: str) -> list[str]:
    """Which of REACHED a hundred presses of Tab on a lesson do not reach."""
    page.goto(address, wait_until="networkidle")
    left = set(REACHED if "Run in Colab" in page.content() else REACHED[::3])
    for _ in range(100):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        left = {name for name in left if name not in focused}
    return sorted(left)


def check(folder: Path, browser_path: str | None) -> list[str]:
    """All faults of the site in `folder`, each with its page and width."""
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    paths = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*.html")
    )
    paths = [path for path in paths if not path.startswith("_")]
    lesson = next(path for path in paths if path.startswith("notebooks/0"))
    base, faults = serve(folder), []
    with sync_playwright() as playwright:
        # a browser that runs as root, as in containers, has no sandbox
        browser = playwright.chromium.launch(
            executable_path=browser_path, args=["--no-sandbox"]
        )
        for width, scheme in LOOKS:
            look = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
            at = f"at {width}, {scheme}"
            for path in [*paths, "search.html?q=adapter"]:
                page = browser.new_page(**look)
                found = faults_of(page, Axe(), f"{base}/{path}", base)
                faults += [f"{path} {at}: {fault}" for fault in found]
                if "?" in path and not page.locator("#search-results li").count():
                    faults.append(f"{path} {at}: finds nothing")
                page.close()
            page = browser.new_page(**look)
            for name in unreached(page, f"{base}/{lesson}"):
                faults.append(f"{lesson} {at}: Tab does not reach {name}")
            page.close()
        browser.close()
    print(f"{len(paths)} pages in {len(LOOKS)} looks: {len(faults)} faults")
    return faults


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.site_check")
    parser.add_argument(
        "folder", nargs="?", type=Path, default=OUTPUTS / "site" / "html"
    )
    parser.add_argument("--browser", metavar="PATH", help="a Chromium of your own")
    options = parser.parse_args(argv)
    if not (options.folder / "index.html").is_file():
        parser.error(f"{options.folder} has no index.html: first run `make site`")
    faults = check(options.folder, options.browser)
    print("\n".join(faults))
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
