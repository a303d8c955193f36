"""What components write: of a real model, over trainings, in words, figures and a verdict."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mechshift_lib.analyses import Study, components, verdicts
from mechshift_lib.analyses.words import components as words
from mechshift_lib.analyses.words.formatting import MISSING
from mechshift_lib.plots.alt import alt_text
from mechshift_lib.plots.components import plot_grid, plot_lorenz, plot_spread
from mechshift_lib.semantics.concentration import lorenz, measures, participation
from tests.support.study import make_pair

#: ``20–32``, whose dash is that of what is missing.
RANGE = re.compile(r"\d–\d")
NAMES = ("a0.h0", "a0.h1", "m0", "a1.h0", "a1.h1", "m1")


def made(mdm: float, seeds: int = 5, *, control: bool = True) -> pd.DataFrame:
    """A table ``spread``: the ARM's shares are 0.3, the MDM's further by ``mdm``."""
    sizes = {"arm": 0.0, "mdm": mdm} | ({"continued": 0.01, "matched": mdm} if control else {})
    rows = []
    for task, seed, (model, size) in itertools.product(
        ("ioi", "countdown"), range(seeds), sizes.items()
    ):
        wobble = 0.0 if model in ("arm", "continued") else 0.004 * (seed % 3 - 1)
        for directions in (components.OWN, components.RANDOM):
            share = 0.3 + (size + wobble if directions == components.OWN else 0.2)
            row = {"task": task, "seed": seed, "model": model, "directions": directions, "n": 9}
            numbers = {name: float(x) for name, x in measures(np.arange(1.0, 31.0)).items()}
            rows.append(row | numbers | {"participation_free": share, "tokens": share})
    return pd.DataFrame(rows)


def test_how_much_more_is_a_mean_over_tasks_of_one_training() -> None:
    table = made(0.2, seeds=2)
    table.loc[(table.task == "ioi") & (table.model == "mdm"), "tokens"] += 0.1
    found = components.more(table, "tokens")
    assert found.columns.tolist() == ["continued", "matched", "mdm"]
    assert found["mdm"].tolist() == pytest.approx([0.246, 0.25])
    assert components.more(table, "participation_free")["continued"].tolist() == pytest.approx(
        [0.01, 0.01]
    )


@pytest.mark.parametrize(
    ("mdm", "control", "seeds", "said"),
    [
        (0.2, True, 5, "reproduced"),
        (0.0, True, 5, "not reproduced"),
        (-0.2, True, 5, "reversed"),
        (0.2, False, 5, "undecided"),
        (0.2, True, 1, "undecided"),
    ],
)
def test_both_readings_are_judged(mdm, control, seeds, said, tmp_path, monkeypatch) -> None:
    name = make_pair(tmp_path, tasks=("ioi",), seeds=(0,))
    study = Study.open(name, "book", str(tmp_path / "results"), "all", tmp_path)
    monkeypatch.setattr(components, "tables", lambda _: {"spread": None})
    monkeypatch.setattr(components, "spread", lambda _: made(mdm, seeds, control=control))
    [verdict] = verdicts.of(study, "C3")
    assert verdict.outcome == said
    assert verdict.page == "components"
    lacking = int(not control) + int(seeds == 1)  # each is missing once, in words and number
    assert verdict.contrasts == (6 if control else 3) + int(seeds == 1)
    assert bool(verdict.missing) == bool(lacking)
    # One reading alone isn't enough.
    if said == "reproduced":
        one = made(mdm).assign(tokens=0.3)
        monkeypatch.setattr(components, "spread", lambda _: one)
        [half] = verdicts.of(study, "C3")
        assert half.outcome == "not reproduced"
        assert "tokens" in half.yardstick


def test_differences_stand_beside_those_between_arms() -> None:
    table = made(0.2, seeds=3)
    table.loc[(table.model == "arm") & (table.seed == 2), "tokens"] += 0.03
    found = components.over_trainings(table).set_index(["task", "reading", "model", "base"])
    row = found.loc[("ioi", "participation_free", "mdm", "arm")]
    assert row.difference == pytest.approx(0.2)
    assert row.low < 0.2 < row.high
    assert found.loc[("ioi", "tokens", "arm", "arm")].difference == pytest.approx(0.02)
    assert len(found) == 2 * 2 * 5
    assert ("ioi", "tokens", "arm", "arm") not in components.over_trainings(
        made(0.2, seeds=1)
    ).set_index(["task", "reading", "model", "base"]).index


def answers() -> pd.DataFrame:
    """Two positions: at the first a1.h0 writes everything, at the second all write alike."""
    rows = []
    for seed, model, (position, logits) in itertools.product(
        (0, 1), ("arm", "mdm"), enumerate(([0, 0, 0, 4, 0, 0], [1, -1, 1, 1, 1, 1]))
    ):
        about = {"task": "ioi", "seed": seed, "model": model, "position": position, "n": 8}
        for name, value in zip(NAMES, logits, strict=True):
            kind, layer = ("mlp" if name[0] == "m" else "head"), int(name[1])
            row = {"component": name, "kind": kind, "layer": layer, "logits": value + seed * 0.0}
            rows.append(about | row)
        for name, value in (("input", 0.5), ("bias", -0.25)):
            rows.append(about | {"component": name, "kind": name, "layer": -1, "logits": value})
    return pd.DataFrame(rows)


def test_totals_are_sums_and_shares_are_of_each_position() -> None:
    total = components.totals(answers()).set_index("model").loc["arm"]
    assert total["head"] == pytest.approx((4 + 2) / 2)
    assert total["mlp"] == pytest.approx((0 + 2) / 2)
    assert total["total"] == pytest.approx(3 + 1 + 0.5 - 0.25)
    grid = components.shown_grid(answers(), 0).query("model == 'mdm'").set_index("component")
    assert grid.share["a1.h0"] == pytest.approx((1 + 1 / 6) / 2)
    assert grid.share["a0.h1"] == pytest.approx(-1 / 12)
    assert set(grid.index) == set(NAMES)


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Study:
    root = tmp_path_factory.mktemp("components")
    name = make_pair(root, tasks=("ioi", "countdown"))
    return Study.open(name, "book", str(root / "results"), "all", root)


def test_tables_of_a_model_are_what_its_runs_say(toy: Study) -> None:
    tables = components.tables(toy)
    assert tables["check"].gap.max() < 1e-4
    answer = tables["answer"].query("task == 'ioi' and seed == 1 and model == 'mdm'")
    # The sum is the mean difference of logits, asked of the model itself.
    model, wanted = toy.model("mdm", 1), []
    for example in toy.examples("ioi", 1)[: toy.budget.circuit_examples]:
        [item] = model.readout.items(example, 0)
        level = model.logits(torch.tensor([item.clean]))[0, item.reads[0]]
        right, wrong = list(item.answers[0]), list(item.distractors[0])
        wanted.append(float(level[right].mean() - level[wrong].mean()))
    assert answer.logits.sum() == pytest.approx(np.mean(wanted), abs=1e-4)
    assert answer.component.tolist() == ["input", *NAMES, "bias"]
    # Measures are of heads and MLPs alone, of means over examples, position by position.
    spread = tables["spread"].query("task == 'countdown' and seed == 0 and model == 'arm'")
    own = spread[spread.directions == components.OWN].set_index("position")
    by = tables["answer"].query("task == 'countdown' and seed == 0 and model == 'arm'")
    assert len(own) == by.position.nunique() > 1
    for position, part in by.groupby("position"):
        alone = part[part.kind.isin(["head", "mlp"])].logits
        assert own.participation[position] == pytest.approx(participation(alone))
        curve = tables["curve"].query(
            "task == 'countdown' and seed == 0 and model == 'arm' and position == @position"
        )
        drawn = curve[curve.directions == components.OWN].y
        np.testing.assert_allclose(drawn, lorenz(alone))
    assert (spread.tokens > 0).all()
    assert (spread.tokens <= 1).all()
    lens = tables["lens"].query("task == 'ioi' and seed == 0 and model == 'arm'")
    assert lens.component.tolist() == list(NAMES)
    assert (lens.tokens.str.split().str.len() <= components.NAMED).all()


def test_tables_are_kept(toy: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    first = components.tables(toy)["spread"]

    def refuse(*_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(components, "split", refuse)
    pd.testing.assert_frame_equal(components.tables(toy)["spread"], first)


def test_what_is_said_and_drawn(toy: Study) -> None:
    tables = components.tables(toy)
    spread = components.spread(tables["spread"])
    said = words.totals(components.totals(tables["answer"]), tables["check"])
    fewest = tables["answer"].n.min()
    assert f"means over 2 trainings, too few for an interval, n = {fewest}–6 examples" in said.said
    assert MISSING not in RANGE.sub("", said.said)
    grid = components.shown_grid(tables["answer"], 0)
    strongest = components.strongest(tables["lens"], 0)
    assert strongest.model.tolist() == [m for m in ("arm", "mdm", "continued") for _ in "ab"] * 2
    over = components.over_trainings(spread)
    found = {
        "grid": words.grid(grid, 0),
        "carried": words.carried(spread),
        "tokens": words.tokens(spread, over),
        "lens": words.lens(strongest, 0, tables["answer"].n),
    }
    for name, one in found.items():
        assert "nan" not in one.said, name
        assert "on IOI and " in one.said, name
        assert MISSING not in RANGE.sub("", one.said), name
    assert found["carried"].table is not None
    assert found["tokens"].table is not None
    assert "between two ARMs" in found["tokens"].table.compared.tolist()
    figures = [plot_grid(grid), plot_lorenz(tables["curve"]), plot_spread(spread)]
    maps = [ax for ax in figures[0].axes if ax.images]
    assert [ax.get_title() or ax.get_title(loc="left") for ax in maps][:3] == [
        "IOI, ARM",
        "IOI, MDM",
        "IOI, continued",
    ]
    drawn = grid.query("task == 'ioi' and model == 'mdm'").set_index("component").share
    cells = maps[1].images[0].get_array()
    assert cells is not None
    assert cells[1].tolist() == pytest.approx([drawn["a1.h0"], drawn["a1.h1"], drawn["m1"]])
    assert all(len(alt_text(fig)) > 60 for fig in figures)


def test_a_pair_that_solves_nothing_has_nothing_to_compare(tmp_path: Path) -> None:
    name = make_pair(tmp_path, tasks=("ioi",), seeds=(0,))
    study = Study.open(name, "book", str(tmp_path / "results"), "common-correct", tmp_path)
    assert components.asked(study) == []
    [verdict] = verdicts.of(study, "C3")
    assert verdict.outcome == "doesn't apply"
