"""A new user's journey: a pair that the repository has never seen, in the book and out again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from transformers import GPT2Config, GPT2LMHeadModel

from mechshift_lib.book.build import generate
from mechshift_lib.config import ROOT
from mechshift_lib.errors import ConfigError
from mechshift_lib.fork import PAIRS_PART, add_pair, remove_pair
from mechshift_lib.tasks.tokenizer import build_word_tokenizer
from tests.book.make_site import make_sources


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with executed chapters, and two GPT-2-shaped models beside it."""
    folder = tmp_path_factory.mktemp("fork") / "project"
    folder.mkdir()
    make_sources(folder)
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", dirs_exist_ok=True)
    shutil.copy(ROOT / "workflow" / "Snakefile", folder / "workflow")
    tokenizer = build_word_tokenizer()
    for seed, name in enumerate(("arm", "mdm")):
        torch.manual_seed(seed)
        config = GPT2Config(
            vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=2, n_head=2
        )
        GPT2LMHeadModel(config).save_pretrained(folder.parent / "models" / name)
        tokenizer.save_pretrained(folder.parent / "models" / name)
    return folder


def say(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mechshift_lib.cli", *arguments]
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False
    )


def texts(folder: Path) -> dict[str, str]:
    """Generated pages, but for the circuits on the landing page, which come from what is stored."""
    pages = {str(file): file.read_text(encoding="utf-8") for file in folder.rglob("*.md")}
    return {name: text for name, text in pages.items() if not name.endswith("/landing.md")}


def state(project: Path) -> dict[str, str]:
    files = [project / "_toc.yml", project / "workflow" / "config.yaml"]
    files += sorted((project / "data" / "pairs").glob("*.yaml"))
    return {str(file): file.read_text(encoding="utf-8") for file in files}


def test_a_new_pair_gets_its_chapters_and_leaves_no_trace(project: Path) -> None:
    before = state(project)
    generate(project)
    generated = texts(project / "book" / "generated")
    models = project.parent / "models"
    asked = ["--arm", str(models / "arm"), "--mdm", str(models / "mdm"), "--title", "My pair"]
    done = say(project, "fork", "mine", *asked, "--chapter", "behaviour")
    assert done.returncode == 0, done.stderr
    assert "✓ MDM loads" in done.stdout

    done = say(project, "run", "mine", "--jobs", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    done = say(project, "book", "--no-execute")
    assert done.returncode == 0, done.stdout + done.stderr
    pages = project / "_build" / "html" / "book"
    landing = (pages / "index.html").read_text(encoding="utf-8")
    assert "generated/mine.html" in landing
    overview = (pages / "generated" / "mine.html").read_text(encoding="utf-8")
    assert "Behaviour" in overview
    assert "My pair" in (pages / "executed" / "mine" / "behaviour.html").read_text(encoding="utf-8")
    question = (pages / "generated" / "questions" / "behaviour.html").read_text(encoding="utf-8")
    assert "My pair" in question

    done = say(project, "unfork", "mine")
    assert done.returncode == 0, done.stderr
    assert state(project) == before
    assert not (project / "book" / "executed" / "mine").exists()
    generate(project)
    assert texts(project / "book" / "generated") == generated


def test_an_interrupted_fork_is_finished_by_the_next(project: Path, monkeypatch) -> None:
    from mechshift_lib.config import Pair
    from mechshift_lib.results import atomic

    before = state(project)
    source = {"kind": "folder", "path": "/models/arm"}
    model = {"source": source, "attention": "causal", "readout": "next-token"}
    described = {"title": "Cut: short", "description": "-", "tasks": ["ioi"]}
    pair = Pair.model_validate({"name": "cut", **described, "arm": model, "mdm": model})
    write, calls = atomic.write_atomic, []

    def killed(path: Path, content: str) -> Path:
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write(path, content)

    with monkeypatch.context() as patched:
        patched.setattr("mechshift_lib.fork.write_atomic", killed)
        with pytest.raises(KeyboardInterrupt):
            add_pair(pair, project)
    assert yaml.safe_load((project / "_toc.yml").read_text()) is not None
    add_pair(pair, project)
    parts = yaml.safe_load((project / "_toc.yml").read_text())["parts"]
    [chapters] = [part["chapters"] for part in parts if part["caption"] == PAIRS_PART]
    assert [chapter["file"] for chapter in chapters].count("book/generated/cut") == 1
    assert chapters[-1]["title"] == "Cut: short"
    below = [section["file"] for section in chapters[-1]["sections"]]
    assert below == [f"book/executed/cut/{name}" for name in pair.analyses]
    assert "cut" in yaml.safe_load((project / "workflow" / "config.yaml").read_text())["pairs"]
    with pytest.raises(ConfigError, match="There is a pair 'cut' already"):
        add_pair(pair.model_copy(update={"title": "Another"}), project)
    remove_pair("cut", project)
    assert state(project) == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["unfork", "tiny-qwen"], "wasn't made by mechshift fork"),
        (["unfork", "nobody"], "There is no pair 'nobody'"),
        (["fork", "mine"], "give --arm and --mdm"),
        (["fork", "tiny-qwen", "--arm", "a", "--mdm", "b"], "a pair 'tiny-qwen' already"),
        (["fork", "mine", "--arm", "/nowhere", "--mdm", "/nowhere"], "neither a folder nor"),
        (
            ["fork", "mine", "--arm", "a", "--mdm", "b", "--continued", "/none"],
            "'/none' is neither",
        ),
        (["doctor", "tiny-qwen", "--arm", "a", "--mdm", "b"], "leave out --arm, --mdm"),
        (["doctor", "--arm", "a"], "or give both"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(project: Path, arguments, sentence) -> None:
    before = state(project)
    done = say(project, *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert state(project) == before
