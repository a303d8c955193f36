"""Sentences follow the numbers: each verdict is reached, and only by the tables that earn it."""

import numpy as np
import pandas as pd
import pytest

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
            | {"high": value + half, "chance": 0.02, "count": 50, "bias": -0.03}
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


def test_step_stability_is_judged_against_the_papers_share():
    table = pd.DataFrame(
        [
            {"task": "countdown", "circuit": "mdm", "components": c, "edges": 0.5, "cosine": 0.8}
            | {"k": 4}
            for c in (1.0, 0.95)
        ]
    )
    assert "As the paper reports" in narrative.steps(table)
    assert "**not** met" in narrative.steps(table.assign(components=0.75))
    assert "no steps to compare" in narrative.steps(table.iloc[:0])


@pytest.mark.parametrize(
    ("arm_mdm", "expected"),
    [
        (0.5, "below continued autoregressive training; below the noise"),
        (0.78, "not told apart from continued autoregressive training; below the noise"),
        (0.95, "above continued autoregressive training; not told apart from the noise"),
    ],
)
def test_overlap_beside_its_yardsticks(arm_mdm, expected):
    assert expected in compared.overlap(edges(arm_mdm))


def test_a_pair_without_control_is_compared_with_noise_only():
    table = edges(0.5)
    text = compared.overlap(table[table.comparison != "arm-continued"])
    assert "continued" not in text
    assert "no continued-training control" in compared.robustness(
        table[table.comparison != "arm-continued"]
    )


def test_claim_1_has_three_outcomes_and_needs_both_regimes():
    assert "**C1 shows.**" in compared.locality(both(0.9, 0.5), REGIMES)
    assert "**C1 can't be told**" in compared.locality(both(0.62, 0.6), REGIMES)
    assert "**C1 is not reproduced" in compared.locality(both(0.5, 0.6), REGIMES)
    assert "one regime only" in compared.locality(edges(0.5), REGIMES)


def test_robustness_counts_budgets():
    table = pd.concat([edges(0.5), edges(0.9).assign(count=100)])
    assert "below ARM ↔ continued at 1 of 2 budgets" in compared.robustness(table)


def shifts(control=None, **by_task):
    """Shifts of the MDM and, with ``control``, of the control; half-widths of 0.05."""
    values = []
    for task, mdm in by_task.items():
        values.append((task, "mdm", "arm", mdm))
        if control is not None:
            values.append((task, "continued", "arm", control))
            values.append((task, "mdm", "continued", mdm - control))
    return pd.DataFrame(
        [
            {"task": task, "circuit": circuit, "base": base, "end": "source", "edges": "top"}
            | {"shift": value, "low": value - 0.05, "high": value + 0.05}
            for task, circuit, base, value in values
        ]
    )


def test_claim_2_is_about_global_tasks():
    everywhere = shifts(ioi=0.0, countdown=-0.2, infilling=-0.1)
    assert "**the direction of C2 shows" in compared.shift(everywhere, REGIMES)
    partly = compared.shift(shifts(countdown=-0.2, infilling=0.0), REGIMES)
    assert "shows on Countdown but not on every" in partly
    assert "in part" in partly
    assert "**C2 is not reproduced" in compared.shift(shifts(ioi=-0.2, countdown=0.1), REGIMES)
    assert "no global task" in compared.shift(shifts(ioi=-0.2), REGIMES)


def test_claim_2_needs_a_shift_beyond_the_controls():
    same = compared.shift(shifts(control=-0.2, countdown=-0.2), REGIMES)
    assert "**C2 is not reproduced" in same
    assert "On Countdown the circuit does lie earlier than the ARM's, but no earlier than" in same
    beyond = compared.shift(shifts(control=-0.1, countdown=-0.2), REGIMES)
    assert "**the direction of C2 shows" in beyond
    assert "but no earlier" not in beyond


def test_published_shifts_stand_beside_ours():
    text = compared.shift(shifts(countdown=0.0), REGIMES)
    assert "-0.20 (LLaMA series) and -0.34 (Qwen series)" in text


def test_shift_says_earlier_later_or_neither():
    text = compared.shift(shifts(ioi=-0.2, countdown=0.2, infilling=0.01), REGIMES)
    assert "-0.200 [-0.250, -0.150], earlier." in text
    assert "+0.200 [+0.150, +0.250], later." in text
    assert "neither earlier nor later." in text


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
    assert "0.053 on IOI, 0.250 on Countdown, so C1 is **reversed**" in text
    assert "0.500 on IOI, 0.053 on Countdown, so C1 holds" in text
    depth = compared.published_depth(published.top_edge_depth(top))
    assert "0.81 in the ARM, 0.47 in the MDM" in depth


def test_lists_read_like_english():
    assert [narrative.listed(x) for x in (["a"], ["a", "b"], ["a", "b", "c"])] == [
        "a",
        "a and b",
        "a, b and c",
    ]
