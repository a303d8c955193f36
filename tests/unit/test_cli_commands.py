"""The command line answers at once, teaches, and turns user errors into one sentence."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mechshift_lib import __version__, cli, config, fork, workflow
from mechshift_lib.book import build as book
from mechshift_lib.cli.main import app
from mechshift_lib.errors import ConfigError, MechshiftError, ResultError
from mechshift_lib.explorer import build as explorer
from mechshift_lib.play import build as play

COMMANDS = (
    "run",
    "book",
    "launchers",
    "train",
    "trajectory",
    "attribute",
    "evaluate",
    "patch",
    "tokens",
    "convert",
    "export-circuit",
    "execute",
    "results",
    "fetch",
    "doctor",
    "fork",
    "unfork",
    "lens",
    "dictionaries",
)


def call(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.stdout, result.stderr


def assert_one_sentence(stderr: str, *words: str) -> None:
    lines = stderr.strip().splitlines()
    assert len(lines) == 1, stderr
    assert lines[0].startswith("mechshift: ")
    assert lines[0].endswith(".")
    for word in words:
        assert word in lines[0]


def test_help_needs_no_heavy_package() -> None:
    script = (
        "import sys; from typer.testing import CliRunner; from mechshift_lib.cli.main import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'transformers', 'nnsight', 'pandas', 'papermill'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_listed_and_has_help(command: str) -> None:
    assert re.search(rf"\b{command}\b", call("--help")[1])
    code, out, _ = call(command, "--help")
    assert code == 0
    assert len(out.split()) > 30


def test_help_of_attribute_states_metric_mean_and_sign() -> None:
    text = " ".join(call("attribute", "--help")[1].split())
    assert "logit of the answer minus the logit of the distractor" in text
    assert "mean over examples" in text
    assert "positive = corrupting the edge lowers the metric" in text
    for option in ("--model", "--examples", "--method", "--steps", "--attention", "--kv", "--out"):
        assert option in text


def test_version() -> None:
    assert call("--version")[1].strip() == f"mechshift {__version__}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "no-such-pair"), ("'no-such-pair'", "tiny-qwen")),
        (("run", "tiny-qwen", "--analysis", "astrology"), ("astrology", "behaviour")),
        (("train", "no-such-pair"), ("'no-such-pair'",)),
        (("export-circuit", "tiny-qwen", "chess", "arm", "--out", "x.json"), ("chess", "ioi")),
        (("export-circuit", "tiny-qwen", "ioi", "arm", "--out", "x.xls"), ("x.xls", ".parquet")),
        (
            ("export-circuit", "tiny-qwen", "ioi", "arm", "--out", "x.json", "--seed", "77"),
            ("no seed 77",),
        ),
        (("execute", "absent.ipynb", "out.ipynb"), ("absent.ipynb",)),
        (("execute", "/proc/self/fd/x/n.ipynb", "out.ipynb"), ("n.ipynb",)),
        (("execute", "absent.ipynb", "out.ipynb", "--set", "pair"), ("NAME=VALUE",)),
        (("execute", "absent.ipynb", "out.ipynb", "--set", "pair=nope"), ("'nope'",)),
    ],
)
def test_a_user_error_is_one_sentence_and_exit_code_2(
    arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    code, out, err = call(*arguments)
    assert code == 2
    assert out == ""
    assert_one_sentence(err, *words)


def test_attribute_says_what_is_wrong_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('[{"clean": [1, 2], "corrupted": [1]}]')
    for name in ("bad.json", "absent.json"):
        examples, out = str(tmp_path / name), str(tmp_path / "out.json")
        code, _, err = call(
            "attribute", "--model", str(tmp_path), "--examples", examples, "--out", out
        )
        assert code == 2
        assert_one_sentence(err)
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("error", [ConfigError, ResultError, MechshiftError])
def test_any_mechshift_error_of_any_command_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, error: type[MechshiftError]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("Change this.")

    monkeypatch.setattr(workflow, "run_workflow", fail)
    code, _, err = call("run")
    assert code == error.exit_code
    assert err == "mechshift: Change this.\n"


def test_a_defect_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(workflow, "run_workflow", fail)
    assert isinstance(CliRunner().invoke(app, ["run"]).exception, ZeroDivisionError)


@pytest.mark.parametrize("stale", [[], ["paper"], [f"tiny-qwen/{n}" for n in "abcd"]])
def test_a_book_of_older_pages_says_so(
    monkeypatch: pytest.MonkeyPatch, stale: list[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(workflow, "out_of_date", lambda **_: stale)
    built = []
    monkeypatch.setattr(book, "build_book", lambda **asked: built.append(asked) or tmp_path)
    monkeypatch.setattr(explorer, "write_explorer", lambda: 0)
    monkeypatch.setattr(play, "write_play", lambda: 0)
    code, out, err = call("book", "--no-execute", "--budget", "full")
    assert code == 0
    assert str(tmp_path) in out
    assert built == [{"stale": stale, "budget": "full"}]
    if stale:
        assert_one_sentence(err, "not fresh", stale[0], f"{len(stale)} in all")
    else:
        assert err == ""


def test_the_console_script_is_this_app() -> None:
    script = Path(sys.executable).with_name("mechshift")
    done = subprocess.run([script, "run", "nope"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert_one_sentence(done.stderr, "'nope'")
    assert cli.main is not None


def test_no_room_or_permission_is_a_sentence_and_a_missing_file_of_ours_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(number: int) -> None:
        raise OSError(number, os.strerror(number), "/data/x")

    for number in (errno.ENOSPC, errno.EACCES, errno.EROFS):
        monkeypatch.setattr(workflow, "run_workflow", lambda *_, n=number, **__: fail(n))
        code, _, err = call("run")
        assert code == 2
        assert_one_sentence(err, "/data/x")
    monkeypatch.setattr(workflow, "run_workflow", lambda *_, **__: fail(errno.ENOENT))
    assert isinstance(CliRunner().invoke(app, ["run"]).exception, FileNotFoundError)


def test_messages_stay_under_400_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConfigError(f"Wrong: {'x, ' * 500}: change\nthis.")

    monkeypatch.setattr(workflow, "run_workflow", fail)
    _, _, err = call("run")
    assert_one_sentence(err, "Wrong: ", "…", "change this.")
    assert len(err.strip()) <= 400


def test_without_the_repository_around_the_package_commands_say_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(config.check_checkout, "__defaults__", (tmp_path,))
    monkeypatch.setattr(config.load_pair, "__defaults__", (tmp_path,))
    monkeypatch.setattr(fork.remove_pair, "__defaults__", (tmp_path,))
    for arguments in (
        ("run", "tiny-qwen"),
        ("book",),
        ("train", "tiny-qwen"),
        ("export-circuit", "tiny-qwen", "ioi", "arm", "--out", "e.json"),
        ("doctor", "tiny-qwen"),
        ("fork", "mine", "--arm", "arm", "--mdm", "mdm"),
        ("unfork", "mine"),
    ):
        code, _, err = call(*arguments)
        assert code == 2
        assert_one_sentence(err, "clone the repository")


@pytest.mark.parametrize("name", ["1.5", "no", "7", "2026-01-05", "1e3", "nan", "Ä", "a" * 65, ""])
def test_a_name_that_cannot_be_kept_is_refused_before_models_are_examined(name: str) -> None:
    code, out, err = call("fork", name, "--arm", "absent", "--mdm", "absent")
    assert (code, out) == (2, "")
    assert_one_sentence(err, "No pair can be named")
