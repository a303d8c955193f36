"""``mechshift train``: makes a pair's models as the ``training:`` section of its file says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from mechshift_lib.config import ROOT, Pair
from mechshift_lib.diffusion.adapter import train_adapters
from mechshift_lib.diffusion.recipe import Scratch, Stage, recipe_of
from mechshift_lib.diffusion.scratch import train_scratch
from mechshift_lib.errors import ConfigError


def train_pair(
    pair: Pair,
    seed: int,
    *,
    stages: Sequence[Stage] | None = None,
    root: Path = ROOT,
    work: Path | None = None,
    device: str | None = None,
    progress: bool = True,
    max_steps: int | None = None,
) -> dict[Stage, Path]:
    """Train a pair: from scratch (:func:`train_scratch`) or by adapters (:func:`train_adapters`).

    A stage whose folder exists is not trained again; an interrupted one goes on from its last
    checkpoint and ends as if it had never been interrupted.

    Args:
        pair: its file has a ``training`` section.
        seed: decides weights, batches and masks.
        stages: ``arm``, ``continued``, ``mdm`` and the recipe's variants (default: all); all
            others start from the first.
        root: folder that the pair's paths are relative to.
        work: where checkpoints and logs of unfinished stages lie (default: ``results/training``).
        device: where to train (default: a GPU where there is one).
        progress: show a progress bar.
        max_steps: shorten every stage to at most so many steps, for trying things out.

    Returns:
        The folder of each model that the stages made.

    Raises:
        ConfigError: the training section is missing or malformed, a stage or seed is unknown, or
            there is no ARM to start from.
    """
    recipe = recipe_of(pair, max_steps)
    stages = recipe.stages if stages is None else stages
    unknown = set(stages) - set(recipe.stages)
    if unknown:
        known = ", ".join(recipe.stages)
        raise ConfigError(f"Unknown stage {sorted(unknown)}: choose from {known}.")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    work = root / "results" / "training" if work is None else work
    if isinstance(recipe, Scratch):
        return train_scratch(
            pair,
            recipe,
            seed,
            stages=stages,
            root=root,
            work=work,
            device=device,
            progress=progress,
        )
    return train_adapters(
        pair, recipe, seed, stages=stages, root=root, work=work, device=device, progress=progress
    )
