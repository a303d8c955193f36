"""Sentences follow the numbers: each verdict is reached, and only by the tables that earn it."""

import numpy as np
import pandas as pd

from mechshift_lib.analyses import narrative
from mechshift_lib.analyses import narrative_comparison as compared
from mechshift_lib.comparison import published
from mechshift_lib.comparison.bootstrap import wilson

REGIMES = {"ioi": "local", "countdown": "global", "infilling": "global"}


def edges(arm_mdm, *, continued=0.8, halves=0.9, cross=None, half=0.05, task="ioi"):
    values = {
        "arm-mdm": arm_mdm,
        "arm-continued": continued,
        "arm-halves": halves,
        "mdm-halves": halves,
        "arm-mdm-halves": arm_mdm if cross is None else cross,
    }
    return pd.DataFrame(
        [
            {"task": task, "comparison": name, "jaccard": value, "low": value - half}
            | {"high": value + half, "chance": 0.02, "count": 50, "bias": -0.03, "n": 20}
            for name, value in values.items()
        ]
    )


def both(local, other, half=0.05):
    return pd.concat([edges(local, half=half), edges(other, task="countdown", half=half)])


def test_accuracy_compares_intervals():
    rows = []
    for role, right in (("arm", 490), ("mdm", 300)):
        low, high = wilson(right, 500)
        rows.append(
            {"task": "ioi", "role": role, "seed": 0, "accuracy": right / 500, "low": low}
            | {"high": high}
        )
    text = narrative.accuracy(pd.DataFrame(rows))
    assert "ARM 98.0 %" in text
    assert "the MDM is worse than the ARM" in text
    assert "Below 95 %: IOI (MDM)" in text
    equal = pd.DataFrame([rows[0], {**rows[0], "role": "mdm"}])
    assert "intervals of ARM and MDM overlap" in narrative.accuracy(equal)
    assert "reach 95 % on every task" in narrative.accuracy(equal)


def test_orders_with_and_without_a_difference():
    def table(worst):
        low, high = wilson(worst, 100)
        rows = [
            {"task": "countdown", "order": "entropy", "seed": 0, "accuracy": 0.9, "low": 0.85},
            {"task": "countdown", "order": "random", "seed": 0, "accuracy": worst / 100},
        ]
        rows[0]["high"] = 0.95
        rows[1] |= {"low": low, "high": high}
        return pd.DataFrame(rows)

    assert "do not overlap" in narrative.orders(table(50))
    assert "intervals overlap" in narrative.orders(table(88))
    assert "90.0 % under every order" in narrative.orders(table(90))
    assert "one reveal order only" in narrative.orders(table(50).iloc[:0])


def test_a_metric_that_does_not_fall_is_named():
    table = pd.DataFrame({"task": ["ioi"], "role": ["mdm"], "above": [0.5]})
    assert "IOI, MDM (50.0 %)" in narrative.metric(table)
    assert "there is an effect" in narrative.metric(table.assign(above=0.99))


def test_an_unfiltered_pool_is_announced():
    table = pd.DataFrame(
        [{"task": "ioi", "n": 500, "both": 0.9, "low": 0.87, "high": 0.92, "used": 100}]
    ).assign(continued=np.nan)
    assert "whether they are solved or not" in narrative.pool(table, "all")
    text = narrative.pool(table, "common-correct")
    assert "90.0 % [87.0 %, 92.0 %] of 500" in text
    assert "the control" not in text


def test_steps_are_told_with_the_size_of_one_component():
    table = pd.DataFrame(
        [
            {"task": "countdown", "circuit": "mdm", "components": c, "edges": 0.5, "cosine": 0.8}
            | {"k": 4}
            for c in (1.0, 0.5)
        ]
    )
    text = narrative.steps(table)
    assert "share 75.0 % of their top 4 components (lowest 50.0 %)" in text
    assert text.endswith("one component more or less is 25.0 %.")
    assert "no steps to compare" in narrative.steps(table.iloc[:0])


