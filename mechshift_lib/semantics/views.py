"""The residual streams of several models at the same tokens of the same texts.

A text is shown to a model in one of two ways. *Whole*: as it is, to ARM and MDM alike, so that
what differs is the model. *Masked*: with masks, drawn as in the MDM's post-training, which is how
an MDM is used; the ARM has no mask token and is always shown the whole text, so that then what
differs is the model and what it sees. The first token is left out: no model ever predicts it.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mechshift_lib.circuits.tracing.layers import stream_before
from mechshift_lib.diffusion.corpus import draw_batch
from mechshift_lib.diffusion.schedule import draw_masks
from mechshift_lib.errors import ModelError
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.semantics.lens_training import Corpus

Text = tuple[int, ...]


@dataclass(frozen=True)
class View:
    """A model, and how it is shown texts.

    Attributes:
        model: a loaded model.
        masked: with masks, or whole.
    """

    model: LoadedModel
    masked: bool = False

    def shown(self, texts: Texts) -> Tensor:
        """Input ids, ``[batch, pos]``.

        Raises:
            ModelError: masks are asked of a model that has none.
        """
        if not self.masked:
            return texts.ids
        if self.model.mask_id is None:
            raise ModelError("An ARM has no mask token: show it whole texts.")
        return texts.ids.masked_fill(texts.hidden, self.model.mask_id)


@dataclass(frozen=True)
class Texts:
    """Texts of a batch, padded on the right.

    Attributes:
        ids: ``[batch, pos]``.
        present: False at padding.
        hidden: tokens that are masked where a view has masks.
    """

    ids: Tensor
    present: Tensor
    hidden: Tensor

    @property
    def counted(self) -> Tensor:
        """Tokens whose streams count: all but the first of each text, bool ``[batch, pos]``."""
        counted = self.present.clone()
        counted[:, 0] = False
        return counted

    def whole(self) -> list[Text]:
        """Each text's token ids."""
        return [
            tuple(t[p].tolist()) for t, p in zip(self.ids.cpu(), self.present.cpu(), strict=True)
        ]


def drawn_texts(
    corpus: Corpus,
    model: LoadedModel,
    seed: int,
    part: str,
    texts: int,
    others: Collection[Text] = (),
) -> Iterator[Texts]:
    """Batches of texts of a corpus, without end, the same for all models of a training.

    Args:
        corpus: the MDM's, which says how masks are drawn.
        model: whose tokenizer and device are used.
        seed: training seed.
        part: what they are for, such as ``train``: other parts draw other texts.
        texts: texts a batch.
        others: texts that are left out.
    """
    name = f"dictionary-{part}"
    for step in itertools.count():
        key = (seed, name, step)
        batch = draw_batch(corpus.draws, corpus.mix, model.tokenizer, texts, key)
        rng = np.random.default_rng([seed, *name.encode(), step])
        hidden, _ = draw_masks(corpus.maskable(batch, rng), rng)
        found = Texts(
            *(torch.from_numpy(x).to(model.device) for x in (batch.ids, batch.present, hidden))
        )
        kept = [text not in others for text in found.whole()]
        if any(kept):
            rows = torch.tensor(kept, device=model.device)
            yield Texts(found.ids[rows], found.present[rows], found.hidden[rows])


def streams(views: Sequence[View], texts: Texts, layer: int) -> Tensor:
    """The stream at a layer's input in each view, ``[batch, pos, n_view, d_model]``, float32.

    Raises:
        ModelError: a model has no such layer.
    """
    mask = texts.present.long()
    found = []
    for view in views:
        if not 0 <= layer < view.model.n_layers:
            raise ModelError(
                f"There is no layer {layer}: this model has 0 to {view.model.n_layers - 1}."
            )
        found.append(stream_before(view.model, view.shown(texts), layer, mask).float())
    return torch.stack(found, 2)


def rows(views: Sequence[View], texts: Iterator[Texts], layer: int) -> Iterator[Tensor]:
    """Streams at the tokens that count, batch after batch, ``[n, n_view, d_model]``."""
    for batch in texts:
        yield streams(views, batch, layer)[batch.counted]
