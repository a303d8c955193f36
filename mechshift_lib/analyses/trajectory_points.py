"""What is measured of every checkpoint of a post-training, while the checkpoints are there.

Checkpoints are too large for a repository, so what they say is kept instead: behaviour, the
decisive cue, and the scores of all edges (:mod:`mechshift_lib.analyses.trajectory_files`). Every
checkpoint of a training is asked the same questions, made of examples that its ARM solves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from mechshift_lib.analyses.behaviour import DEFAULT_ORDER
from mechshift_lib.analyses.cues import DECISIVE, probabilities
from mechshift_lib.analyses.scores import single_reads
from mechshift_lib.analyses.study import EXAMPLES_SEED, RESAMPLING_SEED, Study
from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.config import FolderSource, ModelSpec
from mechshift_lib.diffusion.distance import moved
from mechshift_lib.diffusion.recipe import recipe_of
from mechshift_lib.diffusion.samplers import denoise, generate_arm
from mechshift_lib.diffusion.scratch import FOLLOWED, WORK, kept
from mechshift_lib.documents.packed import unpacked
from mechshift_lib.errors import ConfigError, ModelError, TaskError
from mechshift_lib.models.loading import LoadedModel, load_model
from mechshift_lib.results import code_hash, data_hash
from mechshift_lib.tasks import Example, Task, Tokenizer
from mechshift_lib.tasks.countdown import Countdown
from mechshift_lib.tasks.cues import Conflict, conflicts

#: Parts of the library that decide what is measured.
ROOMS = ("choices", "tasks", "models", "circuits", "diffusion/samplers", "analyses/cues")
OWN = ("analyses/scores", "analyses/trajectory_points")
#: Task -> answer positions whose scores are kept where every number is one token: the name of IOI,
#: the numbers of Countdown. For other tokenizers see :func:`places`.
READS: dict[str, tuple[int, ...]] = {"ioi": (0,), "countdown": (0, 2, 4)}


@dataclass(frozen=True)
class Amount:
    """How much is measured of a checkpoint.

    Attributes:
        accuracy: examples of each task that are answered.
        circuit: examples that edges are scored on at each read, at most.
        groups: groups of these whose mean scores are kept, so that noise can be divided out.
        steps: points of EAP-IG.
        batch: inputs a pass.
    """

    accuracy: int = 200
    circuit: int = 32
    groups: int = 4
    steps: int = 5
    batch: int = 64


@dataclass(frozen=True)
class Point:
    """A model on the way: whose training, after how many steps, and where its weights lie."""

    model: str
    step: int
    folder: Path


@dataclass(frozen=True)
class Measured:
    """What was measured of one point.

    Attributes:
        row: the numbers, by column of the table.
        scores: edge scores in units of the metric, mean over each group of examples,
            ``[n_read, n_group, n_edges]``.
        graph: the model's graph.
    """

    row: dict[str, Any]
    scores: NDArray[np.float32]
    graph: Graph


@dataclass(frozen=True)
class Asked:
    """The questions that every checkpoint of a training is asked.

    Attributes:
        examples: task -> all its examples.
        reads: task and answer position -> examples whose edges are scored there: the first that the
            ARM solves and that have a metric there.
        cues: conflicts of cues that decide.
        amount: how much is measured.
    """

    examples: Mapping[str, Sequence[Example]]
    reads: Mapping[tuple[str, int], Sequence[int]]
    cues: list[Conflict]
    amount: Amount


def points(study: Study, seed: int) -> list[Point]:
    """The points of a training: the ARM, the MDM from the ARM's weights on, and the control.

    The MDM's point at step 0 is the ARM asked as an MDM is.

    Raises:
        ConfigError: the models aren't trained here.
    """
    recipe = recipe_of(study.pair)
    arm = folder_of(study, study.pair.model("arm", seed))
    found = [Point("arm", 0, arm), Point("mdm", 0, arm)]
    for stage in FOLLOWED:
        if stage not in study.pair.roles:
            continue
        for step, folder in kept(study.pair, recipe, seed, stage, study.root / WORK).items():
            found.append(Point(stage, step, folder))
        end = folder_of(study, study.pair.model(stage, seed))
        found.append(Point(stage, recipe.post.steps, end))
    return found


def some(found: Sequence[Point], names: Sequence[str]) -> list[Point]:
    """Those points that are named, such as ``mdm@100``.

    Raises:
        ConfigError: there is no such point.
    """
    by_name = {f"{one.model}@{one.step}": one for one in found}
    for name in names:
        if name not in by_name:
            raise ConfigError(f"There is no point {name!r}: choose of {', '.join(by_name)}.")
    return [by_name[name] for name in dict.fromkeys(names)]


def folder_of(study: Study, spec: ModelSpec) -> Path:
    """The folder of what training makes of a model: its weights, or its adapter.

    Raises:
        ConfigError: training makes nothing of it: it is a published model as it is.
    """
    if spec.adapter is not None:
        return unpacked(study.root / spec.adapter)
    if not isinstance(spec.source, FolderSource):
        raise ConfigError(
            f"Pair {study.pair.name!r} has no checkpoints in folders of their own: only pairs are "
            "followed whose ARM is trained here, too, be it by an adapter."
        )
    return study.root / spec.source.path


def weights_hash(folder: Path) -> str:
    """The content of a folder's weights, 16 hexadecimal digits."""
    return data_hash(*sorted(folder.glob("*.safetensors")))[:16]


