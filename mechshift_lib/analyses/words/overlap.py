"""Words of the chapter on overlap and depth: each comparison beside its yardsticks."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.comparison import published
from mechshift_lib.comparison.overlap import PAPER_EDGES, PAPER_FRACTION, REFERENCE_FRACTION

JACCARD, SHARE = (fmt.span(name) for name in ("jaccard", "share"))
#: Comparisons that stand beside each other in the table of overlaps.
YARDSTICKS = ("arm-mdm", "arm-continued", "arm-halves", "mdm-halves", "arm-mdm-halves")
TOP = f"top {100 * REFERENCE_FRACTION:.0f} % of edges"
BUDGETS = (
    "The sizes run from {least:,} to {most:,} of this model's {edges:,} edges. The paper's "
    "circuit, the top {paper:,} of 935,747, is {share} % of its graph: as a fraction {fraction} "
    "edges here, as a count {count} % of the graph. Figures at one size take the {top}."
)
OVERLAPS = (
    "Jaccard index of the strongest edges: ARM ↔ MDM {arm-mdm}; ARM ↔ continued {arm-continued} "
    "({n} examples, 95 % over examples).{lacks}"
)
NO_CONTROL = " This pair has no continued-training control."
BIAS = (
    "Intervals have the spread of bootstrap draws and are centred on the estimate. As draws repeat "
    "examples, their overlaps lie {mean} from it on average."
)
COMPONENTS = "ARM and MDM have {arm-mdm} of their top {k} components in common ({n} examples)."
SEEDS = "The same comparison, ARM ↔ MDM, in each training: {arm-mdm} ({n})."
ONE_SEED = fmt.Finding("This pair has one training seed, so nothing can be said about others.")
LIKENESS = (
    "With noise taken off, the cosine with the ARM's circuit is in the MDM {mdm}; in the continued "
    "ARM {continued} (means, {n} trainings).{lacks}"
)
HELD = {
    "mdm": "MDM",
    "mdm-continued": "MDM − continued",
    "matched-continued": "MDM as far as the control − continued",
    "mdm-matched": "MDM − MDM as far as the control",
}
EARLIER = (
    "The MDM's sources lie earlier than the ARM's by, in % of the model's depth (negative: "
    "later), {global}; for comparison on local tasks by {local} (means, {n} trainings)."
)
DIFFERENCES = (
    "On IOI the cosine is {mdm} higher than on Countdown in the MDM{beyond} ({n} trainings)."
)
#: What is said of a contrast where the pair has it.
BEYOND = {
    "mdm-continued": "{} beyond the continued ARM's",
    "matched-continued": "{} in the MDM no further away than that",
}
ONE_TASK = fmt.Finding("This pair lacks circuits of IOI or of Countdown, so nothing is compared.")
SURE = (
    "Of the ARM's strongest edges {arm} are in its circuit in nearly every resample of the "
    "examples; of those, {mdm} are so in the MDM's, too (means over trainings)."
)
HEADS = "Heads of the circuits, by which model uses them and in which half of the layers."
PUBLISHED = (
    "Of the 30 published edges of Countdown, the MDM's sources lie earlier by {sizes}, in "
    "the same unit. That mean weighs every edge the same, so its size can't be compared with these."
)


def budgets(table: pd.DataFrame) -> str:
    """Which circuit sizes are compared, and how they relate to the paper's."""
    rows = table.drop_duplicates("count").sort_values("count")
    edges = round(rows["count"].iloc[-1] / rows.fraction.iloc[-1])
    return BUDGETS.format(
        least=rows["count"].iloc[0],
        most=rows["count"].iloc[-1],
        edges=edges,
        paper=PAPER_EDGES,
        share=fmt.number(PAPER_FRACTION, ".2f", 100),
        fraction=fmt.number(PAPER_FRACTION * edges, ".1f"),
        count=fmt.number(PAPER_EDGES / edges, ".0f", 100),
        top=TOP,
    )


def sizes(table: pd.DataFrame) -> pd.DataFrame:
    """ARM ↔ MDM and ARM ↔ control at every size."""
    rows = table[table.comparison.isin(["arm-mdm", "arm-continued"])]
    rows = rows.assign(size=[f"{x:,}" for x in rows["count"]])
    return fmt.grid(rows, ["task", "size"], "comparison", JACCARD)


def overlaps(table: pd.DataFrame) -> fmt.Finding:
    """Edge overlaps at one size, ARM ↔ MDM with its yardsticks beside it."""
    rows = table[table.comparison.isin(YARDSTICKS)]
    shown = fmt.grid(rows, ["task"], "comparison", JACCARD)
    main = rows[rows.comparison == "arm-mdm"]
    shown = shown.assign(chance=[fmt.number(x, ".3f") for x in main.chance], n=list(main.n))
    told = rows[rows.comparison.isin(YARDSTICKS[:2])]
    lacks = "" if "arm-continued" in set(told.comparison) else NO_CONTROL
    return fmt.told(OVERLAPS, told, ["comparison"], JACCARD, shown, lacks=lacks)


def bias(table: pd.DataFrame) -> str:
    """How far bootstrap draws of an overlap lie from the estimate."""
    rows = table[table.comparison.isin(YARDSTICKS[:2])]
    return BIAS.format(mean=fmt.number(rows.bias.mean(), "+.3f"))


