"""Which cue wins where two ways to solve a Countdown disagree, in every training."""

from __future__ import annotations

from collections import defaultdict
from typing import Literal

import pandas as pd
import torch

from mechshift_lib.analyses.behaviour import solved
from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.circuits.patching.cutting import cut_attention
from mechshift_lib.comparison.over_seeds import differences
from mechshift_lib.errors import TaskError
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item, question
from mechshift_lib.tasks.countdown import Countdown
from mechshift_lib.tasks.cues import KINDS, Conflict, Kind, conflicts

ROOMS = ("circuits", "diffusion/samplers", "analyses/behaviour", "analyses/cues")
TASK = "countdown"
#: The conflict that decides: elimination determines the last number, and the target asks for
#: another number of the list.
DECISIVE: Kind = "other target"
Obstacle = Literal["no task", "not solved", "no conflict", "split"]
#: Tokens that the last number can be read from.
TOKENS = ("given numbers", "target", "written tokens")
#: Whose sight of them is cut: the read position's alone, or everybody's.
CUTS = ("direct", "any")
#: Differences that are judged over seeds: model, minus base.
DIFFERENCES = (
    ("mdm", "arm"),
    ("mdm", "continued"),
    ("matched", "continued"),
    ("mdm-answers", "arm"),
    ("mdm-causal", "arm"),
)


def obstacle(study: Study) -> Obstacle | None:
    """Why a pair's Countdown can't be asked with two cues; None where it can.

    It takes Countdown, a training that solves some of it, and a tokenizer that reads an equation as
    numbers and signs, a token each.
    """
    if TASK not in study.pair.tasks:
        return "no task"
    if not usable(study):
        return "not solved"
    try:
        return None if conflicts_of(study, usable(study)[0]) else "no conflict"
    except TaskError:
        return "split"


def usable(study: Study) -> list[int]:
    """Training seeds whose ARM and MDM both solve at least 2 examples."""
    return [s for s in study.pair.seeds if len(chosen(study, s)) >= 2]


def chosen(study: Study, seed: int) -> list[int]:
    """The first examples that ARM and MDM both solve: more than circuits are taken over."""
    return solved(study, TASK, seed)[: study.budget.cue_examples]


def answers(study: Study, role: str, seed: int) -> pd.DataFrame:
    """What a model thinks of every conflict made of the first examples that ARM and MDM solve.

    Returns:
        One row per question: ``example, kind, at, listed, targeted`` (probabilities of the tokens
        that each cue names).
    """
    key = study.key(role, seed, TASK, ROOMS) | {"pool": chosen(study, seed)}

    def compute() -> dict[str, pd.DataFrame]:
        model, made = study.model(role, seed), conflicts_of(study, seed)
        return {"cues": probabilities(model, made, study.budget.batch_size)}

    return study.frames("cues", key, compute)["cues"]


def probabilities(model: LoadedModel, made: list[Conflict], batch_size: int) -> pd.DataFrame:
    """Probabilities of what each cue names; a question that the model can't be asked is left out.

    Returns:
        As :func:`answers`.
    """
    by_length: dict[int, list[tuple[Conflict, tuple[int, ...], int]]] = defaultdict(list)
    for one in made:
        found = question(
            model.readout, model.mask_id, one.prompt, one.n_answer, one.revealed, one.at
        )
        if found is not None:
            by_length[len(found[0])].append((one, *found))
    rows = []
    for group in by_length.values():
        for start in range(0, len(group), batch_size):
            part = group[start : start + batch_size]
            ids = torch.tensor([row[1] for row in part])
            logits = model.logits(ids).float().cpu()
            for (one, _, read), row in zip(part, logits, strict=True):
                shares = row[read].softmax(-1)
                rows.append(
                    {
                        "example": one.example,
                        "kind": one.kind,
                        "at": one.at,
                        "listed": float(shares[list(one.listed)].sum()),
                        "targeted": float(shares[list(one.targeted)].sum()),
                    }
                )
    columns = ["example", "kind", "at", "listed", "targeted"]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values(["example", "kind", "at"], ignore_index=True)


def conflicts_of(study: Study, seed: int) -> list[Conflict]:
    """All conflicts of the first examples that ARM and MDM solve."""
    examples, task = study.examples(TASK, seed), study.task(TASK)
    tokenizer = study.model("arm", seed).tokenizer
    assert isinstance(task, Countdown)
    return [
        one
        for i in chosen(study, seed)
        for one in conflicts(task, tokenizer, examples[i], i, RESAMPLING_SEED)
    ]


def routes(study: Study, role: str, seed: int) -> pd.DataFrame:
    """What each kind of token carries to the decisive read: the last number, other target.

    Attention of the position that is read to these tokens is cut in every layer (``direct``), or
    that of all positions (``any``), and the metric is the logit of the number that is left minus
    that of the target's number.

    Returns:
        One row per cut and kind of token: ``cut, tokens`` (one of :data:`TOKENS`), ``change`` (mean
        of the metric with the cut minus that without), ``n``.
    """
    key = study.key(role, seed, TASK, ROOMS) | {
        "pool": chosen(study, seed),
        "routes": list(TOKENS),
    }

    def compute() -> dict[str, pd.DataFrame]:
        made = [c for c in conflicts_of(study, seed) if c.kind == DECISIVE]
        return {"routes": cut_routes(study.model(role, seed), made)}

    return study.frames("cues", key, compute)["routes"]