def measure_all(
    study: Study,
    seed: int,
    amount: Amount | None = None,
    wanted: Sequence[Point] | None = None,
    *,
    arm: Point | None = None,
    progress: bool = True,
) -> list[Measured]:
    """Measure points of a training, in their order; none that is in the store already.

    Args:
        study: whose models they are.
        seed: the training.
        amount: how much is measured of each.
        wanted: the points (default: all of :func:`points`).
        arm: the ARM, whose answers decide which examples are asked; by default the first point.
        progress: show a progress bar.

    Raises:
        ConfigError: the models aren't trained here, or the ARM solves too few examples.
        ModelError: a checkpoint is missing; those that are there have been measured.
    """
    amount = Amount() if amount is None else amount
    wanted = points(study, seed) if wanted is None else wanted
    arm = wanted[0] if arm is None else arm
    if not _is_there(arm):
        raise ModelError(f"The ARM of seed {seed} is missing: train it, or restore {arm.folder}.")
    asked = questions(study, seed, arm, amount)
    found, missing = [], []
    for point in tqdm(wanted, desc=f"{study.pair.name} seed {seed}", disable=not progress):
        if _is_there(point):
            found.append(_stored(study, seed, point, arm, asked))
        else:
            missing.append(point)
    if missing:
        first = missing[0]
        raise ModelError(
            f"{len(missing)} of {len(wanted)} checkpoints of seed {seed} are missing, such as that "
            f"of {first.model} at step {first.step}: only a training from its beginning leaves "
            "them (what was measured of the others is kept)."
        )
    return found


def _is_there(point: Point) -> bool:
    return any(point.folder.glob("*.safetensors"))


def questions(study: Study, seed: int, arm: Point, amount: Amount) -> Asked:
    """What is asked, made of the examples that the ARM solves (all of them in the pool ``all``).

    Raises:
        ConfigError: the ARM solves too few of a task's examples.
    """
    model = loaded(study, seed, arm)
    examples = {
        name: study.task(name).examples(model.tokenizer, amount.accuracy, EXAMPLES_SEED)
        for name in study.pair.tasks
    }
    reads: dict[tuple[str, int], list[int]] = {}
    cues: list[Conflict] = []
    for name in READS:
        if name not in examples:
            continue
        task = study.task(name)
        right = right_answers(task, model, examples[name], amount.batch)
        solved = [i for i, ok in enumerate(right) if ok or study.pool == "all"]
        for at in places(name, model.tokenizer, examples[name]):
            chosen = [i for i in solved if at in examples[name][i].scored][: amount.circuit]
            if len(chosen) < amount.groups:
                raise ConfigError(
                    f"The ARM of {study.pair.name!r} (seed {seed}) solves {len(chosen)} examples "
                    f"of {name!r} with a metric at token {at}: {amount.groups} groups need more."
                )
            reads[name, at] = chosen
        if isinstance(task, Countdown):
            for i in solved:
                cues += _decisive(task, model.tokenizer, examples[name][i], i)
    return Asked(examples, reads, cues, amount)


def places(name: str, tokenizer: Tokenizer, examples: Sequence[Example]) -> tuple[int, ...]:
    """Answer positions of a task whose scores are kept: of Countdown those of the numbers.

    Raises:
        ConfigError: the tokenizer puts the numbers at other places in other examples.
    """
    if name != Countdown.name:
        return READS[name]
    found = {
        tuple(i for i, t in enumerate(e.answer) if tokenizer.decode([t]).strip().isdigit())
        for e in examples
    }
    if len(found) != 1:
        raise ConfigError(
            "This tokenizer puts Countdown's numbers at different places of different equations: "
            "give the task numbers of one digit, by task_options.countdown.largest."
        )
    return found.pop()


