"""What every layer says of the answers, through lenses: by model, token and denoising step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mechshift_lib.analyses.behaviour import solved
from mechshift_lib.analyses.lenses import lens_of
from mechshift_lib.analyses.study import Study
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item
from mechshift_lib.semantics.lens import Read, read_answers, top_tokens
from mechshift_lib.tasks import Example

ROOMS = (
    "circuits",
    "diffusion",
    "semantics/lens",
    "semantics/lens_training",
    "analyses/behaviour",
    "analyses/lenses",
    "analyses/lens",
)
#: Positions that a grid shows, the last of which is where the last answer token is read.
POSITIONS = 8
#: Tasks of which an example is shown whole.
SHOWN = ("countdown", "ioi")


def trainings(study: Study, task: str) -> list[int]:
    """Training seeds whose ARM and MDM both solve at least 2 examples."""
    return [s for s in study.pair.seeds if len(chosen(study, task, s)) >= 2]


def chosen(study: Study, task: str, seed: int) -> list[int]:
    """The first examples that ARM and MDM both solve."""
    return solved(study, task, seed)[: study.budget.lens_examples]


def questions(
    model: LoadedModel, examples: Sequence[Example], indices: Sequence[int]
) -> tuple[list[Item], list[tuple[int, ...]]]:
    """Items for every scored answer token and, of an MDM, every number of tokens written before.

    Returns:
        The items; and for each the answer tokens that it reads. An ARM's item reads token i with
        all before it written, whatever its step says.
    """
    items: list[Item] = []
    tokens: list[tuple[int, ...]] = []
    for index in indices:
        example = examples[index]
        if model.mask_id is None:
            items += model.readout.items(example, index)
            tokens += [example.scored] if example.scored else []
            continue
        n, start = len(example.answer), len(example.clean)
        for step in range(n):
            later = tuple(i for i in example.scored if i >= step)
            if not later:
                continue
            canvas = example.answer[:step] + (model.mask_id,) * (n - step)
            items.append(
                Item(
                    example=index,
                    step=step,
                    clean=example.clean + canvas + example.after,
                    corrupted=example.corrupted + canvas + example.corrupted_after,
                    reads=tuple(model.readout.read_position(start + i) for i in later),
                    answers=tuple(example.answers[i] for i in later),
                    distractors=tuple(example.distractors[i] for i in later),
                )
            )
            tokens.append(later)
    return items, tokens


def readings(study: Study, task: str, role: str, seed: int) -> pd.DataFrame:
    """What each layer of a model says of every scored answer token.

    Returns:
        One row per example, token, step, layer and read: ``example, token, step`` (answer tokens
        written; the token is the next one where they are equal), ``layer`` (layers behind the
        stream: 0 is the embedding, ``n_layers`` the model's own output), ``read, rank,
        probability, distractor, entropy, kl`` (see
        :func:`mechshift_lib.semantics.lens.read_answers`), ``n_layers``.
    """
    indices = chosen(study, task, seed)
    key = study.key(role, seed, task, ROOMS) | {"pool": indices}
    lens = lens_of(study, role, seed)
    key["lens"] = None if lens is None else [lens.about["settings"], lens.about["layers"]]

    def compute() -> dict[str, pd.DataFrame]:
        model, examples = study.model(role, seed), study.examples(task, seed)
        items, tokens = questions(model, examples, indices)
        found = read_answers(model, items, lens, study.budget.batch_size)
        at = list(zip(found["row"], found["at"], strict=True))
        token = np.array([tokens[i][k] for i, k in at])
        steps = np.array([items[i].step for i, _ in at])
        found.insert(0, "example", [items[i].example for i, _ in at])
        found.insert(1, "token", token)
        found.insert(2, "step", token if model.mask_id is None else steps)
        return {"lens": found.drop(columns=["row", "at"]).assign(n_layers=model.n_layers)}

    return study.frames("lens-readings", key, compute)["lens"]


def grid(study: Study, task: str) -> pd.DataFrame:
    """Likeliest token at every layer of the last positions, for the first example that is solved.

    The ARM is given the prompt and the right answer, the MDM the prompt and masks. Read by the
    tuned lens, or by the logit lens where the models have none.

    Returns:
        One row per model, layer and position: ``model, read, layer, position, input`` (token that
        stands there), ``token, probability`` (the likeliest), ``wanted`` (right token; empty where
        the prompt is predicted), ``right``; empty where nothing is solved.
    """
    seeds = trainings(study, task)
    columns = [
        "model",
        "read",
        "layer",
        "position",
        "input",
        "token",
        "probability",
        "wanted",
        "right",
    ]
    if not seeds:
        return pd.DataFrame(columns=columns)
    seed = seeds[0]
    index = chosen(study, task, seed)[0]
    example = study.examples(task, seed)[index]
    frames = []
    for role in ("arm", "mdm"):
        model, lens = study.model(role, seed), lens_of(study, role, seed)
        masks = () if model.mask_id is None else (model.mask_id,) * len(example.answer)
        ids = example.clean + (masks or example.answer[:-1])
        places = [
            model.readout.read_position(len(example.clean) + i) for i in range(len(example.answer))
        ]
        read: Read = "logit" if lens is None else "tuned"
        tokens, shares = top_tokens(model, ids, read, lens)
        shown = range(max(0, places[-1] + 1 - POSITIONS), places[-1] + 1)
        wanted = {place: set(example.answers[i]) for i, place in enumerate(places)}

        def word(token: int, model: LoadedModel = model) -> str:
            return str(model.tokenizer.decode([token])).strip()

        frames += [
            {
                "model": role,
                "read": read,
                "layer": layer,
                "position": place,
                "input": word(ids[place]),
            }
            | {"token": word(int(tokens[layer, place]))}
            | {"probability": float(shares[layer, place])}
            | {"wanted": word(example.answer[places.index(place)]) if place in wanted else ""}
            | {"right": int(tokens[layer, place]) in wanted.get(place, set())}
            for layer in range(len(tokens))
            for place in shown
        ]
    return pd.DataFrame(frames, columns=columns)
