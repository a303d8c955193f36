"""Words of the chapters, from tables made by hand: every number, no claim and no judgement."""

import ast
import re

import pandas as pd
import pytest

from mechshift_lib.analyses import faithfulness_tables, planning_tables
from mechshift_lib.analyses.planning import PLACES
from mechshift_lib.analyses.probe_tables import MASKS, QUARTER
from mechshift_lib.analyses.trust import ESTIMATES, EXACT, HALVES
from mechshift_lib.analyses.words import (
    ablation,
    faithfulness,
    formatting,
    lens,
    patching,
    planning,
    probes,
    trust,
)
from mechshift_lib.config import ROOT

NAN = float("nan")
#: Words that decide; only a verdict may.
JUDGING = (
    r"\bC[1-7]\b|reproduc|revers|undecided|isn't needed|moved|serves|"
    r"\b(better|worse|beats?|shows? that|proves?|significant)\b"
)


def around(name, value, half=0.1, **columns):
    return {name: value, "low": value - half, "high": value + half, "n": 16, **columns}


def ablated(tasks=("ioi", "countdown"), models=("arm", "mdm", "continued"), lost=0.25):
    cells = [("none", "none"), ("zero", "early"), ("zero", "random"), ("mean", "early")]
    cells += [("mean", "random"), ("zero", "later")]
    left = [
        around("accuracy", lost, task=t, model=m, seed=s, ablation=a, kind=k)
        for t in tasks for m in models for s in (0, 1) for a, k in cells
    ]  # fmt: skip
    contrasts = [
        around("value", lost, task=t, ablation=a, against=k, contrast=c) | {"n": 2}
        for t in tasks for a, k in (("zero", "random"), ("mean", "random"), ("zero", "later"))
        for c in ("mdm", "mdm-continued")
    ]  # fmt: skip
    sets = [
        {"task": t, "model": m, "seed": 0, "early": "a0.h1+a0.h2", "later": "a2.h0+a3.h1"}
        | {"mass": 0.4, "random": 6}
        for t in tasks for m in models
    ]  # fmt: skip
    return [
        ablation.sets(pd.DataFrame(sets)),
        ablation.losses(pd.DataFrame(left)),
        ablation.contrasts(pd.DataFrame(contrasts)),
    ]


def planned(
    tasks=("ioi", "countdown"), models=("arm", "mdm", "continued"), lost=0.25, seeds=(0, 1)
):
    several = [t for t in tasks if t != "ioi"]  # a task whose answer is one token has no masks
    cells = [(t, m, s) for t in tasks for m in models for s in seeds]
    share = [
        around("share", lost, task=t, model=m, seed=s, place=p)
        for t, m, s in cells for p in PLACES
        if p not in ("own", "waiting") or (m == "mdm" and (p == "own" or t in several))
    ]  # fmt: skip
    peaks = [around("share", lost, task=t, model="mdm", seed=s, layer=1)
             for t in several for s in seeds]  # fmt: skip
    kinds = [(t, m, s, k) for t, m, s in cells for k in ("waiting", "revealed")
             if t in several and (k == "revealed" or m == "mdm")]  # fmt: skip
    cuts = [around("lost", lost, task=t, model=m, seed=s, kind=k, fell=1.0, fell_low=0.5)
            | {"fell_high": 1.5} for t, m, s, k in kinds]  # fmt: skip
    accuracy = [around("accuracy", 0.5, task=t, model=m, seed=s, kind=k + c, whole=1.0)
                for t, m, s, k in kinds for c in ("", "-control")]  # fmt: skip
    ranks = [
        {"task": t, "model": m, "seed": s, "rank": lost, "within": lost, "cells": 9}
        | {"accuracy": 0.5, "input": 0.4, "used": 0.1}
        for t, m, s in cells if t in several
    ]  # fmt: skip
    share, peaks, cuts, ranks = (
        pd.DataFrame(rows, columns=["task", "seed", "model", *columns, "n"])
        for rows, columns in (
            (share, ["place", "share", "low", "high"]),
            (peaks, ["layer", "share", "low", "high"]),
            (cuts, ["kind", "lost", "low", "high", "fell", "fell_low", "fell_high"]),
            (ranks, ["rank", "within", "cells", "accuracy", "input", "used"]),
        )
    )
    over = planning_tables.over_trainings
    found = [
        planning.carried(share, over(share, "share", ["place"])),
        planning.peaks(peaks, over(peaks, "share", [])),
        planning.cuts(cuts, over(cuts, "lost", ["kind"])),
        planning.agree(ranks, over(ranks, "rank", [])),
    ]
    if accuracy:
        found[2:3] = [
            formatting.Finding(found[2].said, planning.accuracies(pd.DataFrame(accuracy), cuts)),
            found[2],
        ]
    return found


