"""Whatever is handed over as a file is read, or refused in one sentence."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mechshift_lib.documents import files
from mechshift_lib.documents.files import check_place, read_json, read_text, real_path, sentence_of
from mechshift_lib.errors import LONGEST, ConfigError, in_one_line, listed, shown


def refusal(path: Path, largest: int = files.LARGEST) -> str:
    with pytest.raises(ConfigError) as caught:
        read_json(path, "Test file", ConfigError, largest)
    return str(caught.value)


def test_text_is_read_with_and_without_a_mark_and_from_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for content in ("\ufeffgrün", "grün"):
        path.write_text(content, encoding="utf-8")
        assert read_text(path, "Test file", ConfigError) == "grün"
    ends = os.pipe()
    os.write(ends[1], b"[1]")
    os.close(ends[1])
    assert read_json(f"/dev/fd/{ends[0]}", "Test file", ConfigError) == [1]
    os.close(ends[0])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe{\x00", "not UTF-8 text (at byte 0)"),
        (b"", "not valid JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"1" * 5000, "not valid JSON"),
        (b"[1, 2, 3]", "larger than"),
    ],
)
def test_content_that_cannot_be_read(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x").write_bytes(content)
    assert words in refusal(tmp_path / "x", 8 if "larger" in words else files.LARGEST)


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "file").touch()
    for path, words in {
        tmp_path: "is a folder",
        tmp_path / "absent": "no such file",
        tmp_path / "dangling": "leads nowhere",
        tmp_path / "file" / "x": "is a file, not a folder",
        tmp_path / ("x" * 300): "too long",
        Path("/dev/zero"): "is not a file",
    }.items():
        assert words in refusal(path)
    assert "circle" in refusal(tmp_path / "circle")
    assert real_path(tmp_path / "circle").name == "circle"


def test_a_place_is_checked_before_anything_is_computed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_place(tmp_path / "new" / "folder" / "x.json", ConfigError)
    check_place(tmp_path / "file", ConfigError)
    assert not (tmp_path / "new").exists()
    for path, words in {
        tmp_path: "is a folder",
        tmp_path / "file" / "x.json": "is a file, not a folder",
        tmp_path / ("x" * 300): "too long",
    }.items():
        with pytest.raises(ConfigError, match=words):
            check_place(path, ConfigError)


def test_no_permission_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may do everything, so that the system's refusal is put in its mouth."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "x"))

    (tmp_path / "x").touch()
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda *_: False)
        with pytest.raises(ConfigError, match="no permission"):
            check_place(tmp_path / "y", ConfigError)
    monkeypatch.setattr(Path, "open", refuse)
    assert "no permission" in refusal(tmp_path / "x")


def test_only_failures_that_the_user_can_mend_have_a_sentence() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/data/x")
    assert (
        sentence_of(full) == "Can't use /data/x: the disk is full: make room or name another place."
    )
    assert sentence_of(OSError(errno.ENOENT, "No such file", "/data/x")) is None
    assert sentence_of(OSError("of no number")) is None


def test_messages_stay_short() -> None:
    assert in_one_line("Change\n this.") == "Change this."
    long = in_one_line(f"Wrong: {'x' * 1000}: change that.")
    assert len(long) == LONGEST
    assert long.startswith("Wrong: ")
    assert long.endswith(": change that.")
    assert "…" in long
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    for value in ("x" * 9999, 10**4000, nested, list(range(10**6)), {"a": "\ud800"}):
        assert len(shown(value)) < 120
        shown(value).encode()
    assert listed(range(3)) == "0, 1, 2"
    assert listed(range(20), 2) == "0, 1 and 18 more"
