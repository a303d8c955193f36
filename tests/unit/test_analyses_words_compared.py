"""Words of behaviour, circuits, overlap and the published numbers, from tables made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mechshift_lib.analyses import narrative
from mechshift_lib.analyses.words import behaviour, circuits, overlap
from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.analyses.words import published as paper
from mechshift_lib.analyses.words.formatting import Finding
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.comparison import published
from mechshift_lib.config import Budget

REGIMES = {"ioi": "local", "countdown": "global"}


def around(name: str, value: float, half: float = 0.05, **columns: Any) -> dict[str, Any]:
    return {name: value, "low": value - half, "high": value + half, "n": 20, **columns}


def edges(task: str = "ioi", comparisons: tuple[str, ...] = overlap.YARDSTICKS) -> pd.DataFrame:
    values = dict(zip(overlap.YARDSTICKS, (0.5, 0.8, 0.9, 0.9, 0.4), strict=True))
    rows = [
        around(
            "jaccard", values[name], task=task, comparison=name, chance=0.02, count=50, bias=-0.03
        )
        for name in comparisons
    ]
    return pd.DataFrame(rows)


def table_of(finding: Finding) -> pd.DataFrame:
    assert finding.table is not None
    assert not finding.table.map(lambda x: str(x) in ("nan", "-0.00")).any().any()
    return finding.table


def test_accuracy_stands_in_percent_with_its_interval_for_every_seed() -> None:
    rows = [
        around("accuracy", 0.9 - 0.1 * seed, task=task, role=role, seed=seed)
        for task in ("ioi", "countdown") for role in ("arm", "mdm") for seed in (0, 1)
    ]  # fmt: skip
    found = behaviour.accuracy(pd.DataFrame(rows))
    assert "ARM answers 90.0 % [85.0, 95.0] on IOI and 90.0 %" in found.said
    assert "(seed 0, n = 20 held-out" in found.said
    table = table_of(found)
    assert table.columns.tolist() == ["task", "seed", "ARM", "MDM"]
    assert table.MDM.tolist() == ["90.0 [85.0, 95.0]", "80.0 [75.0, 85.0]"] * 2


def test_orders_are_a_table_and_one_order_is_said() -> None:
    rows = [
        around("accuracy", value, task="countdown", order=order, seed=0)
        for order, value in (("entropy", 0.9), ("random", 0.5))
    ]
    found = behaviour.orders(pd.DataFrame(rows), "entropy")
    assert "(entropy), the MDM answers 90.0 % [85.0, 95.0] on Countdown right" in found.said
    assert table_of(found).Countdown.tolist() == ["90.0 [85.0, 95.0]", "50.0 [45.0, 55.0]"]
    nothing = pd.DataFrame(rows).iloc[:0]
    assert "one order only" in behaviour.orders(nothing, "entropy").said


def test_a_metric_is_told_for_both_models() -> None:
    rows = {"task": "ioi", "role": ["arm", "mdm"], "above": [1.0, 0.5], "n": 20}
    found = behaviour.metric(pd.DataFrame(rows))
    assert "100.0 % on IOI in the ARM and 50.0 % on IOI in the MDM" in found.said


def test_pools_name_what_they_are_taken_over() -> None:
    row = around("both", 0.9, task="ioi", used=100, continued=np.nan)
    table = pd.DataFrame([row])
    assert "whether they are solved or not" in behaviour.pool(table, "all").said
    found = behaviour.pool(table, "common-correct")
    assert "both solve 90.0 % [85.0, 95.0] on IOI" in found.said
    assert table_of(found).iloc[0].tolist() == ["IOI", "90.0 [85.0, 95.0]", "20", "100", "–"]


def test_the_graph_and_its_strongest_edges() -> None:
    text = circuits.graph(Graph(6, 4, 2), Budget(ig_steps=5, circuit_examples=100))
    assert "6 layers of 4 heads (2 key/value heads; ungrouped" in text
    assert "1,108 edges" in text
    tables = {
        "ioi": pd.DataFrame({"arm edge": ["a", "b"], "mdm edge": ["b", "c"]}),
        "countdown": pd.DataFrame({"arm edge": ["a", "b"], "mdm edge": ["b", "a"]}),
    }
    assert circuits.strongest(tables) == (
        "Of each model's 2 strongest edges, 1 on IOI and 2 on Countdown are the same ones."
    )


def test_overlaps_stand_beside_their_yardsticks() -> None:
    found = overlap.overlaps(edges())
    table = table_of(found)
    assert table.columns.tolist() == [
        "task",
        "ARM ↔ MDM",
        "ARM ↔ continued ARM",
        "ARM ↔ ARM, halves",
        "MDM ↔ MDM, halves",
        "ARM ↔ MDM, halves",
        "chance",
        "n",
    ]
    row = table.iloc[0]
    assert row["ARM ↔ MDM, halves"] == "0.40 [0.35, 0.45]"
    assert (row.chance, row.n) == ("0.020", 20)
    assert "ARM ↔ MDM 0.50 [0.45, 0.55] on IOI; ARM ↔ continued 0.80" in found.said


def test_a_pair_without_control_has_no_column_of_it() -> None:
    table = edges(comparisons=("arm-mdm", "arm-halves", "mdm-halves", "arm-mdm-halves"))
    found = overlap.overlaps(table)
    assert not any("continued" in name for name in table_of(found))
    assert found.said.endswith("This pair has no continued-training control.")
    assert "-0.030 from it on average" in overlap.bias(table)


def test_every_size_has_both_comparisons() -> None:
    table = pd.concat([edges(), edges().assign(count=1000)])
    found = overlap.sizes(table)
    assert found["size"].tolist() == ["50", "1,000"]
    assert found.columns.tolist() == ["task", "size", "ARM ↔ MDM", "ARM ↔ continued ARM"]


def trained(**values: float) -> pd.DataFrame:
    """Three trainings, 0.1 apart."""
    return pd.DataFrame(
        {"task": task, "what": task.upper(), "read": "all", "seed": seed, "circuit": circuit}
        | {"cosine": value + 0.1 * seed, "earlier": value + 0.1 * seed, "n": 20}
        for circuit, value in values.items()
        for task in REGIMES
        for seed in range(3)
    )


def held(*whats: str) -> pd.DataFrame:
    """Contrasts over trainings, that against the matched point missing."""
    return pd.DataFrame(
        {"what": what, "contrast": name, "value": 0.1, "low": low, "high": 0.3, "n": 3}
        | {"flips": 1 / 8}
        for what in whats
        for name, low in (("mdm", -0.1), ("mdm-continued", np.nan))
    )


def test_likeness_is_the_mean_with_its_range_over_trainings() -> None:
    found = overlap.likeness(trained(mdm=0.4, continued=0.7))
    assert "in the MDM 0.50 on IOI and 0.50 on Countdown; in the continued ARM 0.80" in found.said
    assert "n = 3 trainings)" in found.said
    table = table_of(found)
    assert table.MDM.tolist() == ["0.50 [0.40, 0.60]"] * 2
    assert table.task.tolist() == ["IOI", "COUNTDOWN"]
    assert overlap.likeness(trained(mdm=0.4)).said.endswith("no continued-training control.")


def test_differences_of_tasks_are_told_with_what_is_missing() -> None:
    found = overlap.differences(held("cosine", "share"))
    assert "is +0.10 [-0.10, +0.30] higher" in found.said
    assert found.said.endswith("that is +0.10 beyond the continued ARM's (3 trainings).")
    whole = held("cosine")
    whole = pd.concat([whole, whole.tail(1).assign(contrast="matched-continued", value=0.2)])
    said = overlap.differences(whole).said
    assert "ARM's and +0.20 in the MDM no further away than that (3 trainings)" in said
    alone = overlap.differences(held("cosine").head(1)).said
    assert alone.endswith("in the MDM (3 trainings).")
    table = table_of(found)
    assert table["p (signs)"].tolist() == ["0.125"] * 4
    assert table["of"].tolist() == ["cosine", "cosine", "share", "share"]
    assert "lacks circuits" in overlap.differences(held("cosine").iloc[:0]).said


def test_earlier_is_told_for_global_and_for_local_tasks() -> None:
    found = overlap.earlier(trained(mdm=-0.3, continued=0.0), held("IOI"), REGIMES)
    assert "later), -20.0 on Countdown; for" in found.said
    assert "on local tasks by -20.0 on IOI" in found.said
    assert len(table_of(found)) == 2


def test_heads_are_counted_by_half_of_the_layers() -> None:
    rows = [
        {"task": "ioi", "layer": layer, "arm_only": 1, "mdm_only": layer, "shared": 2}
        for layer in range(4)
    ]
    table = table_of(overlap.heads(pd.DataFrame(rows)))
    assert table["MDM only"].tolist() == ["1", "5"]
    assert table["half"].tolist() == ["first", "second"]
    assert table.both.tolist() == ["4", "4"]


def test_components_and_seeds() -> None:
    parts = pd.DataFrame(
        [around("share", 0.75, task="ioi", comparison="arm-mdm", k=4, chance=0.13)]
    )
    found = overlap.components(parts)
    assert "have 0.75 [0.70, 0.80] on IOI of their top 4 components" in found.said
    assert table_of(found).chance.tolist() == ["0.13"]
    several = pd.concat([edges().assign(seed=0), edges().assign(seed=1)])
    assert len(table_of(overlap.seeds(several))) == 2
    assert "one training seed" in overlap.seeds(several.iloc[:0]).said


def test_budgets_of_a_small_and_of_a_large_graph() -> None:
    def table(n: int) -> pd.DataFrame:
        counts = [n // 200, n // 2]
        return pd.DataFrame({"count": counts, "fraction": [c / n for c in counts]})

    assert "as a fraction 1.1 edges here, as a count 100 % of the graph" in overlap.budgets(
        table(1000)
    )
    assert "as a fraction 106.9 edges here, as a count 1 %" in overlap.budgets(table(100_000))


def test_published_numbers_are_told_without_a_claim() -> None:
    top = published.read_table("top_edges")
    text = paper.overlap(published.overlap_table(published.read_table("overlap"), top))
    assert "0.053 and 0.250" in text
    assert "0.500 and 0.053" in text
    assert "C1" not in text
    assert "0.81 → 0.47" in paper.depth(published.top_edge_depth(top))
    shifts = overlap.published_shifts()
    assert "+20 (LLaMA series) and +34 (Qwen series)" in shifts
    assert "weighs every edge the same" in shifts


@pytest.mark.parametrize(
    ("value", "form", "written"),
    [
        (0.625, ".2f", "0.62"),
        (-0.001, ".2f", "0.00"),
        (-0.001, "+.2f", "+0.00"),
        (7822.27, ",.0f", "7,822"),
        (-0.2, ",.0f", "0"),
        (np.nan, ",.0f", fmt.MISSING),
    ],
)
def test_a_number_is_never_minus_zero(value: float, form: str, written: str) -> None:
    assert fmt.number(value, form) == written


def test_lists_read_like_english() -> None:
    assert [narrative.listed(x) for x in (["a"], ["a", "b"], ["a", "b", "c"])] == [
        "a",
        "a and b",
        "a, b and c",
    ]