def faithful(
    tasks=("ioi", "countdown"), models=("arm", "mdm", "continued"), value=0.8, seeds=(0, 1)
):
    cells = [(t, m, s) for t in tasks for m in models for s in seeds]
    sizes = [
        around("faithfulness", value, task=t, model=m, seed=s, first=0.005, second=0.01)
        | {"accuracy": 0.5, "right_low": 0.2, "right_high": 0.8, "whole": 1.0}
        for t, m, s in cells
    ]  # fmt: skip
    circuits = {m: {m: 0, "mdm" if m == "arm" else "arm": 0, "random": 0} for m in models}
    areas = [around("cpr", value, task=t, model=m, seed=s, circuit=c)
             for t, m, s in cells for c in circuits[m]]  # fmt: skip
    losses = [around("loss", value, task=t, model=m, seed=s, circuit=c)
              for t, m, s in cells for c in circuits[m] if c != m]  # fmt: skip
    tables = {"sizes": pd.DataFrame(sizes), "losses": pd.DataFrame(losses)}
    concluded = faithfulness_tables.conclusions(tables)
    return [
        faithfulness.sizes(tables["sizes"], concluded),
        faithfulness.areas(pd.DataFrame(areas)),
        faithfulness.losses(concluded),
        formatting.Finding("All of it.", faithfulness.sides(concluded)),
    ]


def trusted(tasks=("ioi", "countdown"), value=0.6, sure=False):
    agreement = [
        {"task": t, "subject": s, "estimate": e, "measure": m, "value": value, "n": 4}
        | ({"low": value - 0.1, "high": value + 0.1} if sure else {"low": NAN, "high": NAN})
        for t in tasks for s in ("arm", "mdm", "untrained") for e in (*ESTIMATES, HALVES)
        for m in ("pearson", "spearman", "recall-0.05")
    ]  # fmt: skip
    about = {"arm": 0.7, "mdm": 0.8, "chance": 0.03, "shift": -0.02, "n": 4, "error": 0.1}
    ends = {"low": 0.4, "high": 0.7, "error_low": 0.05, "error_high": 0.15}
    about |= ends if sure else dict.fromkeys(ends, NAN)
    consequences = [
        {"task": t, "estimate": e, "jaccard": value, **about}
        for t in tasks for e in (EXACT, *ESTIMATES)
    ]  # fmt: skip
    return [
        trust.agreement(pd.DataFrame(agreement)),
        trust.consequences(pd.DataFrame(consequences)),
    ]


def patched(tasks=("ioi", "countdown"), models=("arm", "mdm", "continued"), value=0.6):
    cells = [
        {"task": t, "role": r, "site": s, "layer": 3, "token": "Mary", "effect": value}
        | {"cells": 17, "n": 25}
        for t in tasks for r in ("arm", "mdm") for s in ("resid", "attn", "mlp")
    ]  # fmt: skip
    cells = pd.DataFrame(cells)
    heads = [
        {"task": t, "role": r, "rank": k, "layer": k, "head": 0, "denoise": value, "noise": 0.1}
        | {"heads": 24, "n": 25}
        for t in tasks for r in models for k in (1, 2)
    ]  # fmt: skip
    pairs = [(m, "") for m in models] + [(m, "arm") for m in models if m != "arm"]
    depth = [around("depth", 0.5 - (b != "") / 2, task=t, role=r, base=b)
             for t in tasks for r, b in pairs]  # fmt: skip
    agreement = [around("correlation", value, task=t, comparison=f"arm-{m}")
                 for t in tasks for m in models if m != "arm"]  # fmt: skip
    regimes = {"ioi": "local", "countdown": "global"}
    return [
        patching.strongest(cells[cells.site == "resid"]),
        patching.strongest(cells[cells.site != "resid"]),
        patching.heads(pd.DataFrame(heads)),
        patching.arrival(pd.DataFrame(depth), regimes),
        patching.agreement(pd.DataFrame(agreement)),
    ]


