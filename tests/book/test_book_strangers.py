"""A stranger's pair from first look to a chapter: a GPT-2 in folders, a Tiny-A2D on the hub."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import torch
from huggingface_hub import constants
from transformers import GPT2Config, GPT2LMHeadModel

from mechshift_lib.config import ROOT
from mechshift_lib.tasks.tokenizer import build_word_tokenizer
from tests.support.hub import REVISION, fake_hub
from tests.support.published import save_a2d, save_arm

BUDGET = "budgets:\n  book: {behaviour_examples: 12, circuit_examples: 6, bootstrap: 20}\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project without results, models or pairs but the default one."""
    folder = tmp_path / "project"
    for part in ("mechshift_lib", "workflow", "notebooks", "data/paper", "data/benchmarks"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "data" / "pairs").mkdir()
    shutil.copy(ROOT / "data/pairs/tiny-qwen.yaml", folder / "data/pairs")
    return folder


@pytest.fixture
def gpt2(tmp_path: Path) -> list[str]:
    """Two GPT-2s in folders, as a stranger saves them."""
    tokenizer = build_word_tokenizer()
    for seed, name in enumerate(("arm", "mdm")):
        torch.manual_seed(seed)
        config = GPT2Config(
            vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=2, n_head=2
        )
        GPT2LMHeadModel(config).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    return ["--arm", str(tmp_path / "arm"), "--mdm", str(tmp_path / "mdm")]


@pytest.fixture
def a2d(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A Qwen3 and the Tiny-A2D made from it, on a hub."""
    with fake_hub(monkeypatch, tmp_path) as hub:
        save_arm(tmp_path / "arm", "qwen3")
        save_a2d(tmp_path / "mdm", "qwen3")
        hub.repositories |= {"me/arm": tmp_path / "arm", "me/mdm": tmp_path / "mdm"}
        monkeypatch.setenv("HF_ENDPOINT", constants.ENDPOINT)
        monkeypatch.setenv("HF_HUB_CACHE", constants.HF_HUB_CACHE)
        yield ["--arm", f"me/arm@{REVISION}", "--mdm", f"me/mdm@{REVISION}"]


def say(project: Path, *arguments: str) -> str:
    """Standard output of a command that must succeed."""
    environment = {**os.environ, "PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "mechshift_lib.cli", *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("which", ["gpt2", "a2d"])
def test_from_the_doctor_to_a_chapter(
    which: str, project: Path, request: pytest.FixtureRequest
) -> None:
    asked: list[str] = request.getfixturevalue(which)
    told = say(project, "doctor", *asked)
    assert "✗ MDM loads" not in told
    proposed = told[told.index("name: my-pair") :]
    (project / "data/pairs/my-pair.yaml").write_text(proposed + BUDGET, encoding="utf-8")
    foreseen = say(project, "run", "my-pair", "--dry-run", "--analysis", "behaviour")
    assert "notebooks/behaviour.ipynb" in foreseen
    say(project, "run", "my-pair", "--analysis", "behaviour", "--jobs", "1")
    page = project / "book" / "executed" / "my-pair" / "behaviour.ipynb"
    cells = [cell for cell in nbformat.read(page, as_version=4).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells if cell.source)
    assert sum(bool(cell.outputs) for cell in cells) > 3
