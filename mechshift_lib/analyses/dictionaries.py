"""Dictionaries of a pair's models: those that ship, or trained where there are none.

``data/dictionaries/PAIR/seedS/NAME.safetensors`` holds one, with what was trained on which weights.
A file is used only where both are what is asked now; the code that trained it is noted, not
compared: a test measures a sample anew.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.errors import ConfigError, listed, shown
from mechshift_lib.results.provenance import model_hash, provenance
from mechshift_lib.results.store import Frames
from mechshift_lib.semantics.dictionary import (
    TENSORS,
    Dictionary,
    Settings,
    load_dictionary,
    relative_norm,
    save_dictionary,
)
from mechshift_lib.semantics.dictionary_measures import counts, explained, matching
from mechshift_lib.semantics.dictionary_training import shuffled, train_dictionary
from mechshift_lib.semantics.lens_training import Corpus
from mechshift_lib.semantics.views import Text, Texts, View, drawn_texts, rows

#: Name -> its models, and whether each is shown masks. SAEs are of models as they are used;
#: crosscoders are of two models that read the same, or of ARM and MDM as they are used.
VIEWS: dict[str, tuple[tuple[str, bool], ...]] = {
    "arm": (("arm", False),),
    "mdm": (("mdm", True),),
    "continued": (("continued", False),),
    "arm-mdm": (("arm", False), ("mdm", False)),
    "arm-mdm-masked": (("arm", False), ("mdm", True)),
    "arm-continued": (("arm", False), ("continued", False)),
    "arm-matched": (("arm", False), ("matched", False)),
}
CROSSCODERS = tuple(name for name, views in VIEWS.items() if len(views) > 1)
#: Those that are trained from another random start as well, in a pair's first training.
AGAIN = ("arm-mdm", "arm-mdm-masked", "arm-continued")
CODE = ("circuits", "diffusion", "semantics", "analyses/dictionaries")
#: Features per dimension of the residual stream, and how many are active at a token on average.
WIDER, ACTIVE = 2.5, 12
#: Tokens a step, texts drawn at a time, how often a token is used, and bytes of tokens in memory.
BATCH, TEXTS, REUSED, MEMORY = 512, 64, 8, 2**26
#: Batches of texts that are trained on by no dictionary, for measuring.
HELD_OUT = 8
#: Bytes that a crosscoder's weights may have in half precision.
LARGEST = 2**20


def settings(study: Study) -> Settings:
    """How dictionaries of a study are trained; all models of a pair have the ARM's width."""
    features = int(WIDER * study.model("arm", study.seed).d_model)
    return Settings(features, ACTIVE, study.budget.dictionary_steps, BATCH)


def fits(study: Study) -> bool:
    """Whether the pair's models are small enough for crosscoders that ship."""
    width = study.model("arm", study.seed).d_model
    return 8 * width * int(WIDER * width) <= LARGEST


def layer_of(study: Study) -> int:
    """The layer whose input is read: the middle one, as many layers write as read."""
    return study.model("arm", study.seed).n_layers // 2


def module_of(study: Study, name: str, seed: int) -> str:
    """Name of the module whose input an SAE reads, as in Hugging Face."""
    model = study.model(VIEWS[name][0][0], seed)
    layer = model.anatomy.layer(model.hf, layer_of(study))
    return next(path for path, module in model.hf.named_modules() if module is layer)


def names(study: Study, seed: int) -> list[str]:
    """Dictionaries whose models there are in a training."""
    return [name for name, views in VIEWS.items() if all(study.has(x, seed) for x, _ in views)]


def path_of(study: Study, name: str, seed: int) -> Path:
    """Where a dictionary is shipped."""
    folder = study.root / "data" / "dictionaries" / study.pair.name / f"seed{seed}"
    return folder / f"{name}.safetensors"


def identity(study: Study, name: str, seed: int) -> dict[str, Any]:
    """What a dictionary is of: weights, how they are asked, texts, layer and settings."""
    return {
        "pair": study.pair.name,
        "name": name,
        "seed": seed,
        "layer": layer_of(study),
        "views": [list(view) for view in VIEWS[name]],
        "models": [model_hash(study.pair.model(role, seed), study.root) for role, _ in VIEWS[name]],
        "texts": Corpus.of(study.pair, "mdm").described(),
        "training": asdict(settings(study)) | {"reused": REUSED, "memory": MEMORY},
    }


def views_of(study: Study, name: str, seed: int) -> list[View]:
    """Its models, in its order."""
    return [View(study.model(role, seed), masked) for role, masked in VIEWS[name]]


def held_out(study: Study, seed: int) -> list[Texts]:
    """Batches of texts on which dictionaries of a training are measured and none is trained."""
    arm = study.model("arm", seed)
    stream = drawn_texts(Corpus.of(study.pair, "mdm"), arm, seed, "report", TEXTS)
    return list(itertools.islice(stream, HELD_OUT))


