"""The pages as a browser shows them: a headless Chromium, driven by its command line alone."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
#: Loads a page in a frame of a phone's width, waits for it, and writes down what was asked for.
FRAME = """<!doctype html><body style="margin:0"><iframe id="frame" style="border:0"></iframe>
<pre id="answer"></pre><script>
const ask = new URLSearchParams(location.search), frame = document.getElementById("frame");
localStorage.setItem("mode", ask.get("mode")); localStorage.setItem("theme", ask.get("mode"));
frame.width = ask.get("width"); frame.height = 800; frame.src = ask.get("page");
frame.onload = () => setTimeout(() => {
  const d = frame.contentDocument, w = frame.contentWindow;
  const answer = (new Function("d", "w", "return " + ask.get("js")))(d, w);
  Promise.resolve(answer).catch(error => String(error)).then(value => {
    document.getElementById("answer").textContent = JSON.stringify(value);
    document.title = "answered";
  });
}, 2500);
</script></body>"""

#: Runs axe-core on a page, whose server has it as ``axe.min.js``; the pages' own content is
#: judged, in light and in dark.
AXE = """new Promise((done, fail) => {
  const script = d.createElement("script");
  script.src = "/axe.min.js";
  script.onerror = () => fail("axe.min.js isn't there");
  script.onload = () => w.axe.run(d, {resultTypes: ["violations"]}).then(
    found => done({rules: found.passes.length, faults: found.violations.flatMap(v => v.nodes.map(
      n => [v.impact, v.id, n.target.join(" "), n.failureSummary])) }), fail);
  d.head.append(script);
})"""


def chromium() -> str:
    """Path of the browser; its absence is an error, never a skip."""
    for name in (os.environ.get("CHROMIUM", ""), *NAMES):
        if name and (found := shutil.which(name)):
            return found
    raise RuntimeError(
        "These tests need Chromium: run `make test`, or install it (Debian: apt install chromium), "
        "or set CHROMIUM to its path."
    )


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder of pages on a free port of this machine; yields its address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def ask(address: str, page: str, js: str, *, width: int = 390, mode: str = "light") -> Any:
    """Value of a JavaScript expression on a page (``d`` its document, ``w`` its window).

    Args:
        address: of a server whose folder has :data:`FRAME` as ``frame.html``.
        page: path of the page.
        js: the expression; its value, or that of its promise, must be JSON.
        width: of the window, in CSS pixels.
        mode: ``light`` or ``dark``.
    """
    output, _ = _visit(address, page, js, width, mode)
    match = re.search(r'<pre id="answer">(.+?)</pre>', output, re.S)
    assert match, "the browser gave no answer"
    return json.loads(unescape(match[1]))


def complaints(address: str, page: str) -> list[str]:
    """Errors that a page writes to the browser's console (see :func:`ask` for the arguments)."""
    _, log = _visit(address, page, "1", 1000, "light")
    lines = [line for line in log.splitlines() if "CONSOLE" in line]
    return [line for line in lines if re.search(r"Error|declared|Uncaught", line)]


def _visit(address: str, page: str, js: str, width: int, mode: str) -> tuple[str, str]:
    """A page in a frame: the outer document after the answer, and what the browser logged."""
    query = urlencode({"page": page, "js": js, "width": width, "mode": mode})
    with tempfile.TemporaryDirectory(prefix="mechshift-chromium-") as profile:
        command = [chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        command += [
            "--disable-dev-shm-usage",
            f"--user-data-dir={profile}",
            "--window-size=1400,900",
        ]
        command += ["--virtual-time-budget=20000", "--dump-dom", f"{address}/frame.html?{query}"]
        command += ["--enable-logging=stderr"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout, done.stderr
