"""Tables of the probes: by layer, of later answer tokens, of the step, and what directions cost."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mechshift_lib.analyses.probes import (
    NUMBER,
    STEP,
    Probed,
    amnesic,
    later,
    later_input,
    probed,
    probed_input,
)
from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.comparison.bootstrap import resample
from mechshift_lib.comparison.over_seeds import contrast_over_seeds
from mechshift_lib.comparison.proportions import clopper_pearson, mean_interval

#: Labels beside answer tokens, as readers see them.
MASKS, QUARTER = "number of MASKs", "quarter of the target number"

Array = NDArray[np.float64]


def layer_table(study: Study) -> pd.DataFrame:
    """The token that is read next, at the position where it is read, by layer.

    Returns:
        ``task, model, layer, validation, accuracy, low, high, control, shuffled, input, n``: the
        mean over steps; ``validation`` is what a layer may be chosen by, ``input`` the accuracy of
        the same probe on the input itself.
    """
    rows = []
    for task in study.pair.tasks:
        prior = _current(probed_input(study, task).cells)
        if prior.empty:
            continue
        for role in study.pair.roles:
            found = probed(study, task, role)
            now = found.cells[found.cells.place == "now"]
            for layer, cells in _current(now).groupby("layer"):
                hits = found.hits[cells.index]
                low, high = _interval(hits.mean(0), study)
                rows.append(
                    {"task": task, "model": role, "layer": int(layer)}
                    | {"validation": cells.validation.mean()}
                    | {"accuracy": cells.accuracy.mean(), "low": low, "high": high}
                    | {"control": cells.control.mean(), "shuffled": cells.shuffled.mean()}
                    | {"input": prior.accuracy.mean(), "n": hits.shape[1]}
                )
    columns = ["task", "model", "layer", "validation", "accuracy", "low", "high"]
    return pd.DataFrame(rows, columns=[*columns, "control", "shuffled", "input", "n"])


def _current(cells: pd.DataFrame) -> pd.DataFrame:
    return cells[cells.step == cells.target]


def map_table(study: Study, task: str) -> pd.DataFrame:
    """The token after the one read next, by layer and step.

    Returns:
        ``model, place, step, layer, accuracy, input, n``.
    """
    prior = probed_input(study, task).cells.set_index(["step", "target"]).accuracy
    frames = []
    for role in study.pair.roles:
        found = probed(study, task, role)
        cells = found.cells[found.cells.target == found.cells.step + 1]
        cells = cells[cells.place.isin(["now", "own"])]
        known = [prior.get((s, t), np.nan) for s, t in zip(cells.step, cells.target, strict=True)]
        frames.append(
            cells[["place", "step", "layer", "accuracy"]].assign(
                model=role, input=known, n=found.hits.shape[1]
            )
        )
    return pd.concat(frames, ignore_index=True)


def chosen(found: Probed, place: str) -> pd.DataFrame:
    """For each step and target of a place the cell at the layer that validation prefers.

    Of equals the first. The index says which row of the hits it is.
    """
    cells = found.cells[found.cells.place == place]
    if cells.empty:
        return cells
    return cells.loc[cells.groupby(["step", "target"]).validation.idxmax()]


def later_table(study: Study, task: str) -> pd.DataFrame:
    """Every answer token before it is written: the layer is chosen on the validation examples.

    Returns:
        ``model, place, step, target, layer, accuracy, n``; the model ``input`` is the probe on the
        input itself.
    """
    frames = []
    subjects = {str(role): probed(study, task, role) for role in study.pair.roles}
    for role, found in (subjects | {"input": probed_input(study, task)}).items():
        for place in ("now", "own", "input"):
            cells = chosen(found, place)
            if len(cells):
                cells = cells[cells.target >= cells.step]
                frames.append(cells.assign(model=role, n=found.hits.shape[1]))
    columns = ["model", "place", "step", "target", "layer", "accuracy", "n"]
    return pd.concat(frames, ignore_index=True)[columns]


def plan_table(study: Study) -> pd.DataFrame:
    """Later answer tokens, before they are written, averaged over steps and tokens.

    Each training gives one number, a mean over splits; differences are over the same splits.

    Returns:
        ``task, what, value`` (mean over trainings), ``low, high`` (over trainings, NaN with too
        few), ``least, most`` (of single splits), ``n`` (trainings): a model at a place
        (``mdm/now``), the input (``input``), and differences (``mdm/now - arm/now``); empty where
        answers have one token.
    """
    rows = []
    for task in study.pair.tasks:
        if later_input(study, task)["later"].empty:
            continue
        wide = in_splits(study, task)
        pairs = [("mdm/now", "input"), ("mdm/own", "input")]
        pairs += [("mdm/now", "arm/now"), ("mdm/now", "continued/now")]
        for a, b in pairs:
            if {a, b} <= set(wide.columns):
                wide[f"{a} - {b}"] = wide[a] - wide[b]
        for what, values in wide.items():
            found = contrast_over_seeds(list(values.groupby("seed").mean()), str(what))
            rows.append({"task": task, "what": what, "value": found.effect, "n": found.n})
            rows[-1] |= {"low": found.low, "high": found.high}
            rows[-1] |= {"least": values.min(), "most": values.max()}
    columns = ["task", "what", "value", "low", "high", "least", "most", "n"]
    return pd.DataFrame(rows, columns=columns)


def in_splits(study: Study, task: str) -> pd.DataFrame:
    """Accuracy of later tokens in every split of every training, ``[(seed, split), what]``."""
    frames = []
    alone = later_input(study, task)["later"]
    for seed in (seed for seed in study.pair.seeds if study.has("mdm", seed)):
        found = [alone.assign(what="input")]
        for role in study.pair.roles:
            own = later(study, task, role, seed)["later"]
            found.append(own.assign(what=[f"{role}/{place}" for place in own.place]))
        frames.append(pd.concat(found).assign(seed=seed))
    table = pd.concat(frames)
    return table.pivot_table("accuracy", ["seed", "split"], "what", sort=False)


def step_table(study: Study) -> pd.DataFrame:
    """How many tokens are still masked, read at the end of the prompt, and the target number.

    Returns:
        ``task, model, label, layer, validation, accuracy, low, high, shuffled, n``; label
        :data:`MASKS` (MDM only) or :data:`QUARTER`.
    """
    rows = []
    for task in study.pair.tasks:
        for role in study.pair.roles:
            found = probed(study, task, role)
            cells = found.cells
            wanted = ((cells.place == "prompt-end") & (cells.target == STEP)) | (
                (cells.place == "now") & (cells.step == 0) & (cells.target == NUMBER)
            )
            for index, cell in cells[wanted].iterrows():
                low, high = _interval(found.hits[index], study)
                name = MASKS if cell.target == STEP else QUARTER
                rows.append({"task": task, "model": role, "label": name, "layer": int(cell.layer)})
                rows[-1] |= {"validation": cell.validation, "accuracy": cell.accuracy}
                rows[-1] |= {"low": low, "high": high}
                rows[-1] |= {"shuffled": cell.shuffled, "n": found.hits.shape[1]}
    columns = ["task", "model", "label", "layer", "validation", "accuracy", "low", "high"]
    return pd.DataFrame(rows, columns=[*columns, "shuffled", "n"])


def preferred(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Of each group the layer that the validation examples prefer, the first of equals.

    The held-out examples, on which accuracy is measured, have no say in it.
    """
    return table.loc[table.groupby(by, sort=False).validation.idxmax()]


