"""Words of the section that sets variants of a post-training against each other."""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses.dial import TURNS
from mechshift_lib.analyses.narrative import listed
from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.plots.theme import label
from mechshift_lib.plots.trajectory import read_label

NOTHING = (
    "This pair has no variants of its MDM that were measured, so what in the post-training changes "
    "the circuit can't be told apart here; `mechshift trajectory --dial` measures them."
)
SAID = "{when}{cue}. {circuit} (means over {trainings}, 95 % over trainings in brackets)."
#: How a sentence begins where the variants stopped on the way, and where all were trained whole.
PART, WHOLE = "After {step} of {steps} steps", "At the end of the post-training ({steps} steps)"
CUE = (
    ", the probability of the number that is left, where the target asks for another, has changed, "
    "in percentage points, by {each}"
)
NO_CUE = ", no cue was asked"
CIRCUIT = "Of {all} changes of the circuit's cosine with the ARM's, {n} {are} clear of 0{each}"
#: Part -> what a sentence calls it.
TURNED = {
    "objective": "the masked objective",
    "attention": "attention that opens",
    "what is masked": "masking answers only",
}
#: So many changes are named; of more, the largest.
MOST = 3
NAMES = {"circuit": "cosine with the ARM", "depth": "depth", "cue": "the number that is left (%)"}


def finding(turned: pd.DataFrame, table: pd.DataFrame, steps: int) -> fmt.Finding:
    """What each part of the post-training changes.

    Args:
        turned: of :func:`mechshift_lib.analyses.dial.turned`.
        table: of :func:`mechshift_lib.analyses.dial.last`.
        steps: steps of the whole post-training.
    """
    step = int(table.step.max())
    points = fmt.span("difference", "+.0f", 100)
    cues = [
        f"{points(row)} with {TURNED[str(row.part)]}"
        for _, row in turned[turned.measure == "cue"].dropna(subset="difference").iterrows()
    ]
    said = SAID.format(
        when=(WHOLE if step == steps else PART).format(step=step, steps=steps),
        cue=CUE.format(each=listed(cues)) if cues else NO_CUE,
        circuit=_circuit(turned[turned.measure == "circuit"]),
        trainings=fmt.trainings(table.seed.nunique()),
    )
    return fmt.Finding(said, _differences(turned))


def _circuit(turned: pd.DataFrame) -> str:
    """Which changes of the circuit are clear of 0, the largest first."""
    clear = turned[(turned.low * turned.high).gt(0)]
    clear = clear.sort_values("difference", key=lambda x: -x.abs(), kind="stable")
    text = fmt.span("difference", "+.2f")
    named = [
        f"{text(row)} with {TURNED[str(row.part)]} ({read_label(row['read'])})"
        for _, row in clear.head(MOST).iterrows()
    ]
    led = ": " if len(clear) == len(named) else ", the largest "
    return CIRCUIT.format(
        all=len(turned),
        n=len(clear),
        are="is" if len(clear) == 1 else "are",
        each=led + listed(named) if named else "",
    )


def _differences(turned: pd.DataFrame) -> pd.DataFrame:
    """One line per measure and read, a column for each part."""
    texts = {
        "circuit": fmt.span("difference", "+.2f"),
        "depth": fmt.span("difference", "+.2f"),
        "cue": fmt.span("difference", "+.0f", 100),
    }
    rows = turned.assign(
        what=[
            NAMES[row.measure] + (f", {read_label(row.read)}" if row.read else "")
            for row in turned.itertuples()
        ]
    )
    names = {part: f"{part}: {label(model)} − {label(base)}" for part, model, base in TURNS}
    return fmt.grid(rows, ["what"], "part", lambda row: texts[row.measure](row), names | NAMES)


def stand(table: pd.DataFrame) -> pd.DataFrame:
    """Where every model stands: accuracy, distance from the ARM and cue, by training.

    Args:
        table: of :func:`mechshift_lib.analyses.dial.last`.
    """
    rows = []
    for model, part in table.groupby("model", sort=False):
        single = part.drop_duplicates("seed")

        def by_training(column: str, form: str, scale: float, single: pd.DataFrame = single) -> str:
            return ", ".join(fmt.number(x, form, scale) for x in single[column])

        row = {"model": label(str(model)), "‖Δθ‖": by_training("displacement", ".0f", 1)}
        for name in single.columns:
            if str(name).startswith("accuracy/"):
                task = label(str(name).removeprefix("accuracy/"))
                row[f"{task} (%)"] = by_training(str(name), ".0f", 100)
        row["the number that is left (%)"] = by_training("listed", ".0f", 100)
        rows.append(row)
    return pd.DataFrame(rows)