def probed(tasks=("ioi", "countdown"), models=("arm", "mdm", "continued"), value=0.6):
    beside = {"control": 0.1, "shuffled": 0.05, "input": 0.7, "validation": 0.5}
    layers = [around("accuracy", value, task=t, model=m, layer=k, **beside)
              for t in tasks for m in models for k in range(3)]  # fmt: skip
    steps = [around("accuracy", value, task=t, model=m, layer=1, label=x, **beside)
             for t in tasks for m, x in (("mdm", MASKS), ("arm", QUARTER))]  # fmt: skip
    whats = ["input", *(f"{m}/now" for m in models), "mdm/own", "mdm/now - arm/now"]
    plan = [around("value", value, task=t, what=w, least=0.4, most=0.7) | {"n": 3}
            for t in tasks for w in whats]  # fmt: skip
    columns = {"rank": 3, "whole": 1.0, "without": 0.4, "control": 0.9, "extra": 0.5, "n": 150}
    amnesia = [{"task": t, "model": m, "layer": k, **columns}
               for t in tasks for m in models for k in (1, 2)]  # fmt: skip
    return [
        probes.layers(pd.DataFrame(layers)),
        probes.plan(pd.DataFrame(plan)),
        probes.steps(pd.DataFrame(steps)),
        probes.amnesia(pd.DataFrame(amnesia)),
    ]


def lensed(tasks=("ioi", "countdown"), models=("arm", "mdm", "continued"), value=0.6):
    emergences = {f"{e}{end}": value for e in ("first", "settled", "half")
                  for end in ("", "_low", "_high")}  # fmt: skip
    depths = [{"task": t, "model": m, "seed": s, "read": "tuned", "reached": value, "n": 60}
              | emergences for t in tasks for m in models for s in (0, 1)]  # fmt: skip
    layers = [around("probability", value, task=t, model=m, seed=s, read="logit", depth=d)
              | {"rank": value, "entropy": value, "distractor": value, "top": value}
              for t in tasks for m in models for s in (0, 1) for d in (0.0, 0.5, 1.0)]  # fmt: skip
    quality = [{"model": m, "seed": 0, "layer": k, "read": r, "kl": value, "used": True, "n": 99}
               for m in models for k in (0, 1) for r in ("tuned", "logit")]  # fmt: skip
    over = [around("difference", value, task=t, emergence=e, model="mdm", base="arm", read=r)
            for r in ("tuned", "logit") for t in tasks
            for e in ("first", "settled", "half")]  # fmt: skip
    return [
        lens.lenses(pd.DataFrame(quality)),
        lens.output(pd.DataFrame(layers)),
        lens.emergence(pd.DataFrame(depths)),
        lens.differences(pd.DataFrame(over)),
    ]


PAGES = {
    "lens": lensed,
    "ablation": ablated,
    "planning": planned,
    "faithfulness": faithful,
    "trust": trusted,
    "patching": patched,
    "probes": probed,
}


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("tasks", [("ioi", "countdown"), ("countdown",)])
@pytest.mark.parametrize("value", [0.6, 0.0, NAN])
def test_sentences_show_and_decide_nothing(name, tasks, value):
    made = PAGES[name]
    models = [("arm", "mdm", "continued"), ("arm", "mdm")] if name != "trust" else [None]
    for there in models:
        options = {"tasks": tasks} | ({"models": there} if there else {})
        by_value = next(x for x in made.__code__.co_varnames if x in ("lost", "value"))
        for finding in made(**options, **{by_value: value}):
            assert not re.search(JUDGING, finding.said), finding.said
            assert "nan" not in finding.said.lower()
            assert "{" not in finding.said
            assert len(re.findall(r"\.(?: |$)", finding.said)) == 1  # one sentence
            assert len(finding.said) < 600
            assert finding.table is not None
            cells = finding.table.astype(str)
            assert not cells.isin(["nan", "NaN", "None"]).any(axis=None)
            assert len(finding.table) == len(finding.table.drop_duplicates())


