"""Pair files: every shipped one is valid, and a broken one is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mechshift_lib.config import ROOT, load_pair, pair_names
from mechshift_lib.errors import ConfigError
from mechshift_lib.tasks import TASKS, pair_task

TINY = yaml.safe_load((ROOT / "data" / "pairs" / "tiny-qwen.yaml").read_text())


def write(root: Path, content: object, name: str = "tiny-qwen") -> Path:
    folder = root / "data" / "pairs"
    folder.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    (folder / f"{name}.yaml").write_text(text)
    return root


@pytest.mark.parametrize("name", pair_names())
def test_shipped_pairs_are_valid(name):
    pair = load_pair(name)
    for task in pair.tasks:
        assert pair_task(pair, task).name in TASKS
    for role in pair.roles:
        assert pair.declared(role).attention == ("full" if role == "mdm" else "causal")
    assert "{seed}" not in pair.declared("mdm", pair.seeds[-1]).model_dump_json()
    assert pair.budget("book").circuit_examples <= pair.budget("full").circuit_examples


def test_some_chapters_are_of_the_full_budget_only(tmp_path):
    change = {"analyses": ["overlap", "behaviour"], "full_analyses": ["neurons", "circuits"]}
    pair = load_pair("tiny-qwen", write(tmp_path, TINY | change))
    assert pair.at_budget("book").analyses == ("behaviour", "overlap")
    assert pair.at_budget("full").analyses == ("behaviour", "circuits", "overlap", "neurons")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"analyses": ["lens"], "full_analyses": ["lens"]}, "lens stands in both"),
        ({"colour": "red"}, "colour"),
        ({"tasks": []}, "tasks"),
        ({"name": "Tiny Qwen"}, "name"),
        ({"mdm": TINY["mdm"] | {"mask_token": None}}, "needs a mask_token"),
        ({"mdm": TINY["mdm"] | {"attention": "sideways"}}, "mdm.attention"),
        ({"arm": {"source": {"kind": "pickle"}, "attention": "causal"}}, "arm.source"),
        ({"budgets": {"book": {"circuit_examples": 0}}}, "circuit_examples"),
        ({"name": 1.5}, "name: .*write it in quotes"),
        ({"title": True}, "title: .*write it in quotes"),
        ({"name": "no"}, "must read as text"),
        ({"budgets": {"book": {"batch_size": 10**30}}}, "batch_size"),
        ({"name": "other"}, "the two must agree"),
    ],
)
def test_broken_pair_files_are_refused(change, message, tmp_path):
    with pytest.raises(ConfigError, match=message) as caught:
        load_pair("tiny-qwen", write(tmp_path, TINY | change))
    assert "\n" not in str(caught.value)


def test_not_yaml_and_unknown_names(tmp_path):
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_pair("tiny-qwen", write(tmp_path, "a: [1, 2"))
    with pytest.raises(ConfigError, match="Unknown pair 'nope'"):
        load_pair("nope")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"a: &a [*a]", "stands for itself"),
        (b"#" * (1 << 20) + b"#", "larger than 1 MiB"),
        (b"[" * 5000, "nested too deeply"),
        (b"", "the file: "),
    ],
)
def test_files_that_are_no_pair(content, message, tmp_path):
    folder = tmp_path / "data" / "pairs"
    folder.mkdir(parents=True)
    (folder / "tiny-qwen.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_pair("tiny-qwen", tmp_path)
    (folder / "tiny-qwen.yaml").unlink()
    (folder / "tiny-qwen.yaml").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        load_pair("tiny-qwen", tmp_path)
    (folder / "tiny-qwen.yaml").rmdir()
    (folder / "tiny-qwen.yaml").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="leads nowhere"):
        load_pair("tiny-qwen", tmp_path)


def test_yaml_can_not_run_code(tmp_path):
    harmful = "name: !!python/object/apply:os.system ['true']\n"
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_pair("tiny-qwen", write(tmp_path, harmful))


def test_roles_seeds_and_budgets():
    pair = load_pair("tiny-qwen")
    assert pair.roles == ("arm", "mdm", "continued")
    with pytest.raises(ConfigError, match="no seed 99"):
        pair.model("arm", 99)
    with pytest.raises(ConfigError, match="no model 'teacher'"):
        pair.model("teacher")
    with pytest.raises(ConfigError, match="Unknown budget"):
        pair.budget("huge")
