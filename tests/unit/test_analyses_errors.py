"""The page on error rates: from made-up scores to its table, sentence and figure."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mechshift_lib.analyses import errors
from mechshift_lib.analyses.words import errors as words
from mechshift_lib.comparison.worlds import NULLS, Real
from mechshift_lib.plots.errors import plot_rates

EFFECTS = {"a small shift": 0.05, "a large shift": 0.15}


@pytest.fixture(scope="module")
def simulated() -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(0)

    def real(noise: float) -> Real:
        mean = rng.standard_normal(120) ** 3
        scores = [
            mean * (1 + move * rng.standard_normal(120))
            + noise * np.abs(mean) * rng.standard_normal((16, 120))
            for move in (0.0, 0.3, 0.2)
        ]
        return Real(*scores)

    ends = (np.arange(120) % 8, np.arange(120) // 8)
    return errors.simulated([real(0.5)], [real(1.0)], ends, 12, EFFECTS, 12)


def test_every_world_is_judged_by_both_similarities(simulated: dict[str, pd.DataFrame]) -> None:
    rates = simulated["rates"]
    assert rates.groupby("measure").world.apply(list).to_dict() == {
        name: [*NULLS, *EFFECTS] for name in errors.COMPARED
    }
    assert rates.true.tolist() == 2 * [*len(NULLS) * [False], True, True]
    kinds = rates[["reproduced", "not reproduced", "undecided", "reversed"]]
    assert (kinds.sum(axis=1) == 12).all()
    assert simulated["power"].seeds.unique().tolist() == list(errors.CURVE)
    by = rates[rates.measure == "noiseless"].set_index("world")
    assert by.planned["a small shift"] < by.planned["a large shift"]
    assert by.effect["a small shift"] < by.effect["a large shift"]


def test_the_sentences_count_and_the_table_has_exact_intervals() -> None:
    row = {"not reproduced": 0, "reversed": 0, "control": 0.1, "local": 0.2, "planned": 0.2}
    row |= {"effect": 0.0, "studies": 100, "seeds": 5}
    table = pd.DataFrame(
        [
            row | {"measure": m, "world": w, "true": t, "reproduced": n, "undecided": 100 - n}
            for m, w, t, n in [
                ("noiseless", "alike", False, 2),
                ("noiseless", "shared", False, 4),
                ("noiseless", "planted", True, 97),
                ("jaccard", "alike", False, 9),
                ("jaccard", "shared", False, 1),
                ("jaccard", "planted", True, 31),
            ]
        ]
    )
    found = words.rates(table)
    assert "4 of 100 simulated studies" in found.said
    assert "worst of 2 worlds (shared)" in found.said
    assert "and 9 of 100 if" in found.said
    assert "97 of 100 and 31 of 100 do" in found.said
    assert "planted here" not in found.said
    more = words.rates(table, ["planted", "as in heaven"])
    assert "A shift as in heaven can't be planted here" in more.said
    null = words.rates(table[~table.true], ["planted"])
    assert "do in the less" not in null.said
    assert "nan" not in null.said
    assert "no power to tell" in words.power(table.iloc[:0]).said
    assert found.table is not None
    assert found.table["reproduced (%)"][1] == "4.0 [1.1, 9.9]"
    assert found.table["there, it is"].tolist() == ["false", "false", "true"] * 2
    power = words.power(table[table.true].assign(seeds=[3, 8]))
    assert "3 trainings find it in 97 of 100 studies, 8 in 31" in power.said


def test_the_figure_has_both_similarities_and_what_is_promised(
    simulated: dict[str, pd.DataFrame],
) -> None:
    fig = plot_rates(simulated["rates"], words.PROMISED)
    [ax] = fig.axes
    dots = [line for line in ax.lines if len(line.get_xdata()) == len(NULLS) + 2]
    assert len(dots) == 2
    assert any(np.allclose(line.get_xdata(), words.PROMISED) for line in ax.lines)
    assert len(ax.get_yticklabels()) == len(NULLS) + 2


def test_a_shift_that_no_move_makes_is_left_out() -> None:
    rng = np.random.default_rng(1)
    mean = rng.standard_normal(60) ** 3
    noisy = [mean + 0.1 * rng.standard_normal((8, 60)) for _ in range(3)]
    ends = (np.arange(60) % 4, np.arange(60) // 4)
    found = errors.simulated([Real(*noisy)], [Real(*noisy)], ends, 6, {"impossible": 5.0}, 2)
    assert found["rates"].world.unique().tolist() == list(NULLS)
    assert found["power"].empty
