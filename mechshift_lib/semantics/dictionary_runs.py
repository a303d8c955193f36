"""Runs in which a stream is what a dictionary makes of it: its reconstruction, or less a feature.

Both say whether a dictionary's features are ones that the model itself uses, which reconstruction
alone doesn't.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mechshift_lib.circuits.questions.items import batches
from mechshift_lib.circuits.tracing.resuming import run_from
from mechshift_lib.models.anatomy import at
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item
from mechshift_lib.semantics.dictionary import Dictionary
from mechshift_lib.semantics.views import Text, Texts, View, streams

Array = NDArray[np.float64]


@torch.no_grad()
def losses(
    views: Sequence[View], dictionary: Dictionary, texts: Iterable[Texts], layer: int, number: int
) -> tuple[Array, int]:
    """Cross-entropy of one model with its stream as it is, reconstructed, and at its mean.

    An ARM is asked for every token but the first, an MDM for those that are masked. The stream is
    replaced at every token but the first.

    Args:
        views: the dictionary's models, in its order.
        dictionary: an SAE or a crosscoder.
        texts: batches; at least one token of them has to be asked for.
        layer: whose input the dictionary is of.
        number: of the view whose model is run on; an MDM has to be shown masks.

    Returns:
        Mean cross-entropy in nats, ``[whole, reconstructed, mean]``, and the tokens it is over.
    """
    view, total, n = views[number], np.zeros(3), 0
    model, back = view.model, 1 - view.model.readout.read_position(1)
    for batch in texts:
        found, counted = streams(views, batch, layer), batch.counted
        own = found[:, :, number]
        made = dictionary.decode(dictionary.encode(found[counted]))[:, number]
        asked = batch.hidden if view.masked else counted
        row, token = asked.nonzero(as_tuple=True)
        for kind, value in enumerate((None, made, dictionary.mean[number])):
            stream = own.clone()
            if value is not None:
                stream[counted] = value
            final = _run(view, batch, layer, stream)[row, token - back]
            logs = _logits(model, final).log_softmax(-1)
            total[kind] -= float(logs.gather(-1, batch.ids[row, token][:, None]).sum())
        n += len(row)
    return total / n, n


def asked_texts(items: Sequence[Item], whole: Sequence[Text], mask_id: int) -> Texts:
    """Questions to an MDM as texts: what they mask is hidden.

    Args:
        items: questions of one length.
        whole: for each the text without masks.
        mask_id: the mask token.
    """
    ids = torch.tensor([list(text) for text in whole])
    hidden = torch.tensor([list(item.clean) for item in items]) == mask_id
    return Texts(ids, torch.ones_like(hidden), hidden)


@torch.no_grad()
def effects(
    views: Sequence[View],
    dictionary: Dictionary,
    layer: int,
    items: Sequence[Item],
    whole: Callable[[Item], Text],
    sets: Sequence[Sequence[int]],
    batch_size: int,
) -> Array:
    """The last view's answer without some features, against the answer with all.

    What features add to the stream of the last view's model is taken out at every token between
    the first one and the first mask; what the dictionary leaves unexplained stays. Behind a mask,
    an ARM beside it has seen what the mask hides, and features would bring that into the run.

    Args:
        views: the dictionary's models, in its order; the last is a masked MDM's.
        dictionary: its features.
        layer: whose input it is of.
        items: questions to that MDM.
        whole: the text of a question without masks.
        sets: features that are taken out together.
        batch_size: questions a pass.

    Returns:
        Mean logit of the answers minus that of the distractors, ``[1 + n_set, n_read]``; the first
        row has all features. Reads follow each other by length of their questions.
    """
    view, number = views[-1], len(views) - 1
    model, parts = view.model, []
    for batch in batches(items, batch_size):
        texts = asked_texts(batch, [whole(item) for item in batch], _mask_of(model))
        texts = Texts(*(x.to(model.device) for x in (texts.ids, texts.present, texts.hidden)))
        found = streams(views, texts, layer)
        counted = texts.counted & (texts.hidden.cumsum(1) == 0)
        features = dictionary.encode(found[counted])
        flat = [(i, k) for i, item in enumerate(batch) for k in range(len(item.reads))]
        row = torch.tensor([i for i, _ in flat], device=model.device)
        read = torch.tensor([batch[i].reads[k] for i, k in flat], device=model.device)
        here = []
        for chosen in ([], *sets):
            stream = found[:, :, number].clone()
            written = features[:, list(chosen)] @ dictionary.decoder[list(chosen), number]
            stream[counted] -= dictionary.scale[number] * written
            logits = _logits(model, _run(view, texts, layer, stream)[row, read])
            here.append(
                [
                    float(x[list(batch[i].answers[k])].mean())
                    - float(x[list(batch[i].distractors[k])].mean())
                    for x, (i, k) in zip(logits, flat, strict=True)
                ]
            )
        parts.append(np.array(here))
    return np.concatenate(parts, axis=1)


def _mask_of(model: LoadedModel) -> int:
    """The MDM's mask token; −1, which no token is, for an ARM."""
    return -1 if model.mask_id is None else model.mask_id


def _run(view: View, texts: Texts, layer: int, stream: Tensor) -> Tensor:
    """Output of the final norm, going on from a layer with a stream."""
    model = view.model
    dtype = next(model.hf.parameters()).dtype
    return run_from(model, view.shown(texts), layer, stream.to(dtype), texts.present.long())


def _logits(model: LoadedModel, final: Tensor) -> Tensor:
    """Logits in float32; the mask token is never predicted (SUBS)."""
    logits: Tensor = at(model.hf, model.anatomy.unembed)(final).float()
    if model.mask_id is not None:
        logits[..., model.mask_id] = -torch.inf
    return logits
