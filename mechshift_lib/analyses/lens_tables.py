"""Tables of the lenses: how good they are, answers over depth, and where they emerge."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mechshift_lib.analyses.lens import readings, trainings
from mechshift_lib.analyses.lenses import lens_of
from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.comparison.bootstrap import resample
from mechshift_lib.comparison.over_seeds import differences
from mechshift_lib.comparison.proportions import mean_interval

Array = NDArray[np.float64]
#: Differences that are judged over seeds: model, minus base.
DIFFERENCES = (("mdm", "arm"), ("mdm", "continued"))
#: Ways to say at which depth an answer is there.
EMERGENCES = ("first", "settled", "half")


def main_read(table: pd.DataFrame) -> str:
    """The read that pages speak of: the tuned lens, or the logit lens where there is none."""
    return "tuned" if (table["read"] == "tuned").any() else "logit"


def quality(study: Study) -> pd.DataFrame:
    """How far each layer's reading is from the model's own output, on texts kept for that.

    Returns:
        One row per training, model, layer and read: ``seed, model, layer, read, kl`` (nats),
        ``used`` (whether the layer has a translator), ``n`` (tokens); empty for large models.
    """
    rows = []
    for seed in study.pair.seeds:
        for role in study.pair.roles:
            lens = lens_of(study, role, seed) if study.has(role, seed) else None
            if lens is None:
                continue
            rows += [
                {"seed": seed, "model": role, "layer": one["layer"], "read": read}
                | {"kl": one[read], "used": one["used"], "n": lens.about["n"]}
                for one in lens.about["layers"]
                for read in ("logit", "tuned")
            ]
    return pd.DataFrame(rows, columns=["seed", "model", "layer", "read", "kl", "used", "n"])


def next_tokens(study: Study) -> pd.DataFrame:
    """:func:`readings` of every task, training and model, of the token that is read next."""
    frames = [
        readings(study, task, role, seed).assign(task=task, seed=seed, model=role)
        for seed in study.pair.seeds
        for role in study.pair.roles
        for task in study.pair.tasks  # last, so that each model is opened once
        if seed in trainings(study, task)
    ]
    if not frames:
        return pd.DataFrame()
    table = pd.concat(frames, ignore_index=True)
    order = {task: i for i, task in enumerate(study.pair.tasks)}
    table = table[table.step == table.token]
    return table.sort_values("task", key=lambda c: c.map(order), kind="stable", ignore_index=True)


def by_layer(study: Study) -> pd.DataFrame:
    """Answers over depth: means over scored tokens, then over examples.

    Returns:
        One row per task, training, model, read and layer: ``task, seed, model, read, layer,
        rank, probability, low, high`` (95 % interval over examples), ``distractor, entropy, kl,
        top`` (share of answers that are the likeliest token), ``depth`` (layer / number of
        layers), ``n`` (examples).
    """
    table = next_tokens(study)
    columns = ["task", "seed", "model", "read", "layer"]
    values = ["rank", "probability", "distractor", "entropy", "kl", "top"]
    if table.empty:
        return pd.DataFrame(columns=[*columns, *values, "low", "high", "depth", "n"])
    table = table.assign(top=(table["rank"] == 0).astype(float))
    examples = table.groupby([*columns, "n_layers", "example"], sort=False)[values].mean()
    rows = []
    for key, part in examples.groupby([*columns, "n_layers"], sort=False):
        low, high = _interval(part.probability.to_numpy(), study)
        row = dict(zip([*columns, "n_layers"], key, strict=True)) | part.mean().to_dict()
        row |= {"depth": row["layer"] / row["n_layers"], "low": low, "high": high, "n": len(part)}
        rows.append(row)
    return pd.DataFrame(rows).drop(columns="n_layers")


def depths(study: Study) -> pd.DataFrame:
    """At which depth answers are there: 0 is the embedding, 1 the model's whole output.

    ``first``: the first layer at which a right token is the likeliest; ``settled``: from which on
    it stays so; both of tokens that the model itself gets right. ``half``: the first layer at which
    it has half of the probability that it ends with.

    Returns:
        One row per task, training, model and read: ``task, seed, model, read``, for each of
        :data:`EMERGENCES` its mean over examples, in layers / number of layers, and the ends of
        its 95 % interval over examples (``first_low``, ...), ``reached`` (share of the tokens that
        the model gets right), ``n`` (examples).
    """
    table = next_tokens(study)
    columns = ["task", "seed", "model", "read"]
    if table.empty:
        return pd.DataFrame(columns=[*columns, *EMERGENCES, "reached", "n"])
    rows = []
    for key, part in table.groupby(columns, sort=False):
        part = part.sort_values(["example", "token", "layer"])
        n_layers = int(part.n_layers.iloc[0])
        shape = (-1, n_layers + 1)
        found = pd.DataFrame(
            emergence(
                part["rank"].to_numpy().reshape(shape), part.probability.to_numpy().reshape(shape)
            )
        ).assign(example=part.example.to_numpy().reshape(shape)[:, 0])
        means = found.groupby("example").mean()
        row = dict(zip(columns, key, strict=True)) | {"reached": means.reached.mean()}
        for name in EMERGENCES:
            known = means[name].dropna().to_numpy(dtype=float)
            low, high = _interval(known, study) if len(known) else (np.nan, np.nan)
            row |= {name: known.mean() if len(known) else np.nan}
            row |= {f"{name}_low": low, f"{name}_high": high}
        rows.append(row | {"n": len(means)})
    return pd.DataFrame(rows)


def emergence(rank: NDArray[np.integer], probability: Array) -> dict[str, Array]:
    """Depths of :func:`depths` of each token, as shares of the layers.

    Args:
        rank: of the right token at each layer, ``[n, n_layers + 1]``.
        probability: likewise.

    Returns:
        ``first, settled, half, reached``, each ``[n]``; NaN where a depth doesn't exist.
    """
    last = rank.shape[1] - 1
    top = rank == 0
    first = top.argmax(1) / last
    wrong = ~top[:, ::-1]  # from the output back
    settled = (last + 1 - wrong.argmax(1)) / last
    settled = np.where(wrong.any(1), settled, 0.0)
    half = (probability >= probability[:, -1:] / 2).argmax(1) / last
    reached = top[:, -1]
    return {
        "first": np.where(reached, first, np.nan),
        "settled": np.where(reached, settled, np.nan),
        "half": half,
        "reached": reached.astype(float),
    }


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Differences of depths between models over trainings, from :func:`depths`, by every lens.

    Returns:
        ``read, task, emergence, model, base, difference`` (layers / number of layers), ``low,
        high`` (t interval over trainings, NaN with few), ``n`` (trainings).
    """
    rows = []
    told = table[table["read"].isin(["tuned", "logit"])]
    for (read, task), part in told.groupby(["read", "task"], sort=False):
        for name in EMERGENCES:
            wide = part.pivot(index="seed", columns="model", values=name)
            found = differences(wide, DIFFERENCES)
            rows += [{"read": read, "task": task, "emergence": name} | one for one in found]
    columns = ["read", "task", "emergence", "model", "base", "difference", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def steps(study: Study) -> pd.DataFrame:
    """The same answer tokens of the MDM under every mask state, means over trainings.

    Returns:
        One row per task with several answer tokens, token, step and layer: ``task, token, step,
        layer, probability, top, n`` (examples of all trainings), ``trainings``.
    """
    frames = []
    for task in study.pair.tasks:
        for seed in trainings(study, task):
            found = readings(study, task, "mdm", seed)
            found = found[found["read"] == main_read(found)]
            if found.token.nunique() > 1:
                frames.append(found.assign(task=task, seed=seed, top=(found["rank"] == 0) * 1.0))
    columns = ["task", "token", "step", "layer"]
    if not frames:
        return pd.DataFrame(columns=[*columns, "probability", "top", "n", "trainings"])
    table = pd.concat(frames, ignore_index=True)
    each = table.groupby([*columns, "seed"], sort=False).agg(
        probability=("probability", "mean"), top=("top", "mean"), n=("example", "size")
    )
    return (
        each.reset_index()
        .groupby(columns, as_index=False, sort=False)
        .agg(
            probability=("probability", "mean"),
            top=("top", "mean"),
            n=("n", "sum"),
            trainings=("seed", "nunique"),
        )
    )


def _interval(values: Array, study: Study) -> tuple[float, float]:
    """95 % interval of the mean over examples of values between 0 and 1."""
    weights = resample(len(values), study.budget.bootstrap, RESAMPLING_SEED)
    drawn = np.concatenate([[values.mean()], weights @ values])
    return mean_interval(drawn, len(values), (0, 1))
