"""A small Hugging Face hub on this machine: one model, and names that it refuses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"
#: Repository -> status and code of the refusal.
REFUSED = {
    "nobody/nothing": (401, "RepoNotFound"),
    "nobody/gated": (403, "GatedRepo"),
    "nobody/broken": (500, "Broken"),
}


@contextmanager
def small_hub(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve ``folder`` as the model ``someone/tiny``, and as ``someone/pickled`` its configuration;
    the weights of ``someone/spoiled`` aren't those whose hash it names.

    Yields:
        The address, and the paths that were asked for, a list that grows.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            asked.append(path)
            parts = path.removeprefix("/api/models").strip("/").split("/")
            repo = "/".join(parts[:2])
            revision = parts[3] if len(parts) > 3 else "main"
            if repo in REFUSED:
                self.answer(REFUSED[repo][0], b"{}", {"X-Error-Code": REFUSED[repo][1]})
            elif revision not in ("main", COMMIT):
                self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            elif path.startswith("/api/models/"):
                self.about(repo, tree="tree" in parts)
            else:
                self.file(parts[-1], repo)

        def about(self, repo: str, *, tree: bool) -> None:
            names = sorted(x.name for x in folder.iterdir())
            if repo == "someone/pickled":
                names = ["config.json", "pytorch_model.bin"]
            sizes = {x: (folder / x).stat().st_size if (folder / x).exists() else 9 for x in names}
            if tree:
                found: object = [
                    {"type": "file", "path": name, "size": size, "oid": "0" * 40}
                    for name, size in sizes.items()
                ]
            else:
                siblings = [{"rfilename": name, "size": size} for name, size in sizes.items()]
                found = {"id": repo, "sha": COMMIT, "siblings": siblings}
            self.answer(200, json.dumps(found).encode(), {"Content-Type": "application/json"})

        def file(self, name: str, repo: str) -> None:
            if not (folder / name).is_file():
                self.answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})
                return
            content = (folder / name).read_bytes()
            tag = hashlib.sha256(content).hexdigest()
            if repo == "someone/spoiled" and name.endswith(".safetensors"):
                tag = hashlib.sha256(b"what it was meant to be").hexdigest()
            self.answer(200, content, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})

        def answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
