"""Dictionaries: an activation as a sparse sum of features, of one model (SAE) or several at once.

A crosscoder (Lindsey et al. 2024, "Sparse Crosscoders") reads the activations of several models at
the same token and has one encoder and, per feature, one decoder vector a model. A sparse
autoencoder is the case of one model. Activations are centred and scaled per model first, so that
models of different scale count alike.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from mechshift_lib.errors import ModelError
from mechshift_lib.results.atomic import write_atomic

TENSORS = ("encoder", "encoder_bias", "decoder", "bias", "mean", "scale", "threshold")


@dataclass(frozen=True)
class Settings:
    """How a dictionary is trained.

    Attributes:
        features: number of features.
        k: features that are active at a token, on average over a batch.
        steps: steps of Adam.
        batch: tokens a step.
        lr: learning rate, falling to 0 over the last fifth.
        seed: seed of the initial weights and of the order of tokens.
    """

    features: int
    k: int = 16
    steps: int = 400
    batch: int = 1024
    lr: float = 3e-3
    seed: int = 0


@dataclass(frozen=True)
class Dictionary:
    """A trained SAE (one model) or crosscoder (several).

    Attributes:
        encoder: ``[n_model, d_model, n_feature]``.
        encoder_bias: ``[n_feature]``.
        decoder: ``[n_feature, n_model, d_model]``; each feature's vectors together have norm 1.
        bias: ``[n_model, d_model]``.
        mean: what is taken off the activations first, ``[n_model, d_model]``.
        scale: what they are then divided by, ``[n_model]``.
        threshold: activations up to here count as 0, ``[]``.
        settings: how it was trained.
        about: of which models and layer it is; plain JSON.
    """

    encoder: Tensor
    encoder_bias: Tensor
    decoder: Tensor
    bias: Tensor
    mean: Tensor
    scale: Tensor
    threshold: Tensor
    settings: Settings
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def n_models(self) -> int:
        """1 for an SAE."""
        return int(self.decoder.shape[1])

    @property
    def n_features(self) -> int:
        """Number of features."""
        return int(self.decoder.shape[0])

    def normalised(self, x: Tensor) -> Tensor:
        """Activations ``[..., n_model, d_model]`` centred and scaled."""
        return (x.float() - self.mean) / self.scale[:, None]

    def encode(self, x: Tensor) -> Tensor:
        """Features ``[n, n_feature]``, none negative, of activations ``[n, n_model, d_model]``.

        Raises:
            ModelError: the activations are of another number of models or width.
        """
        if x.shape[1:] != self.mean.shape:
            n, d = self.mean.shape
            raise ModelError(
                f"This dictionary is of {n} model(s) of width {d}, the activations of "
                f"{x.shape[1]} of width {x.shape[2]}: use the one trained on these models."
            )
        before = raw_features(self.normalised(x), self.encoder, self.encoder_bias, self.bias)
        return before * (before > self.threshold)

    def decode(self, features: Tensor) -> Tensor:
        """Activations ``[n, n_model, d_model]`` that features ``[n, n_feature]`` stand for."""
        found = (features @ self.decoder.flatten(1)).unflatten(1, self.mean.shape) + self.bias
        return found * self.scale[:, None] + self.mean

    def norms(self) -> Tensor:
        """Norm of each feature's decoder vector in each model, ``[n_feature, n_model]``."""
        return self.decoder.norm(dim=2)


def raw_features(x: Tensor, encoder: Tensor, encoder_bias: Tensor, bias: Tensor) -> Tensor:
    """ReLU of the encoder's output ``[n, n_feature]``, before any feature is dropped."""
    return torch.relu((x - bias).flatten(1) @ encoder.flatten(0, 1) + encoder_bias)


def relative_norm(dictionary: Dictionary) -> Tensor:
    """Second model's share of each feature's decoder norms, ``[n_feature]``.

    0 = the feature writes only to the first model, 0.5 = to both alike, 1 = only to the second.

    Raises:
        ModelError: the dictionary isn't a crosscoder of two models.
    """
    if dictionary.n_models != 2:
        raise ModelError("Relative norms compare two models: use a crosscoder of two.")
    norms = dictionary.norms()
    return norms[:, 1] / norms.sum(1).clamp(min=1e-12)


def save_dictionary(path: Path, dictionary: Dictionary) -> Path:
    """Write a dictionary as safetensors, weights in float16, its configuration in the header."""
    tensors = {name: getattr(dictionary, name).contiguous().clone() for name in TENSORS}
    for name in ("encoder", "decoder"):
        tensors[name] = tensors[name].half()
    header = {
        "settings": json.dumps(asdict(dictionary.settings), sort_keys=True),
        "about": json.dumps(dictionary.about, sort_keys=True),
    }
    return write_atomic(path, lambda temporary: save_file(tensors, temporary, header))


def load_dictionary(path: Path, models: list[str] | None = None) -> Dictionary:
    """Read what :func:`save_dictionary` wrote, as float32.

    Args:
        path: the file.
        models: hashes of the models that it has to be of, in order; ``None``: any.

    Raises:
        ModelError: the file is missing, damaged or of other models.
    """
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata()
        tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
        settings, about = Settings(**json.loads(header["settings"])), json.loads(header["about"])
        found = Dictionary(**tensors, settings=settings, about=about)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"The dictionary {path.name} is missing or damaged: train it anew by `mechshift "
            "dictionaries`."
        ) from error
    if models is not None and found.about.get("models") != models:
        raise ModelError(
            f"The dictionary {path.name} is of other models than these: train it anew by "
            "`mechshift dictionaries`."
        )
    return found