def cut_routes(model: LoadedModel, made: list[Conflict]) -> pd.DataFrame:
    """The table of :func:`routes` for one model."""
    items, groups = [], []
    for row, one in enumerate(made):
        asked = question(
            model.readout, model.mask_id, one.prompt, one.n_answer, one.revealed, one.at
        )
        if asked is None:
            continue
        ids, read = asked
        items.append(Item(row, 0, ids, ids, (read,), (one.listed,), (one.targeted,)))
        written = [len(one.prompt) + i for i in one.revealed]
        groups.append((one.numbers, (one.target,), tuple(p for p in written if p != read)))
    rows = []
    if items:
        cuts: list[list[tuple[int, ...]]] = [[()] * len(items)]
        cuts += [[g[k] for g in groups] for k in range(len(TOKENS))]
        for name in CUTS:
            found = cut_attention(model, items, cuts, reads_only=name == "direct").values
            change = (found[1:] - found[0]).mean(1)
            rows += [
                {"cut": name, "tokens": tokens, "change": float(x), "n": len(items)}
                for tokens, x in zip(TOKENS, change, strict=True)
            ]
    return pd.DataFrame(rows, columns=["cut", "tokens", "change", "n"])


def routes_by_seed(study: Study) -> pd.DataFrame:
    """:func:`routes` of every model of every training: ``seed, model`` and its columns."""
    frames = [
        routes(study, role, seed).assign(seed=seed, model=role)
        for seed in usable(study)
        for role in study.models(seed)
    ]
    table = pd.concat(frames, ignore_index=True)
    return table[["seed", "model", "cut", "tokens", "change", "n"]]


def routes_over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Differences of what each kind of token carries, between models over trainings.

    Returns:
        ``cut, tokens, model, base, difference, low, high, n`` (seeds).
    """
    rows = []
    for (cut, tokens), part in table.groupby(["cut", "tokens"], sort=False):
        wide = part.pivot(index="seed", columns="model", values="change")
        rows += [{"cut": cut, "tokens": tokens} | found for found in differences(wide, DIFFERENCES)]
    columns = ["cut", "tokens", "model", "base", "difference", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def by_seed(study: Study) -> pd.DataFrame:
    """One row per training, model, kind of conflict and place.

    Returns:
        ``seed, model, kind, at, wins`` (share of the questions at which what elimination names is
        the more probable), ``listed, targeted`` (mean probabilities), ``n``.
    """
    frames = []
    for seed in usable(study):
        for role in study.models(seed):
            table = answers(study, role, seed)
            wins = (table.listed > table.targeted).astype(float)
            # Where both cues agree there is nothing to win: NaN.
            table = table.assign(wins=wins.where(table.kind != "none"))
            found = table.groupby(["kind", "at"], as_index=False).agg(
                wins=("wins", "mean"),
                listed=("listed", "mean"),
                targeted=("targeted", "mean"),
                n=("example", "size"),
            )
            found.insert(0, "model", role)
            found.insert(0, "seed", seed)
            frames.append(found)
    table = pd.concat(frames, ignore_index=True)
    order = {kind: i for i, kind in enumerate(KINDS)}
    return table.sort_values(
        ["kind", "at", "seed"], key=lambda c: c.map(order) if c.name == "kind" else c,
        kind="stable", ignore_index=True,
    )  # fmt: skip


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Differences between models over trainings, from :func:`by_seed`.

    Returns:
        ``kind, at, model, base, difference`` (of ``listed``), ``low, high`` (t interval over seeds,
        NaN with one), ``n`` (seeds).
    """
    rows = []
    told = table[table.kind != "none"]
    for (kind, at), part in told.groupby(["kind", "at"], sort=False):
        wide = part.pivot(index="seed", columns="model", values="listed")
        rows += [{"kind": kind, "at": at} | found for found in differences(wide, DIFFERENCES)]
    columns = ["kind", "at", "model", "base", "difference", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def shown(study: Study) -> pd.DataFrame:
    """One example's conflicts in words: ``kind, at, question, listed, targeted`` (tokens)."""
    seed = usable(study)[0]
    index = chosen(study, seed)[0]
    model, task = study.model("mdm", seed), study.task(TASK)
    assert isinstance(task, Countdown)
    example = study.examples(TASK, seed)[index]

    def words(ids: tuple[int, ...]) -> str:
        return " or ".join(model.tokenizer.decode([i]).strip() for i in ids)

    rows = [
        (one.kind, one.at, one.text, words(one.listed), words(one.targeted))
        for one in conflicts(task, model.tokenizer, example, index, RESAMPLING_SEED)
        if one.kind != "none"
    ]
    return pd.DataFrame(rows, columns=["kind", "at", "question", "elimination", "target"])
