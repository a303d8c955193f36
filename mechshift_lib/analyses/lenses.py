"""Tuned lenses of a pair's models: those that ship, or trained where a model has none.

``data/lenses/PAIR/seedS/MODEL.safetensors`` holds a model's translators, with what was trained on
which weights. A file is used only where both are what is asked now; the code that trained it is
noted, not compared: a test measures every lens anew.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mechshift_lib.analyses.study import Study
from mechshift_lib.results.provenance import model_hash, provenance
from mechshift_lib.semantics.lens import TunedLens, load_lens, save_lens
from mechshift_lib.semantics.lens_training import Corpus, LensSettings, train_lens

#: Bytes that the translators of a model may have in half precision: a repository with five
#: trainings of every model has to stay small.
LARGEST = 2**20
CODE = ("diffusion", "semantics/lens", "semantics/lens_training", "analyses/lenses")


def settings(study: Study) -> LensSettings:
    """How lenses of a study are trained."""
    return LensSettings(steps=study.budget.lens_steps)


def fits(study: Study) -> bool:
    """Whether the pair's models, which all have the ARM's shape, are small enough for a lens."""
    model = study.model("arm", study.seed)
    return 2 * model.n_layers * model.d_model * (model.d_model + 1) <= LARGEST


def path_of(study: Study, role: str, seed: int) -> Path:
    """Where the lens of a model is shipped."""
    folder = study.root / "data" / "lenses" / study.pair.name / f"seed{seed}"
    return folder / f"{role}.safetensors"


def identity(study: Study, role: str, seed: int) -> dict[str, Any]:
    """What a lens is of: the model's weights, the texts and the settings."""
    return {
        "pair": study.pair.name,
        "role": role,
        "seed": seed,
        "model": model_hash(study.pair.model(role, seed), study.root),
        "texts": Corpus.of(study.pair, role).described(),
        "settings": asdict(settings(study)),
    }


def shipped(study: Study, role: str, seed: int) -> TunedLens | None:
    """The shipped lens of a model; None where there is none of these weights.

    Raises:
        ModelError: the file is damaged.
    """
    path = path_of(study, role, seed)
    if not path.is_file():
        return None
    lens = load_lens(path, study.device)
    own = identity(study, role, seed)
    return lens if {name: lens.about.get(name) for name in own} == own else None


def trained(study: Study, role: str, seed: int) -> TunedLens:
    """Train the lens of a model."""
    about = identity(study, role, seed)
    return train_lens(study.model(role, seed), study.pair, role, seed, settings(study), about)


def ship(study: Study, role: str, seed: int) -> Path:
    """Train the lens of a model and keep it where :func:`shipped` finds it; returns the file."""
    lens = trained(study, role, seed)
    made = provenance(seed=seed, device=study.device, kind="tuned lens", root=study.root)
    kept = TunedLens(lens.weight, lens.bias, lens.about | {"made": made})
    return save_lens(path_of(study, role, seed), kept)


def lens_of(study: Study, role: str, seed: int) -> TunedLens | None:
    """The tuned lens of a model: shipped, or trained now and kept among the results.

    None where the model is too large for one (:func:`fits`).
    """
    if (found := shipped(study, role, seed)) is not None or not fits(study):
        return found

    def compute() -> dict[str, pd.DataFrame]:
        lens = trained(study, role, seed)
        rows = torch.cat([lens.weight, lens.bias[:, None]], 1).flatten(0, 1).cpu().numpy()
        about = pd.DataFrame({"about": [json.dumps(lens.about)]})
        columns = [str(i) for i in range(rows.shape[1])]
        return {"translators": pd.DataFrame(rows, columns=columns), "about": about}

    key = study.key(role, seed, "", CODE) | {"lens": identity(study, role, seed)}
    frames = study.frames("lens", key, compute)
    rows = torch.tensor(frames["translators"].to_numpy(dtype="float32"), device=study.device)
    both = rows.unflatten(0, (-1, rows.shape[1] + 1))  # of each layer: weight, then bias
    return TunedLens(both[:, :-1], both[:, -1], json.loads(frames["about"].about[0]))
