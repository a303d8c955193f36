"""Published MDMs in a folder are asked like any other model, and their own code never runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mechshift_lib.cli.files.hub import readable
from mechshift_lib.models.loading import load_folder
from tests.support import published
from tests.support.command import assert_refused, call, entry

FORMS: dict[str, Callable[[Path], Any]] = {
    "dream": published.save_dream,
    "llada": published.save_llada,
    "qwen3-a2d": lambda folder: published.save_a2d(folder, "qwen3"),
    "diffugpt": published.save_diffugpt,
}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("form", FORMS)
def test_a_published_form_is_attributed_patched_and_evaluated(form: str, tmp_path: Path) -> None:
    folder = tmp_path / form
    FORMS[form](folder)
    examples = tmp_path / "examples.json"
    examples.write_text(json.dumps([entry(seed) for seed in range(2)]))
    scores, cells, curve = (tmp_path / name for name in ("s.json", "p.csv", "c.csv"))
    code, _, error = call(
        "attribute", "--model", folder, "--examples", examples, "--out", scores,
        "--attention", "full", "--steps", 2,
    )  # fmt: skip
    assert code == 0, error
    code, _, error = call("patch", folder, examples, "--attention", "full", "--out", cells)
    assert code == 0, error
    code, _, error = call(
        "evaluate", folder, examples, scores, "--attention", "full", "--out", curve
    )
    assert code == 0, error
    made = readable(folder)
    assert load_folder(made, attention="full").n_layers == published.SIZE["layers"]
    assert len(json.loads(scores.read_text())) > 100


def test_code_in_a_folder_is_neither_run_nor_asked_about(tmp_path: Path) -> None:
    """In a process of its own, with a terminal's answer waiting: transformers would ask for one."""
    folder, ran = tmp_path / "model", tmp_path / "ran"
    published.save_a2d(folder, "qwen2")
    published.edit(
        folder / "config.json",
        model_type="unheard-of",
        auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"},
    )
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass Own: pass\n")
    (tmp_path / "examples.json").write_text(json.dumps([entry(0)]))
    command = [sys.executable, "-m", "mechshift_lib.cli", "attribute", "--model", str(folder)]
    command += ["--examples", str(tmp_path / "examples.json"), "--out", str(tmp_path / "s.json")]
    done = subprocess.run(command, input="y\n" * 9, capture_output=True, text=True, check=False)
    assert not ran.exists()
    assert "[y/N]" not in done.stdout + done.stderr
    assert_refused(
        (done.returncode, done.stdout, done.stderr), "code of a folder isn't run", str(folder)
    )