def test_words_compare_no_two_numbers():
    ordering = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
    for path in (ROOT / "mechshift_lib" / "analyses" / "words").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (
                isinstance(node, ast.Compare) and any(isinstance(op, ordering) for op in node.ops)
            ), f"{path.name}:{node.lineno}"


def test_numbers_have_no_negative_zero_and_missing_ones_a_dash():
    assert formatting.number(-0.0004) == "0.00"
    assert formatting.number(0.125, "+.1f", 100) == "+12.5"
    assert formatting.number(NAN) == formatting.MISSING
    row = pd.Series({"x": 0.5, "low": 0.25, "high": NAN})
    assert formatting.span("x")(row) == "0.50"
    assert formatting.span("x", ".0f", 100)(row.fillna(0.75)) == "50 [25, 75]"
    assert formatting.span("x")(pd.Series({"x": NAN, "low": 0.1, "high": 0.2})) == "–"


def test_a_sentence_is_filled_from_its_rows_and_a_dash_where_there_are_none():
    rows = pd.DataFrame([around("x", 0.5, task="ioi", model="mdm")])
    found = formatting.told("{mdm} and {arm} ({n})", rows, ["model"], formatting.span("x"))
    assert found.said == "0.50 [0.40, 0.60] on IOI and – (n = 16)"


def test_of_many_values_a_sentence_says_the_least_and_the_most():
    many = [("0.62 [0.55, 0.70]", "IOI"), ("-0.10", "Countdown"), ("1,234.50", "Infilling")]
    assert formatting.between(many[:2]) == "0.62 [0.55, 0.70] on IOI and -0.10 on Countdown"
    assert formatting.between(many, " %") == "-0.10 % on Countdown to 1,234.50 % on Infilling"
    assert formatting.between([("1.00", "a"), ("1.00 [0.9, 1.0]", "b"), ("1.00", "c")]) == (
        "1.00 on each"
    )
    twice = [("0.2", "IOI"), ("0.2", "IOI"), ("0.3", "IOI")]  # two trainings with one value
    assert formatting.between(twice) == "0.2 on IOI to 0.3 on IOI"
    reads = [("0.1", "IOI, the answer"), ("0.3", "Countdown, first number"), ("0.2", "x")]
    assert formatting.between(reads) == "0.1 (IOI, the answer) to 0.3 (Countdown, first number)"
    words = [("layer 3", "a"), ("0.1", "b"), ("0.2", "c")]  # what isn't a number has no order
    assert formatting.between(words) == "layer 3 on a, 0.1 on b and 0.2 on c"
    rows = pd.DataFrame(
        [
            around("x", v, task=t, model="mdm")
            for v, t in zip((0.5, 0.2, 0.9), ("ioi", "countdown", "infilling"), strict=True)
        ]
    )
    found = formatting.told("{mdm} ({n})", rows, ["model"], formatting.value("x", ".0f", 100))
    assert found.said == "20 on Countdown to 90 on Infilling (n = 16)"


def test_heads_that_are_taken_away_are_named():
    found, left, _ = ablated(lost=0.25)
    assert "loses 2 heads at once; 6 random sets" in found.said
    assert found.table["early heads"].to_list() == ["a0.h1, a0.h2"] * 6
    assert "25 % on IOI and 25 % on Countdown with its early heads zeroed" in left.said
    assert "nothing taken away" in left.table.columns
    assert ablation.losses(pd.DataFrame()).table is None


