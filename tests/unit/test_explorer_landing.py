"""The landing page's circuits: those that are shipped, and the numbers beside them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mechshift_lib.config import ROOT
from mechshift_lib.explorer.landing import NOTHING, shared_by_halves, write_landing
from mechshift_lib.explorer.sources import WHOLE, Circuits, final, reading
from mechshift_lib.workflow import default_pairs

PAIR = default_pairs()[0]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("landing")
    return write_landing(ROOT, results="nowhere", out=out).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def found() -> Circuits:
    study = reading(PAIR, results="nowhere")
    every = final(study, "countdown", study.pair.seeds[0])
    return next(one for one in every if one.read == WHOLE)


def strongest(found: Circuits, name: str, count: int) -> set[str]:
    """Names of a circuit's edges, by sorting them one by one."""
    scores = np.abs(found.scores[found.names.index(name)].mean(axis=0))
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    return {found.graph.names[i] for i in order[:count]}


def test_the_edges_that_are_drawn_are_those_of_the_circuits(page: str, found: Circuits) -> None:
    count = round(0.05 * found.graph.n_edges)
    edges = {name: strongest(found, name, count) for name in ("arm", "mdm", "continued")}
    both = edges["arm"] & edges["mdm"]
    panels = re.findall(r"<svg.*?</svg>", page, re.S)
    assert len(panels) == 2
    for panel in panels:
        assert panel.count('<path class="both"') == len(both)
        assert panel.count('<path class="own"') == count - len(both)
    assert f"The {len(both)} edges of both models are pale" in page
    assert f"without diffusion have {len(edges['arm'] & edges['continued'])}," in page
    assert f"{found.n} examples" in page


def test_halves_are_counted_as_by_hand(found: Circuits) -> None:
    scores = np.zeros((4, found.graph.n_edges), dtype=np.float32)
    scores[:2, :3] = 1.0  # the first two examples have edges 0 to 2, the others 2 to 4
    scores[2:, 2:5] = 1.0
    first, second = np.array([0, 1]), np.array([2, 3])
    one = Circuits(
        **{
            **{name: getattr(found, name) for name in Circuits.__dataclass_fields__},
            "splits": ((first, second), (first, first)),
        }
    )
    assert shared_by_halves(scores, one, 3) == (1 + 3) / 2


def test_a_page_that_has_not_changed_is_left_alone(tmp_path: Path) -> None:
    path = write_landing(ROOT, results="nowhere", out=tmp_path)
    before = path.stat().st_mtime_ns
    write_landing(ROOT, results="nowhere", out=tmp_path)
    assert path.stat().st_mtime_ns == before


def test_without_circuits_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mechshift_lib.explorer.landing.default_pairs", lambda _: [])
    assert write_landing(tmp_path).read_text(encoding="utf-8") == NOTHING