def trained(study: Study, name: str, seed: int, start: int = 0) -> Dictionary:
    """Train a dictionary.

    Args:
        study: whose models.
        name: a key of :data:`VIEWS`.
        seed: training seed of the models.
        start: seed of its random start.
    """
    views, how = views_of(study, name, seed), replace(settings(study), seed=start)
    kept: set[Text] = {text for batch in held_out(study, seed) for text in batch.whole()}
    corpus = Corpus.of(study.pair, "mdm")
    texts = drawn_texts(corpus, views[0].model, seed, "train", TEXTS, kept)
    stream = rows(views, texts, layer_of(study))
    chunks = (chunk.cpu() for chunk in stream for _ in range(REUSED))
    # Never room for more than all steps need: the buffer is filled first.
    room = min(MEMORY, 4 * views[0].model.d_model * how.batch * max(how.steps, 2))
    batches = shuffled(chunks, how.batch, room * len(views), start)
    return train_dictionary(batches, how, identity(study, name, seed))


def ship(study: Study, name: str, seed: int) -> Path:
    """Train a dictionary and keep it where :func:`shipped` finds it; returns the file.

    Of some, what another random start gives is noted in it.
    """
    found = trained(study, name, seed)
    made = provenance(seed=seed, device=study.device, kind="dictionary", root=study.root)
    about = found.about | {"made": made}
    if name in AGAIN and seed == study.seed:
        about["again"] = agreement(study, name, seed, found, trained(study, name, seed, 1))
    return save_dictionary(path_of(study, name, seed), replace(found, about=about))


def agreement(
    study: Study, name: str, seed: int, one: Dictionary, other: Dictionary
) -> dict[str, Any]:
    """How far two dictionaries of the same models agree.

    Returns:
        ``matching`` (mean of the largest cosines of the first one's features with the second's),
        ``chance`` (the same with random features), ``relative`` (correlation of relative norms over
        matched features) and ``counts`` of the second (see
        :func:`mechshift_lib.semantics.dictionary_measures.counts`).
    """
    x = held_out_rows(study, name, seed)
    live = explained(one, x)[2] > 0
    mine = one.decoder[torch.from_numpy(live)]
    generator = torch.Generator().manual_seed(RESAMPLING_SEED)
    random = torch.randn(other.decoder.shape, generator=generator)
    flat = [d.flatten(1) / d.flatten(1).norm(dim=1, keepdim=True) for d in (mine, other.decoder)]
    best = (flat[0] @ flat[1].T).argmax(1)
    both = torch.stack([relative_norm(one)[torch.from_numpy(live)], relative_norm(other)[best]])
    return {
        "matching": matching(mine, other.decoder),
        "chance": matching(mine, random),
        "relative": float(torch.corrcoef(both)[0, 1]),
        "counts": counts(other, x),
    }


def held_out_rows(study: Study, name: str, seed: int) -> torch.Tensor:
    """Streams at the tokens of :func:`held_out`, ``[n, n_view, d_model]``."""
    views = views_of(study, name, seed)
    return torch.cat(list(rows(views, iter(held_out(study, seed)), layer_of(study)))).cpu()


def shipped(study: Study, name: str, seed: int) -> Dictionary | None:
    """The shipped dictionary; None where there is none of these weights and settings.

    Raises:
        ModelError: the file is damaged.
    """
    path = path_of(study, name, seed)
    if not path.is_file():
        return None
    found, own = load_dictionary(path), identity(study, name, seed)
    return found if {key: found.about.get(key) for key in own} == own else None


def dictionary_of(study: Study, name: str, seed: int) -> Dictionary:
    """A dictionary: shipped, or trained now; in half precision either way.

    One that is trained is kept among the results.

    Raises:
        ConfigError: there is no such dictionary.
    """
    if name not in names(study, seed):
        raise ConfigError(
            f"There is no dictionary {shown(name)} of training {seed}: choose from "
            f"{listed(names(study, seed))}."
        )
    if (found := shipped(study, name, seed)) is not None:
        return found
    about = identity(study, name, seed)

    def compute() -> Frames:
        made = trained(study, name, seed)
        return {x: pd.DataFrame({x: getattr(made, x).flatten().numpy()}) for x in TENSORS}

    key = study.key(VIEWS[name][-1][0], seed, "", CODE) | {"dictionary": about}
    frames = study.frames("dictionary", key, compute)
    how, n, width = settings(study), len(VIEWS[name]), study.model("arm", seed).d_model
    shapes: dict[str, tuple[int, ...]] = {"bias": (n, width), "mean": (n, width), "threshold": ()}
    shapes |= {"encoder": (n, width, how.features), "decoder": (how.features, n, width)}
    tensors = {
        x: torch.tensor(frames[x][x].to_numpy(dtype="float32")).reshape(shapes.get(x, (-1,)))
        for x in TENSORS
    }
    halves = {x: tensors[x].half().float() for x in ("encoder", "decoder")}
    return Dictionary(**tensors | halves, settings=how, about=about)
