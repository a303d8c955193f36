"""ARM and MDM compared: overlap and depth, beside continued training, noise and chance."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mechshift_lib.analyses.circuits import key_of
from mechshift_lib.analyses.scores import Scores, circuits_of, scores, studied_tasks
from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.comparison.bootstrap import Estimate, bootstrap, split_halves
from mechshift_lib.comparison.depth import centre_of_mass
from mechshift_lib.comparison.overlap import (
    REFERENCE_FRACTION,
    EdgeBudget,
    component_count,
    component_overlap,
    component_scores,
    edge_budgets,
    expected_jaccard,
    head_usage,
    jaccard,
    top_edges,
    top_edges_at,
)

#: Comparison -> the two circuits that it compares over the same examples.
COMPARISONS: dict[str, tuple[str, str]] = {
    "arm-mdm": ("arm", "mdm"),
    "arm-mdm-own": ("arm", "mdm-own"),
    "mdm-mdm-own": ("mdm", "mdm-own"),
    "arm-continued": ("arm", "continued"),
}
#: Comparison -> the two circuits that it compares over disjoint halves of the examples.
HALVES: dict[str, tuple[str, str]] = {
    "arm-halves": ("arm", "arm"),
    "mdm-halves": ("mdm", "mdm"),
    "arm-mdm-halves": ("arm", "mdm"),
}
SPLITS = 100
ROOMS = ("circuits", "comparison", "analyses/behaviour", "analyses/scores", "analyses/overlap")
TOP, ALL = f"top {100 * REFERENCE_FRACTION:.0f} % of edges", "all edges"

Frames = dict[str, pd.DataFrame]


def compare(study: Study, task: str, seed: int | None = None) -> Frames:
    """Everything that is compared on one task, over the common examples of one seed.

    Returns:
        ``edges``: one row per comparison and budget, ``task, seed, comparison, label, count,
        fraction, jaccard, low, high, bias, chance, n``.
        ``components``: one row per comparison, ``..., k, share, jaccard, low, high, bias, chance,
        count, n`` (interval and chance of ``share``).
        ``depth``: one row per circuit, end and set of edges, ``task, seed, circuit, end, edges,
        depth, low, high, count, n``.
        ``heads``: one row per layer, ``task, seed, layer, arm_only, mdm_only, shared, count, n``.
    """
    seed = study.seed if seed is None else seed
    names = circuits_of(study, task) if seed == study.seed else ["arm", "mdm"]
    key = key_of(study, task, seed, names, ROOMS) | {"draws": study.budget.bootstrap}

    def compute() -> Frames:
        found = {name: scores(study, task, name, seed) for name in names}
        draws = study.budget.bootstrap
        frames = compare_scores(found, draws=draws, seed=RESAMPLING_SEED)
        for frame in frames.values():
            frame.insert(0, "task", task)
            frame.insert(1, "seed", seed)
        return frames

    return study.frames("overlap", key, compute)


def compare_scores(found: dict[str, Scores], *, draws: int, seed: int) -> Frames:
    """The tables of :func:`compare` from scores alone (without task and seed)."""
    layout = _Layout(found)
    estimate = bootstrap(
        [one.by_example for one in found.values()],
        layout.statistics,
        draws=draws,
        seed=seed,
        recentre=True,
    )
    plain = bootstrap(
        [one.by_example for one in found.values()],
        layout.depths,
        draws=draws,
        seed=seed,
    )
    edges = layout.edge_rows(estimate)
    edges += _half_rows(found, layout.budgets, seed)
    return {
        "edges": pd.DataFrame(edges),
        "components": pd.DataFrame(layout.component_rows(estimate)),
        "depth": pd.DataFrame(layout.depth_rows(plain)),
        "heads": _head_rows(found),
    }


class _Layout:
    """Which statistic of a bootstrap stands where."""

    def __init__(self, found: dict[str, Scores]) -> None:
        self.names = list(found)
        first = next(iter(found.values()))
        self.edges, self.n = first.edges, len(first.examples)
        self.budgets = edge_budgets(len(self.edges))
        self.reference = max(1, round(REFERENCE_FRACTION * len(self.edges)))
        self.k = component_count(len(self.edges.components))
        self.comparisons = {
            name: (self.names.index(a), self.names.index(b))
            for name, (a, b) in COMPARISONS.items()
            if a in self.names and b in self.names
        }
        self.measures = [
            (circuit, end, edges)
            for circuit in range(len(self.names))
            for end in ("source", "reader")
            for edges in (TOP, ALL)
        ]

    def statistics(self, *means: NDArray[np.float64]) -> NDArray[np.float64]:
        """Jaccards of all comparisons and budgets, then component shares, ``[draws, n_stats]``."""
        counts = [budget.count for budget in self.budgets]
        rows = []
        for draw in zip(*means, strict=True):
            masks = [top_edges_at(one, [*counts, self.reference]) for one in draw]
            parts = [
                component_scores(self.edges, one, mask[-1])
                for one, mask in zip(draw, masks, strict=True)
            ]
            row: list[float] = []
            for a, b in self.comparisons.values():
                row += jaccard(masks[a][:-1], masks[b][:-1]).tolist()
            row += [
                component_overlap(parts[a], parts[b], self.k).share
                for a, b in self.comparisons.values()
            ]
            rows.append(row)
        return np.array(rows)

    def depths(self, *means: NDArray[np.float64]) -> NDArray[np.float64]:
        """Depths of all measures, ``[draws, n_stats]``."""
        tops = [top_edges(one, self.reference) for one in means]
        return np.stack(
            [
                centre_of_mass(
                    means[circuit], self.edges.depth(end), tops[circuit] if kind == TOP else None
                )
                for circuit, end, kind in self.measures
            ],
            axis=1,
        )

    def edge_rows(self, estimate: Estimate) -> list[dict]:
        """Rows of ``edges``."""
        rows, at = [], 0
        for name in self.comparisons:
            for budget in self.budgets:
                rows.append(
                    {"comparison": name}
                    | _budget_columns(budget, len(self.edges))
                    | columns(estimate, at, "jaccard", (0, 1))
                    | {"n": self.n}
                )
                at += 1
        return rows

    def component_rows(self, estimate: Estimate) -> list[dict]:
        """Rows of ``components``."""
        start = len(self.comparisons) * len(self.budgets)
        rows = []
        for at, name in enumerate(self.comparisons, start):
            share = float(estimate.value[at])
            rows.append(
                {"comparison": name, "k": self.k}
                | columns(estimate, at, "share", (0, 1))
                | {
                    "jaccard": share / (2 - share),
                    "chance": self.k / len(self.edges.components),
                    "count": self.reference,
                    "n": self.n,
                }
            )
        return rows

    def depth_rows(self, estimate: Estimate) -> list[dict]:
        """Rows of ``depth``."""
        return [
            self._measure(at) | columns(estimate, at, "depth") | {"n": self.n}
            for at in range(len(self.measures))
        ]

    def _measure(self, at: int) -> dict:
        circuit, end, kind = self.measures[at]
        count = self.reference if kind == TOP else len(self.edges)
        return {"circuit": self.names[circuit], "end": end, "edges": kind, "count": count}


def columns(
    estimate: Estimate, at: int, name: str, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> dict[str, float]:
    """One statistic of an estimate as columns, its interval clipped to ``bounds``."""
    low, high = np.clip([estimate.low[at], estimate.high[at]], *bounds)
    return {
        name: float(estimate.value[at]),
        "low": float(low),
        "high": float(high),
        "bias": float(estimate.bias[at]),
    }


def _budget_columns(budget: EdgeBudget, n_edges: int) -> dict[str, object]:
    return {
        "label": budget.label,
        "count": budget.count,
        "fraction": budget.fraction,
        "chance": expected_jaccard(n_edges, budget.count, budget.count),
    }


def _half_rows(found: dict[str, Scores], budgets: list[EdgeBudget], seed: int) -> list[dict]:
    """Overlap of circuits of disjoint halves: mean and central 95 % over random splits."""
    counts = [budget.count for budget in budgets]
    arm, mdm = found["arm"].by_example, found["mdm"].by_example
    drawn: dict[str, list[NDArray[np.float64]]] = {name: [] for name in HALVES}
    for first, second in split_halves(len(arm), SPLITS, seed):
        masks = {
            (name, half): top_edges_at(one[rows].mean(axis=0), counts)
            for name, one in (("arm", arm), ("mdm", mdm))
            for half, rows in (("a", first), ("b", second))
        }
        for name, (x, y) in HALVES.items():
            drawn[name].append(jaccard(masks[x, "a"], masks[y, "b"]))
    n_edges, rows = arm.shape[1], []
    for name, values in drawn.items():
        table = np.array(values)
        low, high = np.quantile(table, [0.025, 0.975], axis=0)
        for i, budget in enumerate(budgets):
            rows.append(
                {"comparison": name}
                | _budget_columns(budget, n_edges)
                | {
                    "jaccard": float(table[:, i].mean()),
                    "low": float(low[i]),
                    "high": float(high[i]),
                    "bias": np.nan,
                    "n": len(arm) // 2,
                }
            )
    return rows


def _head_rows(found: dict[str, Scores]) -> pd.DataFrame:
    arm, mdm = found["arm"], found["mdm"]
    count = max(1, round(REFERENCE_FRACTION * len(arm.edges)))
    usage = head_usage(arm.edges, top_edges(arm.mean, count), top_edges(mdm.mean, count))
    frame = pd.DataFrame(usage, columns=["arm_only", "mdm_only", "shared"])
    frame.insert(0, "layer", np.arange(len(frame)))
    return frame.assign(count=count, n=len(arm.examples))


def comparison_tables(study: Study) -> Frames:
    """The tables of :func:`compare` for all tasks (first seed), one below the other."""
    parts = [compare(study, task) for task in studied_tasks(study)]
    return {name: pd.concat([p[name] for p in parts], ignore_index=True) for name in parts[0]}


def at_reference(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``edges`` at the reference budget, :data:`REFERENCE_FRACTION` of all edges."""
    return table[table.label == f"{REFERENCE_FRACTION:.1%}"]