def test_plans_are_told_over_trainings_and_one_training_decides_nothing():
    carried, peaks, accuracies, cuts, agree = planned(seeds=(0, 1, 2))
    assert "carry 25.0 % [no spread] on Countdown" in carried.said
    assert "means over 3 trainings;" in cuts.said
    assert "MDM − ARM" in carried.table["compared"].to_list()
    assert "on IOI" not in carried.said  # no mask waits there
    assert "50 [40, 60]" in accuracies.table["cut (%)"].to_list()
    assert "+0.25" in agree.said
    assert len(peaks.table) == 3
    single = planned(seeds=(0,))
    assert all("1 training, which decides nothing" in found.said for found in single)
    assert all("[" not in found.said for found in single)
    assert all("too few for an interval" in found.said for found in planned(seeds=(0, 1)))
    nothing = [finding.said for finding in planned(tasks=("ioi",))]
    assert all("no mask waits" in said for said in nothing[:3])
    assert "no later token" in nothing[3]


def test_probes_are_told_with_the_input_alone():
    layers, plan, _, amnesia = probed()
    assert layers.said.startswith("The input alone gives 70.0 % on IOI and 70.0 % on Countdown")
    assert plan.said.startswith("The input alone gives 60.0")
    assert "means over 3 trainings and 5 splits each" in plan.said
    shown = plan.table.set_index("read")
    assert "40.0 to 70.0" in shown.loc[["ARM"], "single splits"].tolist()
    assert "[" not in amnesia.said
    assert "MDM, own MASKs" in shown.index
    assert "nothing to plan" in probes.plan(pd.DataFrame(columns=["what"])).said


def test_few_examples_are_told():
    agreement, consequences = trusted()
    assert "n = 4 examples" in agreement.said
    assert "2 examples" in agreement.said
    assert "of 2 others" in agreement.said
    assert "n = 4 examples" in consequences.said
    assert "too few for intervals" in agreement.said
    assert "too few for intervals" in consequences.said
    assert "[" not in agreement.said + consequences.said


def test_the_error_of_the_estimate_is_told_with_its_interval():
    agreement, consequences = trusted(sure=True)
    assert "off by +0.10 [+0.05, +0.15] on IOI" in consequences.said
    assert "exact patching gives 0.60 [0.40, 0.70] on IOI" in consequences.said
    assert "0.60 [0.50, 0.70] on IOI" in agreement.said
    assert "too few" not in agreement.said + consequences.said


def test_evaluating_on_the_examples_of_the_circuit_is_announced():
    assert "flatters them" in faithfulness.examples({"ioi": 5}, separate=False)
    assert "none of which" in faithfulness.examples({"ioi": 5}, separate=True)


def test_conclusions_are_sides_of_a_margin():
    table = faithful(value=0.95, seeds=(0, 1, 2))[3].table
    said = table.set_index(["asked", "task", "model"])["against the margin"]
    assert said["faithfulness of the own circuit", "IOI", "MDM"] == "clearly above 0.85"
    assert said["the same, minus the control's loss", "IOI", "MDM"] == "clearly below 0.05"
    table = faithful(value=0.95, seeds=(0,))[3].table
    assert table["against the margin"].str.startswith("not told from").all()


def test_areas_name_the_model_and_whose_circuit():
    table = faithful()[1].table
    assert table["model"].drop_duplicates().to_list() == ["ARM", "MDM", "continued ARM"]
    assert {"circuit of the ARM", "random edges"} <= set(table.columns)


def test_a_missing_control_leaves_a_dash():
    said = faithful(models=("arm", "mdm"))[2].said
    assert "from 0.05 on a loss would matter" in said
    assert "the pair has no control" in said
    assert "ARM and control" in patched(models=("arm", "mdm"))[4].said
    assert "by – between ARM and control" in patched(models=("arm", "mdm"))[4].said


def test_what_is_the_same_for_every_model_is_written_once() -> None:
    assert formatting.by_model([("0 %", "ARM"), ("0 %", "MDM")]) == "0 % in each"
    assert formatting.by_model([("0 %", "ARM"), ("1 %", "MDM")]) == "0 % (ARM) and 1 % (MDM)"
    assert formatting.by_model([("0 %", "ARM")]) == "0 % (ARM)"
