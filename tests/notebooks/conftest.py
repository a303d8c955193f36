"""What tests of notebooks share: a screen that remembers, and pairs of random models."""

import re

import pytest

from mechshift_lib.analyses import Study, page
from tests.support.study import make_pair
from tests.support.trajectories import make_dial, make_trajectory


@pytest.fixture
def shown(monkeypatch):
    """What the page functions show, instead of the screen."""
    outputs = []
    monkeypatch.setattr(page, "display", outputs.append)
    return outputs


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Four tasks, two seeds, a control, trajectories."""
    root = tmp_path_factory.mktemp("whole")
    make_pair(root)
    study = Study.open("toy", results=str(root / "results"), pool="all", root=root)
    for seed in study.pair.seeds:
        make_trajectory(study, seed, noise=0.1)
        make_dial(study, seed, noise=0.1)
    return root


@pytest.fixture(scope="module")
def least(tmp_path_factory):
    """One task whose answer is one token, one seed, no control."""
    root = tmp_path_factory.mktemp("least")
    make_pair(root, tasks=("ioi",), seeds=(0,))
    path = root / "data" / "pairs" / "toy.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"^continued:\n(?: .*\n)+", "", text, flags=re.M), encoding="utf-8")
    return root
