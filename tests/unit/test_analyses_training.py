"""What is said of a pair's trainings: from the log, the recipe and the weights."""

import json

import numpy as np
import pytest
from safetensors.torch import load_file

from mechshift_lib.analyses import Study
from mechshift_lib.analyses.training import training_table
from mechshift_lib.analyses.words.training import moved, shown
from tests.support.study import make_pair


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("trained")
    make_pair(root, seeds=(0, 1))
    log = [
        {"step": step, "lr": 1e-3 * (1 - step / 7), "loss": 8.0 - step, "tokens": 10 * (step + 1)}
        for step in range(8)
    ]
    path = root / "data/models/toy/seed0/mdm/training.jsonl"
    path.write_text("\n".join(map(json.dumps, log)), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def table(root):
    return training_table(Study.open("toy", "book", str(root / "results"), root=root))


def by_hand(root, role, seed):
    """Norm of the difference of the files themselves; a tied head is one tensor."""
    files = [root / f"data/models/toy/seed{seed}/{one}/model.safetensors" for one in ("arm", role)]
    arm, other = (load_file(file) for file in files)
    return np.sqrt(sum(float(((other[name] - arm[name]) ** 2).sum()) for name in arm))


def test_every_seed_has_its_distance(table, root):
    rows = table.set_index(["role", "seed"])
    assert set(rows.index) == {(r, s) for r in ("mdm", "continued") for s in (0, 1)}
    for role, seed in rows.index:
        assert rows.moved[role, seed] == pytest.approx(by_hand(root, role, seed), rel=1e-5)
        assert 0 < rows.share[role, seed] < 1


def test_what_the_log_says(table):
    row = table.set_index(["role", "seed"]).loc["mdm", 0]
    assert (row.steps, row.tokens, row.end) == (8, 80, 0)
    assert (row.third, row.last) == (3.5, 1.5)  # losses 4 and 3, then 2 and 1
    assert np.isnan(row.peak)  # the pair has no recipe


def test_the_words(table):
    text = shown(table)
    assert text["model"].tolist() == ["MDM", "continued ARM"] * 2
    assert text["tokens"].tolist() == ["80", "–", "–", "–"]
    assert text["‖Δθ‖ / ‖θ‖"].str.endswith(" %").all()
    assert "continued ARM" in moved(table)
    assert "isn't known" in moved(table.assign(moved=np.nan))
