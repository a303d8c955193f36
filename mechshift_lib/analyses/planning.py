"""Where a plan would be kept: what positions carry, and what is lost when nobody looks there.

All of it is exact (patching and cutting), in every training. Each answer token is a question of
its own, with the right tokens before it in place.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mechshift_lib.analyses.faithfulness import unseen
from mechshift_lib.analyses.scores import single_reads
from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.circuits.patching.cutting import cut_attention
from mechshift_lib.circuits.patching.groups import patch_groups
from mechshift_lib.models.readout import Item

ROOMS = (
    "circuits",
    "diffusion/samplers",
    "analyses/behaviour",
    "analyses/faithfulness",
    "analyses/planning",
    "analyses/scores",
)
MODELS = ("arm", "mdm", "continued", "matched")
#: Where a token stands, seen from the answer token that is asked for. ``read`` is the position
#: whose logits are read; ``own`` is the mask that is being filled where that is another one;
#: ``waiting`` are masks that are filled later. An ARM has no masks.
PLACES = ("prompt", "revealed", "own", "waiting", "read")
#: Where probes read a later token, in the models that they are fitted on.
PROBED = {"mdm": "own", "arm": "now", "continued": "now"}
#: What nobody may look at, each beside as many random tokens of the prompt.
CUTS = ("waiting", "revealed")


def places(item: Item, n_prompt: int, mask_id: int | None) -> NDArray[np.int64]:
    """The place of every position of an item with one read: an index of :data:`PLACES`, ``[pos]``.

    −1 stands behind an ARM's read, which can't see it. The mask that is being filled is the first
    one, as tokens are revealed from left to right.

    Args:
        item: the item.
        n_prompt: tokens of its prompt.
        mask_id: the MDM's mask token; None for an ARM, which has no masks.
    """
    ids = np.array(item.clean)
    found = np.where(np.arange(len(ids)) < n_prompt, 0, PLACES.index("revealed"))
    if mask_id is None:
        found[item.reads[0] + 1 :] = -1
    else:
        masks = np.flatnonzero((ids == mask_id) & (found == PLACES.index("revealed")))
        found[masks] = PLACES.index("waiting")
        found[masks[:1]] = PLACES.index("own")
    found[item.reads[0]] = PLACES.index("read")
    return found


def later_places(
    item: Item, n_prompt: int, token: int, mask_id: int | None, first: int
) -> list[tuple[int, int, int]]:
    """Positions at which probes read a later token, and where that can matter to this item's read.

    In an MDM a step leaves nothing behind but the tokens it writes: what stands at the mask of a
    later token can matter only to the token that is read now. In an ARM what stands where an
    earlier token was read is there for the later one's read.

    Args:
        item: an item that reads one answer token.
        n_prompt: tokens of its prompt.
        token: index of the token that it reads.
        mask_id: the MDM's mask token; None for an ARM.
        first: position at which the first answer token is read.

    Returns:
        Position, denoising step and index of the later token, as :func:`probes.later` has them.
    """
    if mask_id is None:
        return [(first + s, s, token) for s in range(token)]
    return [(p, token, p - n_prompt) for p in range(n_prompt + token + 1, len(item.clean))]


def _chosen(study: Study, task: str, seed: int) -> list[int]:
    return unseen(study, task, seed)[: study.budget.planning_examples]


def _items(study: Study, task: str, model: str, seed: int) -> list[tuple[Item, int, int]]:
    """Items with one read each, numbered in :attr:`Item.example`; the token each reads, and the
    index of its example.
    """
    loaded, examples = study.model(model, seed), study.examples(task, seed)
    found: list[tuple[Item, int, int]] = []
    for index in _chosen(study, task, seed):
        for item, token in single_reads(loaded, examples[index], index):
            found.append((replace(item, example=len(found)), token, index))
    return found


def _key(study: Study, task: str, model: str, seed: int) -> dict:
    return study.key(model, seed, task, ROOMS) | {
        "metric": study.task(task).metric,
        "evaluated_on": _chosen(study, task, seed),
    }


def patched(study: Study, task: str, model: str, seed: int) -> dict[str, pd.DataFrame]:
    """What the residual stream carries, by place and layer: the corrupted run's, put into the clean
    run at all positions of a place at once, and at single ones.

    From the input of the second layer on (layer 1): before, the prompt carries all of it.

    Returns:
        ``places``: one row per item, place and layer: ``example, read`` (index of the answer
        token), ``place, layer, effect`` (metric lost), ``whole`` (clean − corrupted).
        ``single``: the same at places of later tokens: ``example, read, step, target, layer,
        effect, whole``.
    """

    def compute() -> dict[str, pd.DataFrame]:
        loaded, examples = study.model(model, seed), study.examples(task, seed)
        items = _items(study, task, model, seed)
        groups: list[list[list[int]]] = []
        singles = []
        for item, token, index in items:
            n_prompt = len(examples[index].clean)
            where = places(item, n_prompt, loaded.mask_id)
            first = loaded.readout.read_position(n_prompt)
            groups.append([np.flatnonzero(where == k).tolist() for k in range(len(PLACES))])
            later = later_places(item, n_prompt, token, loaded.mask_id, first)
            singles.append(later if model in PROBED else [])
        most = max(map(len, singles))
        padded = [[[p] for p, _, _ in one] + [[]] * (most - len(one)) for one in singles]
        by_group = list(zip(*(a + b for a, b in zip(groups, padded, strict=True)), strict=True))
        found = patch_groups(
            loaded,
            [item for item, _, _ in items],
            by_group,
            metric=study.task(task).metric,
            first=1,
        )
        whole = found.clean - found.corrupted
        lost = found.clean[:, None, None] - found.patched
        of_places, of_singles = [], []
        for row, (_, token, index) in enumerate(items):
            for column, layer in enumerate(found.layers.tolist()):
                of_places += [
                    (index, token, PLACES[k], layer, lost[row, k, column], whole[row])
                    for k in range(len(PLACES))
                    if groups[row][k]
                ]
                of_singles += [
                    (index, token, step, target, layer, lost[row, k, column], whole[row])
                    for k, (_, step, target) in enumerate(singles[row], start=len(PLACES))
                ]
        ends = ["layer", "effect", "whole"]
        return {
            "places": pd.DataFrame(of_places, columns=["example", "read", "place", *ends]),
            "single": pd.DataFrame(
                of_singles, columns=["example", "read", "step", "target", *ends]
            ),
        }

    return study.frames("planning-patched", _key(study, task, model, seed), compute)


def cut(study: Study, task: str, model: str, seed: int) -> pd.DataFrame:
    """A model while no other token may look at some positions, in any layer.

    ``waiting`` are an MDM's masks that are filled later, ``revealed`` the answer tokens that stand
    already, but for the one whose position is read. Beside each stand as many random positions of
    the prompt (not the first token, nor one that is read), other ones for every item.

    Returns:
        One row per item and kind of cut: ``example, read, kind, value, correct, positions`` (number
        of them); kinds are ``none``, those of :data:`CUTS` and these with ``-control``.
    """

    def compute() -> dict[str, pd.DataFrame]:
        loaded, examples = study.model(model, seed), study.examples(task, seed)
        items = _items(study, task, model, seed)
        cuts: dict[str, list[list[int]]] = {"none": [[] for _ in items]}
        for number, kind in enumerate(CUTS):
            chosen, control = [], []
            for item, token, index in items:
                where = places(item, len(examples[index].clean), loaded.mask_id)
                chosen.append(np.flatnonzero(where == PLACES.index(kind)).tolist())
                free = [p for p in np.flatnonzero(where == 0).tolist() if p > 0]
                rng = np.random.default_rng([RESAMPLING_SEED, number, index, token])
                control.append(sorted(rng.permutation(free)[: len(chosen[-1])].tolist()))
            cuts |= {kind: chosen, f"{kind}-control": control}
        wanted = {kind: cut for kind, cut in cuts.items() if kind == "none" or any(cut)}
        found = cut_attention(
            loaded,
            [item for item, _, _ in items],
            list(wanted.values()),
            metric=study.task(task).metric,
        )
        rows = [
            (index, token, kind, found.values[k, row], found.correct[k, row], len(cut[row]))
            for k, (kind, cut) in enumerate(wanted.items())
            for row, (_, token, index) in enumerate(items)
        ]
        columns = ["example", "read", "kind", "value", "correct", "positions"]
        return {"cut": pd.DataFrame(rows, columns=columns)}

    return study.frames("planning-cut", _key(study, task, model, seed), compute)["cut"]