def amnesic_table(study: Study) -> pd.DataFrame:
    """Accuracy of the first answer token with its directions taken out, by layer.

    Returns:
        ``task, model, layer, rank, whole, without, control, low, high, extra, extra_low,
        extra_high, n``; ``low`` and ``high`` are of ``without`` (exact); ``extra`` is what more is
        lost than with the directions of shuffled labels.
    """
    rows = []
    for task in study.pair.tasks:
        for role in study.pair.roles:
            for layer, part in amnesic(study, task, role).groupby("layer"):
                without = part.without.astype(bool)
                low, high = clopper_pearson(int(without.sum()), len(part))
                extra = (part.control.astype(float) - part.without.astype(float)).to_numpy()
                extra_low, extra_high = _interval(extra, study, (-1, 1))
                rows.append(
                    {"task": task, "model": role, "layer": layer, "rank": int(part["rank"].iloc[0])}
                    | {"whole": part.whole.mean(), "without": without.mean()}
                    | {"control": part.control.mean(), "low": low, "high": high}
                    | {"extra": extra.mean(), "extra_low": extra_low, "extra_high": extra_high}
                    | {"n": len(part)}
                )
    columns = ["task", "model", "layer", "rank", "whole", "without", "control", "low", "high"]
    return pd.DataFrame(rows, columns=[*columns, "extra", "extra_low", "extra_high", "n"])


def _interval(
    values: Array, study: Study, bounds: tuple[float, float] = (0, 1)
) -> tuple[float, float]:
    """Interval of a mean over held-out examples of values with bounds."""
    weights = resample(len(values), study.budget.bootstrap, RESAMPLING_SEED)
    drawn = np.concatenate([[values.mean()], weights @ values])
    return mean_interval(drawn, len(values), bounds)
