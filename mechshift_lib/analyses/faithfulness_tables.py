"""Tables of faithfulness: curves and areas by training, and what is concluded over trainings."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mechshift_lib.analyses.faithfulness import (
    FAITHFUL,
    MATTERS,
    MODELS,
    evaluated,
    trainings,
)
from mechshift_lib.analyses.scores import studied_tasks
from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.circuits.evaluation.curve import faithfulness
from mechshift_lib.comparison.bootstrap import resample
from mechshift_lib.comparison.margins import side
from mechshift_lib.comparison.over_seeds import contrast_over_seeds
from mechshift_lib.comparison.proportions import clopper_pearson

Array = NDArray[np.float64]
#: Whose loss is held against whose: the model, and the one that was only trained on.
BEYOND = (("mdm", "continued"), ("matched", "continued"))


def tables(study: Study) -> dict[str, pd.DataFrame]:
    """Faithfulness of circuits in every model of every training. Intervals are over examples.

    Returns:
        ``curves``: ``task, seed, model, circuit, fraction, count, faithfulness, low, high, n``.
        ``sizes``: :func:`chosen_sizes` with ``task, seed, model``.
        ``areas``: ``task, seed, model, circuit, cpr, low, high, n``.
        ``losses``: what another circuit's CPR lacks of that of the model's own, over the same
        examples: ``task, seed, model, circuit, loss, low, high, n``.
    """
    found: dict[str, list[pd.DataFrame]] = {}
    for task in studied_tasks(study):
        for seed in trainings(study, task):
            for model in (name for name in MODELS if study.has(name, seed)):
                rows, draws = evaluated(study, task, model, seed), study.budget.bootstrap
                drawn = curves(rows, draws)
                made = {
                    "curves": _curve_rows(rows, drawn),
                    "sizes": chosen_sizes(rows[rows.circuit == model], draws),
                    "areas": areas(drawn),
                    "losses": losses(drawn, model),
                }
                about = {"task": task, "seed": seed, "model": model, "n": rows.example.nunique()}
                for name, frame in made.items():
                    found.setdefault(name, []).append(frame.assign(**about))
    return {name: pd.concat(frames, ignore_index=True) for name, frames in found.items()}


def curves(rows: pd.DataFrame, draws: int) -> dict[str, tuple[Array, Array]]:
    """Faithfulness of every circuit of :func:`evaluated` by size, whole and resampled.

    Returns:
        Circuit -> sizes ``[n_size]`` and faithfulness ``[1 + draws, n_size]``: of all examples,
        then of bootstrap draws of them, the same ones for every circuit.
    """
    examples = np.sort(rows.example.unique())
    weights = _weights(len(examples), draws)
    return {
        str(circuit): (np.sort(part.fraction.unique()), _drawn(part, examples, weights))
        for circuit, part in rows.groupby("circuit", sort=False)
    }


def _drawn(part: pd.DataFrame, examples: Array, weights: Array) -> Array:
    """Faithfulness of one circuit by size on some examples, ``[len(weights), n_size]``."""
    first = part.drop_duplicates("example").set_index("example").loc[examples]
    values = part.pivot(index="fraction", columns="example", values="value")[examples]
    ends = first["full"].to_numpy(), first["empty"].to_numpy()
    return faithfulness(values.to_numpy(), *ends, weights)


def _weights(n: int, draws: int) -> Array:
    equal = np.full((1, n), 1 / n)
    return np.concatenate([equal, resample(n, draws, RESAMPLING_SEED)])


def area(sizes: Array, drawn: Array) -> Array:
    """CPR, the area below the faithfulness over the share of edges, ``[draws]``.

    By the trapezoid rule as in the MIB benchmark, but from 0 on, where faithfulness is 0, so that
    circuits that are evaluated at fewer sizes can be compared.
    """
    heights = np.concatenate([np.zeros_like(drawn[:, :1]), drawn], axis=1)
    return np.asarray(np.trapezoid(heights, np.concatenate([[0.0], sizes]), axis=-1))


def areas(drawn: dict[str, tuple[Array, Array]]) -> pd.DataFrame:
    """``areas`` of :func:`tables` for one model."""
    return pd.DataFrame(
        [{"circuit": name, **_ends("cpr", area(*found))} for name, found in drawn.items()]
    )


def losses(drawn: dict[str, tuple[Array, Array]], model: str) -> pd.DataFrame:
    """``losses`` of :func:`tables` for one model."""
    own = area(*drawn[model])
    rows = [
        {"circuit": name, **_ends("loss", own - area(*found))}
        for name, found in drawn.items()
        if name != model
    ]
    return pd.DataFrame(rows, columns=["circuit", "loss", "low", "high"])


def _ends(name: str, values: Array) -> dict[str, float]:
    """Value and percentile interval of ``[1 + draws]``."""
    low, high = np.nanquantile(values[1:], [0.025, 0.975])
    return {name: float(values[0]), "low": float(low), "high": float(high)}


def chosen_sizes(rows: pd.DataFrame, draws: int) -> pd.DataFrame:
    """The smallest size at which a circuit is :data:`FAITHFUL`, and how faithful it is elsewhere.

    Each half of the examples chooses a size, by itself; the other half, which had no say in it,
    says how faithful the circuit of that size is. The two are averaged. Where no circuit is enough,
    the largest that isn't the whole model is judged.

    Args:
        rows: those of one circuit of :func:`evaluated`.
        draws: bootstrap draws.

    Returns:
        One row: ``first, second`` (sizes that the halves choose), ``faithfulness, low, high``,
        ``right`` (examples all of whose tokens are right), ``accuracy, right_low, right_high``
        (exact), ``whole`` (the same accuracy of the whole model).
    """
    examples = np.sort(rows.example.unique())
    halves = examples[::2], examples[1::2]
    sizes, kept, right = [], [], []
    for choosing, judging in (halves, halves[::-1]):
        f = _drawn(rows, choosing, _weights(len(choosing), 0))[0]
        fractions = np.sort(rows.fraction.unique())
        enough = fractions[(f >= FAITHFUL) & (fractions < 1)]
        # The whole model is no circuit: where no other is enough, the largest is judged.
        size = float(enough[0] if len(enough) else fractions[fractions < 1][-1])
        there = rows[rows.fraction == size]
        kept.append(_drawn(there, judging, _weights(len(judging), draws))[:, 0])
        right.append(there[there.example.isin(judging)].correct == 1)
        sizes.append(size)
    k, n = int(sum(part.sum() for part in right)), len(examples)
    low, high = clopper_pearson(k, n)
    row = {"first": sizes[0], "second": sizes[1], "right": k, "accuracy": k / n}
    row |= {"right_low": low, "right_high": high}
    row["whole"] = float((rows[rows.fraction == rows.fraction.max()].correct == 1).mean())
    return pd.DataFrame([row | _ends("faithfulness", np.mean(kept, axis=0))])


def conclusions(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """What trainings say against the margins, one number a training.

    Returns:
        ``task, what, model, value, low, high`` (NaN with too few trainings), ``margin, side, n``;
        ``what`` is ``faithful`` (a model's own circuit at sizes that other examples chose, against
        :data:`FAITHFUL`), ``loss`` (of CPR, with the ARM's circuit instead of the own one, against
        :data:`MATTERS`), ``beyond`` (that loss minus the control's).
    """
    rows = []
    lost = tables["losses"][tables["losses"].circuit == "arm"]
    for task in tables["sizes"].task.unique():
        own = _wide(tables["sizes"], task, "faithfulness")
        rows += [_held(task, "faithful", m, own[m], FAITHFUL) for m in own]
        loss = _wide(lost, task, "loss")
        rows += [_held(task, "loss", m, loss[m], MATTERS) for m in loss]
        rows += [
            _held(task, "beyond", a, loss[a] - loss[b], MATTERS)
            for a, b in BEYOND
            if a in loss and b in loss
        ]
    columns = ["task", "what", "model", "value", "low", "high", "margin", "side", "n"]
    return pd.DataFrame(rows, columns=columns)


def _wide(table: pd.DataFrame, task: str, value: str) -> pd.DataFrame:
    """One number a training and model, ``[seed, model]``, models in their usual order."""
    wide = table[table.task == task].pivot(index="seed", columns="model", values=value)
    return wide[[model for model in MODELS if model in wide]]


def _held(task: str, what: str, model: str, values: pd.Series, margin: float) -> dict[str, object]:
    found = contrast_over_seeds(values.tolist(), what)
    ends = {"value": found.effect, "low": found.low, "high": found.high, "n": found.n}
    about = {"task": task, "what": what, "model": model, "margin": margin}
    return {**about, **ends, "side": side(found, margin)}


def _curve_rows(rows: pd.DataFrame, drawn: dict[str, tuple[Array, Array]]) -> pd.DataFrame:
    frames = []
    for circuit, (sizes, values) in drawn.items():
        counts = rows[rows.circuit == circuit].groupby("fraction")["count"].first()
        low, high = np.nanquantile(values[1:], [0.025, 0.975], axis=0)
        frame = pd.DataFrame({"fraction": sizes, "count": counts[sizes].to_numpy()})
        frames.append(frame.assign(circuit=circuit, faithfulness=values[0], low=low, high=high))
    return pd.concat(frames, ignore_index=True)
