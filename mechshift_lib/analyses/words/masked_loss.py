"""Words of how well an MDM predicts what is masked."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from mechshift_lib.analyses.words import formatting as fmt


def losses(table: pd.DataFrame, general: pd.DataFrame) -> fmt.Finding:
    """Least and most loss of each kind of text from few to many masks, and general text's blanks.

    Args:
        table: as :func:`mechshift_lib.analyses.masked_loss.losses_table` gives it, not empty.
        general: as :func:`mechshift_lib.analyses.masked_loss.general_table` gives it.
    """
    few, many = table.low.min(), table.low.max()
    parts = []
    for text, rows in table.groupby("text", sort=False):
        ends = [_between(rows[rows.low == low].loss) for low in (few, many)]
        parts.append(f"{text} {ends[0]} with few masks, {ends[1]} with most")
    n = fmt.trainings(table.seed.nunique())
    said = f"Cross-entropy of a masked token, in nats ({n}): {'; '.join(parts)}."
    if len(general):
        share = _between(general.infilling, lambda x: fmt.number(x, ".0f", 100))
        said += (
            f" A single blank in general text gets the very token in {share} % of cases "
            f"(n = {general.n.min()} blanks); the next token costs the ARM "
            f"{_between(general.arm)} nats there, the control {_between(general.continued)}."
        )
    shown = pd.DataFrame(
        {
            "training": table.seed.astype(str),
            "masked": table.text,
            "mask ratio": [
                f"{100 * a:.0f} to {100 * b:.0f} %"
                for a, b in zip(table.low, table.high, strict=True)
            ],
            "loss (nats)": table.loss.map(lambda x: fmt.number(x, ".2f")),
        }
    )
    if table.right.notna().any():
        shown["right"] = table.right.map(lambda x: fmt.number(x, ".2f"))
    return fmt.Finding(said, shown)


def _between(values: pd.Series, form: Callable[[float], str] = fmt.number) -> str:
    """``1.70``, or ``1.70 to 1.79`` over several trainings."""
    return " to ".join(dict.fromkeys(form(x) for x in (values.min(), values.max())))