def _decisive(task: Countdown, tokenizer: Tokenizer, example: Example, i: int) -> list[Conflict]:
    """An example's conflicts that decide; none where the tokenizer splits equations otherwise."""
    try:
        made = conflicts(task, tokenizer, example, i, RESAMPLING_SEED)
    except TaskError:
        return []
    return [one for one in made if one.kind == DECISIVE]


def right_answers(
    task: Task, model: LoadedModel, examples: Sequence[Example], batch: int
) -> list[bool]:
    """Which examples a model solves by itself: greedily, or denoised by its own confidence."""
    prompts, lengths = [e.clean for e in examples], [len(e.answer) for e in examples]
    if model.mask_id is None:
        given = generate_arm(model, prompts, lengths, batch)
    else:
        denoised = denoise(
            model, prompts, lengths, order=DEFAULT_ORDER, seed=RESAMPLING_SEED, batch_size=batch
        )
        given = [one.tokens for one in denoised]
    return [bool(task.score(e, t, model.tokenizer)) for e, t in zip(examples, given, strict=True)]


def loaded(study: Study, seed: int, point: Point) -> LoadedModel:
    """A point's model, asked as its role is."""
    spec, place = study.pair.model(point.model, seed), str(point.folder.absolute())
    if spec.adapter is not None:
        own: dict[str, Any] = {"adapter": place}
    else:
        own = {"source": FolderSource(kind="folder", path=place)}
    return load_model(spec.model_copy(update=own), device=study.device, root=study.root)


def _stored(study: Study, seed: int, point: Point, arm: Point, asked: Asked) -> Measured:
    key = {
        "pair": study.pair.name,
        "role": point.model,
        "step": point.step,
        "seed": [seed, EXAMPLES_SEED],
        "models": {"arm": weights_hash(arm.folder), "point": weights_hash(point.folder)},
        "asked": asdict(asked.amount)
        | {"reads": {f"{task}/{at}": list(chosen) for (task, at), chosen in asked.reads.items()}},
        "device": study.device,
        "code": code_hash(*ROOMS, *OWN),
    }

    def compute() -> dict[str, pd.DataFrame]:
        found = measure(study, seed, point, arm.folder, asked)
        flat = found.scores.reshape(-1, found.scores.shape[-1])
        return {
            "row": pd.DataFrame([found.row]),
            "scores": pd.DataFrame(flat.T, columns=[str(i) for i in range(len(flat))]),
            "graph": pd.DataFrame([asdict(found.graph)]),
        }

    frames = study.frames("trajectory", key, compute)
    flat = frames["scores"].to_numpy(dtype=np.float32).T
    shape = (-1, asked.amount.groups, flat.shape[1])
    return Measured(
        row=frames["row"].iloc[0].to_dict(),
        scores=flat.reshape(shape),
        graph=Graph(**frames["graph"].iloc[0].to_dict()),
    )


def measure(study: Study, seed: int, point: Point, arm: Path, asked: Asked) -> Measured:
    """Measure one point.

    Returns:
        The row has ``model, step, displacement`` (norm of the change of all weights since the ARM,
        of the two as they are saved), ``listed, targeted`` (mean probabilities at the decisive
        conflict, NaN without any), ``cues`` (their number), ``examples``, ``accuracy/TASK``,
        ``effect/READ`` (mean metric, clean minus corrupted) and ``weights`` (their hash).
    """
    model = loaded(study, seed, point)
    amount = asked.amount
    row: dict[str, Any] = {
        "model": point.model,
        "step": point.step,
        "displacement": moved(arm, point.folder),
    }
    table = probabilities(model, asked.cues, amount.batch)
    row |= {name: float(table[name].mean()) for name in ("listed", "targeted")}
    row |= {"cues": len(table), "examples": amount.accuracy}
    for name, examples in asked.examples.items():
        right = right_answers(study.task(name), model, examples, amount.batch)
        row[f"accuracy/{name}"] = float(np.mean(right))
    scores = []
    for (name, at), chosen in asked.reads.items():
        items = [
            replace(item, example=number)
            for number, i in enumerate(chosen)
            for item, place in single_reads(model, asked.examples[name][i], i)
            if place == at
        ]
        found = attribute(
            model,
            items,
            metric=study.task(name).metric,
            method="eap-ig",
            steps=amount.steps,
            batch_size=amount.batch,
        )
        row[f"effect/{name}/{at}"] = float((found.metric_clean - found.metric_corrupted).mean())
        groups = np.array_split(found.by_example, amount.groups)
        scores.append(np.stack([group.mean(0) for group in groups]))
    row["weights"] = weights_hash(point.folder)
    return Measured(row, np.stack(scores), Graph.for_model(model))