def components(table: pd.DataFrame) -> fmt.Finding:
    """Overlap of components."""
    rows = table.assign(share=table["share"])
    shown = fmt.grid(rows, ["task"], "comparison", SHARE)
    main = rows[rows.comparison == "arm-mdm"]
    shown = shown.assign(chance=[fmt.number(x) for x in main.chance])
    return fmt.told(COMPONENTS, main, ["comparison"], SHARE, shown, k=int(main.k.iloc[0]))


def heads(table: pd.DataFrame) -> fmt.Finding:
    """Where heads come and go."""
    middle = (table.layer.max() + 1) // 2
    half = table.layer.floordiv(middle).clip(upper=1).map({0: "first", 1: "second"})
    counts = table.assign(half=half).groupby(["task", "half"], sort=False, as_index=False)
    rows = counts[["shared", "arm_only", "mdm_only"]].sum()
    names = {"shared": "both", "arm_only": "ARM only", "mdm_only": "MDM only"}
    columns = {head: fmt.value(name, ".0f") for name, head in names.items()}
    return fmt.Finding(HEADS, fmt.lines(rows, ["task", "half"], columns))


def likeness(table: pd.DataFrame) -> fmt.Finding:
    """How alike circuits are to the ARM's in each training.

    Args:
        table: of :func:`mechshift_lib.analyses.shift.shown_likeness`.
    """
    by = table.groupby(["what", "circuit"], sort=False, as_index=False)
    rows = by.agg(cosine=("cosine", "mean"), low=("cosine", "min"), high=("cosine", "max"))
    shown = fmt.grid(rows, ["what"], "circuit", fmt.span("cosine")).rename(columns={"what": "task"})
    whole = table[table.read == "all"].groupby(["task", "circuit"], sort=False, as_index=False)
    told = whole.agg(cosine=("cosine", "mean"), n=("seed", "nunique"))
    lacks = "" if "continued" in set(told.circuit) else NO_CONTROL
    return fmt.told(LIKENESS, told, ["circuit"], fmt.value("cosine"), shown, lacks=lacks)


def contrasts(table: pd.DataFrame, form: str = "+.2f", scale: float = 1) -> pd.DataFrame:
    """Contrasts over trainings: one row each, with interval and the sign-flip test's p."""
    rows = table.assign(contrast=table.contrast.map(HELD))
    columns = {
        "mean over trainings": fmt.span("value", form, scale),
        "p (signs)": fmt.value("flips", ".3f"),
        "trainings": fmt.value("n", ".0f"),
    }
    return fmt.lines(rows, ["what", "contrast"], columns).rename(columns={"what": "of"})


def differences(table: pd.DataFrame) -> fmt.Finding:
    """How much more alike circuits are on IOI than on Countdown, over trainings.

    Args:
        table: of :func:`mechshift_lib.analyses.shift.c1_table`.
    """
    if table.empty:
        return ONE_TASK
    first = table[table.what == table.what.iloc[0]]
    text = fmt.span("value", "+.2f")
    parts = {str(row.contrast): text(row) for _, row in first.iterrows()}
    known = [words.format(parts[name]) for name, words in BEYOND.items() if name in parts]
    beyond = f"; that is {fmt.listed(known)}" if known else ""
    said = DIFFERENCES.format(mdm=parts["mdm"], beyond=beyond, n=first.n.max())
    return fmt.Finding(said, contrasts(table))


def earlier(depths: pd.DataFrame, table: pd.DataFrame, regimes: Mapping[str, str]) -> fmt.Finding:
    """How much earlier circuits lie, on global tasks and on local ones.

    Args:
        depths: of :func:`mechshift_lib.analyses.shift.shown_earlier`.
        table: of :func:`mechshift_lib.analyses.shift.c2_table`.
        regimes: task -> ``local`` or ``global``.
    """
    by = depths[depths.circuit == "mdm"].groupby("task", sort=False, as_index=False)
    rows = by.agg(earlier=("earlier", "mean"), n=("seed", "nunique"))
    rows = rows.assign(regime=rows.task.map(regimes))
    text = fmt.value("earlier", "+.1f", 100)
    return fmt.told(EARLIER, rows, ["regime"], text, contrasts(table, "+.1f", 100))


def sureness(table: pd.DataFrame) -> fmt.Finding:
    """How many edges are sure to belong to circuits.

    Args:
        table: ``inclusion`` of :func:`mechshift_lib.analyses.measures.tables`.
    """
    by = table.groupby(["task", "circuit"], sort=False, as_index=False)
    rows = by[["core", "contingent", "noise", "shared"]].mean().assign(n=0)
    texts = {name: fmt.value(name, ".1f") for name in ("core", "contingent", "noise", "shared")}
    shown = fmt.lines(rows, ["task", "circuit"], texts).rename(
        columns={"shared": "core of the ARM's, too"}
    )
    return fmt.told(SURE, rows, ["circuit"], fmt.value("shared", ",.0f"), shown)


def published_shifts() -> str:
    """How far the published edges of Countdown lie apart in depth."""
    table = published.top_edge_depth(published.read_table("top_edges"))
    rows = table[table.task == "countdown"].pivot(
        index="series", columns="role", values="source_depth"
    )
    sizes = [f"{fmt.number(x, '+.0f', 100)} ({name})" for name, x in (rows.arm - rows.mdm).items()]
    return PUBLISHED.format(sizes=fmt.listed(sizes))


def seeds(table: pd.DataFrame) -> fmt.Finding:
    """What other seeds say."""
    if table.empty:
        return ONE_SEED
    own = table[table.comparison == "arm-mdm"]
    shown = fmt.grid(table, ["task", "seed"], "comparison", JACCARD)
    return fmt.told(SEEDS, own, ["comparison"], JACCARD, shown)
