"""A hub on this machine: what huggingface_hub asks of the real one, answered from a folder."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

REVISION = "c" * 40


@dataclass
class FakeHub:
    """Repositories by name, each a folder, and what goes wrong.

    Attributes:
        repositories: ``owner/name`` -> folder with its files.
        gated: names whose files are refused without a token.
        cut: name of a file -> bytes after which its download breaks off, once.
        down: whether the hub goes down with that.
        swapped: names of files whose content isn't what the hub states.
        status: answered to everything, in place of an answer.
        starts: name of each file that was asked for, with the byte that the answer began at.
    """

    repositories: dict[str, Path] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    cut: dict[str, int] = field(default_factory=dict)
    down: bool = False
    swapped: set[str] = field(default_factory=set)
    status: int | None = None
    starts: list[tuple[str, int]] = field(default_factory=list)


def _entry(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    entry: dict[str, Any] = {
        "rfilename": path.name,
        "path": path.name,
        "type": "file",
        "size": len(content),
        "oid": hashlib.sha1(content).hexdigest(),
        "blobId": hashlib.sha1(content).hexdigest(),
    }
    if path.suffix == ".safetensors":
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": digest, "sha256": digest, "size": len(content), "pointerSize": 130}
    return entry


class _Answers(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _refuse(self, status: int, code: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _json(self, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        """Answer a question about a repository, or a file of it."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Answer with the headers alone."""
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        if self.hub.status is not None:
            return self._refuse(self.hub.status)
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            return self._about("/".join(parts[2:4]), parts[4:])
        if len(parts) < 5:
            return self._refuse(404)
        return self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]), body=body)

    def _known(self, repo: str, revision: str) -> Path | None:
        folder = self.hub.repositories.get(repo)
        if folder is None:
            self._refuse(404, "RepoNotFound")
        elif revision != REVISION:
            self._refuse(404, "RevisionNotFound")
        else:
            return folder
        return None

    def _about(self, repo: str, rest: list[str]) -> None:
        folder = self._known(repo, rest[1] if len(rest) > 1 else REVISION)
        if folder is None:
            return None
        entries = [_entry(path) for path in sorted(folder.iterdir()) if path.is_file()]
        if rest[:1] == ["tree"]:
            return self._json(entries)
        return self._json(
            {
                "id": repo,
                "sha": REVISION,
                "gated": repo in self.hub.gated,
                "siblings": entries,
            }
        )

    def _file(self, repo: str, revision: str, name: str, *, body: bool) -> None:
        folder = self._known(repo, revision)
        if folder is None:
            return None
        if repo in self.hub.gated and "Authorization" not in self.headers:
            return self._refuse(401, "GatedRepo")
        if not (folder / name).is_file():
            return self._refuse(404, "EntryNotFound")
        entry, content = _entry(folder / name), (folder / name).read_bytes()
        if name in self.hub.swapped:
            content = content[:-1] + bytes([content[-1] ^ 1])
        asked = self.headers.get("Range", "")
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("X-Repo-Commit", REVISION)
        self.send_header("ETag", f'"{entry.get("lfs", {}).get("oid", entry["oid"])}"')
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if body:
            self.hub.starts.append((name, start))
            end = self.hub.cut.pop(name, len(content))
            self.wfile.write(content[start:end])
            if end < len(content):
                self.hub.status = 403 if self.hub.down else None
                self.close_connection = True
        return None


@contextmanager
def fake_hub(monkeypatch: pytest.MonkeyPatch, root: Path) -> Iterator[FakeHub]:
    """A hub without repositories; caches of the hub and of the library lie below ``root``."""
    hub = FakeHub()
    handler = type("Handler", (_Answers,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(root / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)
    monkeypatch.setenv("MECHSHIFT_CACHE", str(root / "cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