def test_overlaps_stand_beside_their_yardsticks():
    table = compared.overlaps(edges(0.5, cross=0.4))
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
    assert row["ARM ↔ MDM"] == "0.50 [0.45, 0.55]"
    assert row["ARM ↔ MDM, halves"] == "0.40 [0.35, 0.45]"
    assert (row.chance, row.n) == ("0.020", "20")


def test_a_pair_without_control_has_no_column_of_it():
    table = edges(0.5)
    table = table[table.comparison != "arm-continued"]
    assert not any("continued" in name for name in compared.overlaps(table))
    assert "no continued-training control" in compared.robustness(table)


def test_robustness_counts_budgets():
    table = pd.concat([edges(0.5), edges(0.9).assign(count=100)])
    assert "below ARM ↔ continued at 1 of 2 budgets" in compared.robustness(table)


def test_depths_stand_beside_the_controls_for_local_and_global_tasks():
    about = {"end": "source", "edges": "top 5 % of edges", "n": 20}

    def span(value, name):
        return {name: value, "low": value - 0.05, "high": value + 0.05}

    depth = pd.DataFrame(
        {"task": task, "circuit": "arm"} | about | span(0.3, "depth")
        for task in ("ioi", "countdown")
    )
    shift = pd.DataFrame(
        {"task": task, "circuit": circuit, "base": base} | about | span(value, "shift")
        for task in ("ioi", "countdown")
        for circuit, base, value in (
            ("mdm", "arm", -0.2),
            ("continued", "arm", 0.1),
            ("mdm", "continued", -0.3),
        )
    )
    table = compared.depths(depth, shift, REGIMES)
    assert table["kind of task"].tolist() == ["local", "global"]
    assert table["MDM − ARM"].tolist() == ["-0.200 [-0.250, -0.150]"] * 2
    assert table["MDM − continued"].tolist() == ["-0.300 [-0.350, -0.250]"] * 2
    assert table["ARM"].tolist() == ["0.30 [0.25, 0.35]"] * 2
    without = compared.depths(depth, shift[shift.circuit == "mdm"][:1], {"ioi": "local"} | REGIMES)
    assert "continued − ARM" not in without


def test_published_shifts_have_their_estimand():
    text = compared.published_shifts()
    assert "-0.20 (LLaMA series) and -0.34 (Qwen series)" in text
    assert "weighs every edge the same" in text


def test_bias_is_reported():
    assert "-0.030 from it on average" in compared.bias(edges(0.5))
    assert "below what endless examples would give" in compared.bias(edges(0.5))
    assert "too little to matter" in compared.bias(edges(0.5).assign(bias=0.002))
    assert "endless" not in compared.bias(edges(0.5).assign(bias=0.05))


def test_budgets_of_a_small_and_of_a_large_graph():
    def table(n, labels):
        counts = [n // 200, n // 2]
        return pd.DataFrame({"count": counts, "fraction": [c / n for c in counts], "label": labels})

    small = compared.budgets(table(1000, ["0.5%", "50.0%"]))
    assert "1.1 edges here, too few" in small
    assert "whatever the circuits are" in small
    large = compared.budgets(table(100_000, ["paper's fraction", "paper's count"]))
    assert "1.0 % of the graph; both are among the sizes" in large


def test_published_claims_are_told_from_the_published_numbers():
    top = published.read_table("top_edges")
    text = compared.published_overlap(published.overlap_table(published.read_table("overlap"), top))
    assert "0.053 on IOI, 0.250 on Countdown" in text
    assert "0.500 on IOI, 0.053 on Countdown" in text
    assert "C1" not in text
    depth = compared.published_depth(published.top_edge_depth(top))
    assert "0.81 in the ARM, 0.47 in the MDM" in depth


def test_lists_read_like_english():
    assert [narrative.listed(x) for x in (["a"], ["a", "b"], ["a", "b", "c"])] == [
        "a",
        "a and b",
        "a, b and c",
    ]
