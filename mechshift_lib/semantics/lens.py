"""Lenses: what the residual stream would say if the model stopped at a layer.

The logit lens (nostalgebraist 2020) reads a layer's stream by the model's own final norm and
unembedding. The tuned lens (Belrose et al. 2023, arXiv 2303.08112) puts an affine translator of
the layer in between, which undoes that layers write in bases of their own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mechshift_lib.circuits.questions.items import batches
from mechshift_lib.circuits.questions.reading import unembedded
from mechshift_lib.circuits.tracing.layers import INPUTS, run_layers
from mechshift_lib.errors import ModelError
from mechshift_lib.models.anatomy import at
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item
from mechshift_lib.results.atomic import write_atomic

#: How a layer is read: by its translator, by final norm and unembedding, by unembedding alone.
Read = Literal["tuned", "logit", "raw"]
#: Reads that need no training.
PLAIN: tuple[Read, ...] = ("logit", "raw")
#: Logits that are in memory at a time.
MOST = 2**22
COLUMNS = ("row", "at", "layer", "read", "rank", "probability", "distractor", "entropy", "kl")


@dataclass(frozen=True)
class TunedLens:
    """Affine translators of a model, one for the input of each layer.

    A stream x is read as x + W x + b, by final norm and unembedding. The final norm's own input has
    none, so that there the lens is the model.

    Attributes:
        weight: W of each layer, ``[n_layers, d_model, d_model]``; 0 is the logit lens.
        bias: b of each layer, ``[n_layers, d_model]``.
        about: of which model it is, how it was trained and what it reached; plain JSON.
    """

    weight: Tensor
    bias: Tensor
    about: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def identity(cls, model: LoadedModel) -> TunedLens:
        """Translators that change nothing, from which training starts."""
        n, d = model.n_layers, model.d_model
        return cls(
            torch.zeros(n, d, d, device=model.device), torch.zeros(n, d, device=model.device)
        )

    def translated(self, layer: int, stream: Tensor) -> Tensor:
        """Stream at the input of a layer, ``[..., d_model]``, in the basis of the last one."""
        if layer == len(self.weight):
            return stream
        return stream + stream @ self.weight[layer].T + self.bias[layer]


def lens_logits(
    model: LoadedModel, stream: Tensor, layer: int, read: Read, tuned: TunedLens | None = None
) -> Tensor:
    """Logits that a stream is read as, ``[..., vocab]``, float32.

    Args:
        model: a loaded model.
        stream: the input of a layer or, with ``layer`` = ``n_layers``, of the final norm,
            ``[..., d_model]``.
        layer: which.
        read: how. ``raw`` leaves the norm out, so that its scale means nothing, only its order.
        tuned: translators, for ``tuned``.

    Raises:
        ModelError: there is no such layer, or ``tuned`` has no translators for it.
    """
    if not 0 <= layer <= model.n_layers:
        raise ModelError(f"There is no layer {layer}: this model has 0 to {model.n_layers}.")
    if read == "raw":
        unembed = at(model.hf, model.anatomy.unembed)
        logits: Tensor = unembed(stream.to(unembed.weight.dtype))
        return logits.float()
    if read == "tuned":
        shape = (model.n_layers, model.d_model, model.d_model)
        if tuned is None or tuned.weight.shape != shape:
            raise ModelError("The tuned lens needs translators of this model: train some.")
        stream = tuned.translated(layer, stream.float())
    return unembedded(model, stream.float())


@torch.no_grad()
def read_answers(
    model: LoadedModel, items: Sequence[Item], tuned: TunedLens | None, batch_size: int
) -> pd.DataFrame:
    """What every layer says of the right answers, at the positions where the model is asked.

    Args:
        model: a loaded model.
        items: questions; their clean input is run.
        tuned: translators; ``None``: only the reads of :data:`PLAIN`.
        batch_size: inputs a pass.

    Returns:
        One row per item, read position, layer (``n_layers`` is the model's own output) and read:
        ``row, at`` (numbers of the item and of its read), ``layer, read, rank`` (wrong tokens that
        are more likely than the likeliest right one), ``probability`` (of all right tokens),
        ``distractor`` (of all wrong ones that the task names), ``entropy`` and ``kl`` (of the
        model's own output from what is read; both in nats).
    """
    reads: tuple[Read, ...] = PLAIN if tuned is None else ("tuned", *PLAIN)
    # 1. Streams where the model is asked
    number = {id(item): i for i, item in enumerate(items)}
    asked: list[tuple[int, int]] = []
    parts = []
    for batch in batches(items, batch_size):
        here = [(i, k) for i, item in enumerate(batch) for k in range(len(item.reads))]
        ids = torch.tensor([item.clean for item in batch], device=model.device)
        row = torch.tensor([i for i, _ in here], device=model.device)
        where = torch.tensor([batch[i].reads[k] for i, k in here], device=model.device)
        run = run_layers(model, ids, INPUTS)
        parts.append(torch.stack([stream[row, where] for stream in run.inputs]))
        asked += [(number[id(batch[i])], k) for i, k in here]
    if not asked:
        return pd.DataFrame(columns=list(COLUMNS))
    streams = torch.cat(parts, 1)  # [n_layers + 1, n, d_model]

    # 2. What every layer says there, of many at once: unembedding a few takes as long
    frames = []
    size = max(1, MOST // model.vocab_size)
    for start in range(0, len(asked), size):
        chunk, some = streams[:, start : start + size], asked[start : start + size]
        final = lens_logits(model, chunk[-1], model.n_layers, "logit").log_softmax(-1)
        right = _marked(final, [items[i].answers[k] for i, k in some])
        wrong = _marked(final, [items[i].distractors[k] for i, k in some])
        places = {"row": [i for i, _ in some], "at": [k for _, k in some]}
        for layer, stream in enumerate(chunk):
            for read in reads:
                logits = lens_logits(model, stream, layer, read, tuned)
                found = _measures(logits, final, right, wrong)
                frames.append(pd.DataFrame(places | {"layer": layer, "read": read} | found))
    table = pd.concat(frames, ignore_index=True)
    return table.sort_values(["row", "at", "layer"], kind="stable", ignore_index=True)


def _marked(like: Tensor, sets: Sequence[Sequence[int]]) -> Tensor:
    """Bool ``[n, vocab]``: which tokens each set has."""
    marked = torch.zeros_like(like, dtype=torch.bool)
    for row, ids in zip(marked, sets, strict=True):
        row[list(ids)] = True
    return marked


def _measures(logits: Tensor, final: Tensor, right: Tensor, wrong: Tensor) -> dict[str, Any]:
    """Rank, probabilities, entropy and distance to the final log-probabilities, each ``[n]``."""
    logs = logits.log_softmax(-1)
    shares = logs.exp()
    best = logits.masked_fill(~right, -torch.inf).amax(-1, keepdim=True)
    found = {
        "rank": ((logits > best) & ~right).sum(-1),
        "probability": (shares * right).sum(-1),
        "distractor": (shares * wrong).sum(-1),
        "entropy": -(shares * logs).sum(-1),
        "kl": (final.exp() * (final - logs)).sum(-1),
    }
    return {name: values.cpu().numpy() for name, values in found.items()}


@torch.no_grad()
def top_tokens(
    model: LoadedModel, ids: Sequence[int], read: Read, tuned: TunedLens | None
) -> tuple[Tensor, Tensor]:
    """Likeliest token at every layer and position of one input, and its probability.

    Returns:
        Both ``[n_layers + 1, pos]``; the last row is the model's own output, whatever the read.
    """
    run = run_layers(model, torch.tensor([list(ids)], device=model.device), INPUTS)
    tops = [
        lens_logits(model, x[0], k, read if k < model.n_layers else "logit", tuned)
        .softmax(-1)
        .max(-1)
        for k, x in enumerate(run.inputs)
    ]
    return torch.stack([t.indices.cpu() for t in tops]), torch.stack([t.values.cpu() for t in tops])


def save_lens(path: Path, lens: TunedLens) -> Path:
    """Write translators as safetensors in half precision, what they are of in the header."""
    tensors = {
        "weight": lens.weight.half().cpu().contiguous(),
        "bias": lens.bias.half().cpu().contiguous(),
    }
    header = {"about": json.dumps(lens.about, sort_keys=True)}
    return write_atomic(path, lambda temporary: save_file(tensors, temporary, header))


def load_lens(path: Path, device: torch.device | str = "cpu") -> TunedLens:
    """Read what :func:`save_lens` wrote, as float32.

    Raises:
        ModelError: the file is missing or damaged.
    """
    try:
        with safe_open(path, "pt", device=str(device)) as file:
            about = json.loads((file.metadata() or {})["about"])
            weight, bias = (file.get_tensor(name).float() for name in ("weight", "bias"))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ModelError(
            f"The lens {path.name} is missing or damaged: train it anew by `mechshift lens`."
        ) from error
    return TunedLens(weight, bias, about)
