"""Training of tuned lenses on a stream of the pair's own texts, and what they reach on others.

Each layer's translator is trained to give the model's own output distribution
(Belrose et al. 2023, arXiv 2303.08112, eq. 8): no label is needed. Texts are drawn as for the
model's training, batch by batch, and nothing is kept. A translator is used only where it comes
closer to the output than the logit lens does on texts that it wasn't trained on; how close all that
comes is measured on texts that were neither trained on nor chosen by.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mechshift_lib.circuits.questions.reading import unembedded
from mechshift_lib.circuits.tracing.layers import INPUTS, run_layers
from mechshift_lib.config import Pair
from mechshift_lib.diffusion.corpus import Batch, Draw, draw_batch, draws_of
from mechshift_lib.diffusion.recipe import Diffusion, recipe_of
from mechshift_lib.diffusion.schedule import apply_masks, draw_masks
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.semantics.lens import TunedLens

#: Parts of the stream: what is trained on, chosen by, and measured on.
PARTS = ("train", "choose", "report")


@dataclass(frozen=True)
class LensSettings:
    """How a tuned lens is trained.

    Attributes:
        steps: steps of Adam.
        texts: texts a step.
        lr: learning rate, falling to 0 in a straight line.
        held_out: batches of texts that translators are chosen by, and as many to measure them on.
    """

    steps: int = 100
    texts: int = 48
    lr: float = 4e-3
    held_out: int = 6


@dataclass(frozen=True)
class Corpus:
    """Texts as a model was trained on them.

    Attributes:
        draws: how to draw a text of each kind.
        mix: relative number of each kind.
        diffusion: how an MDM's were masked; None where the pair's file doesn't say.
    """

    draws: Mapping[str, Draw]
    mix: Mapping[str, float]
    diffusion: Diffusion | None

    @classmethod
    def of(cls, pair: Pair, role: str) -> Corpus:
        """The corpus of a model of a pair; of a pair made elsewhere the texts of its tasks."""
        if not pair.training:
            mix = dict.fromkeys(pair.tasks, 1.0)
            return cls(draws_of(pair, mix), mix, None)
        recipe = recipe_of(pair)
        # Texts that ship with no checkout are left out.
        mix = {n: weight for n, weight in recipe.mix.items() if n not in ("general", "corpus")}
        return cls(draws_of(pair, mix), mix, recipe.diffusion_of(role))

    def described(self) -> dict[str, Any]:
        """What is drawn and how it is masked, as plain JSON."""
        how = None if self.diffusion is None else self.diffusion.model_dump()
        return {"mix": dict(self.mix), "diffusion": how}

    def maskable(self, batch: Batch, rng: np.random.Generator) -> np.ndarray:
        """Tokens of an MDM's texts that may be masked, bool ``[batch, pos]``."""
        if self.diffusion is None:
            return batch.answer
        may = batch.maskable(self.diffusion.masked)
        whole = rng.random(len(may)) >= self.diffusion.answers_only
        return np.where(whole[:, None], may, batch.answer)


def streamed(
    model: LoadedModel,
    corpus: Corpus,
    seed: int,
    part: str,
    texts: int,
    others: Collection[tuple[int, ...]] = (),
    drawn: set[tuple[int, ...]] | None = None,
) -> Iterator[Tensor]:
    """Residual streams where the model predicts a token, batch after batch without end.

    All models of a training are given the same texts.

    Args:
        model: a loaded model; an MDM is given masks, and read where it fills them.
        corpus: its texts.
        seed: training seed of the model.
        part: one of :data:`PARTS`.
        texts: texts a batch.
        others: texts that are left out.
        drawn: set that texts are noted in.

    Yields:
        ``[n_layers + 1, n, d_model]``, float32: inputs of the layers and of the final norm.
    """
    back = 1 - model.readout.read_position(1)  # token i is read one position before it, or in place
    for step in itertools.count():
        # 1. Texts, and the tokens that the model is asked for
        key = (seed, f"lens-{part}", step)
        batch = draw_batch(corpus.draws, corpus.mix, model.tokenizer, texts, key)
        rng = np.random.default_rng([seed, PARTS.index(part), step])
        ids, asked = batch.ids, batch.present.copy()
        asked[:, 0] = False  # nothing predicts the first
        if model.mask_id is not None:
            asked, _ = draw_masks(corpus.maskable(batch, rng), rng)
            ids = apply_masks(ids, asked, model.mask_id)
        whole = [tuple(t[p].tolist()) for t, p in zip(batch.ids, batch.present, strict=True)]
        asked &= np.array([text not in others for text in whole])[:, None]
        if drawn is not None:
            drawn.update(whole)
        # 2. The stream where they are read
        given, mask, rows, tokens = (
            torch.from_numpy(x).to(model.device)
            for x in (ids, batch.present.astype(np.int64), *np.nonzero(asked))
        )
        run = run_layers(model, given, INPUTS, mask=mask)
        yield torch.stack([stream[rows, tokens - back].float() for stream in run.inputs])


def divergences(model: LoadedModel, streams: Tensor, lens: TunedLens) -> Tensor:
    """KL of the model's own output from each layer's reading, ``[n_layers, n]``, in nats.

    Args:
        model: a loaded model.
        streams: ``[n_layers + 1, n, d_model]``.
        lens: translators.
    """
    own = unembedded(model, streams[-1]).log_softmax(-1)
    x = streams[:-1]
    read = unembedded(model, x + x @ lens.weight.mT + lens.bias[:, None]).log_softmax(-1)
    return (own.exp() * (own - read)).sum(-1)


def train_lens(
    model: LoadedModel,
    pair: Pair,
    role: str,
    seed: int,
    settings: LensSettings,
    about: Mapping[str, Any] | None = None,
) -> TunedLens:
    """Train the translators of a model, and keep those that help.

    The same arguments give the same bits on one machine.

    Args:
        model: a loaded model of the pair, with a tokenizer.
        pair: whose texts are drawn.
        role: which of its models it is.
        seed: training seed of the model; decides the texts too.
        settings: how.
        about: goes with the lens.

    Returns:
        The lens; ``about`` has ``settings`` and ``layers``: for each layer whether its translator
        is ``used``, and the mean KL of logit and of tuned lens, ``chosen_logit, chosen_tuned``
        (the trained one, on the texts that it is chosen by) and ``logit, tuned`` (what is used, on
        texts of no other part), over ``n_chosen`` and ``n`` tokens.
    """
    corpus = Corpus.of(pair, role)
    start = TunedLens.identity(model)
    lens = TunedLens(start.weight.clone(), start.bias.clone())
    parameters = [tensor.requires_grad_(True) for tensor in (lens.weight, lens.bias)]
    optimiser = torch.optim.Adam(parameters, lr=settings.lr)
    known: set[tuple[int, ...]] = set()
    stream = streamed(model, corpus, seed, "train", settings.texts, drawn=known)
    for step in range(settings.steps):
        optimiser.param_groups[0]["lr"] = settings.lr * (1 - step / settings.steps)
        loss = divergences(model, next(stream), lens).mean(1).sum()  # layers don't meet
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    # As it is kept, so that what is chosen and measured is what is used later.
    weight, bias = (tensor.detach().half().float() for tensor in parameters)
    trained = TunedLens(weight, bias)

    (before, after), n_chosen = _held_out(model, corpus, seed, "choose", settings, known, trained)
    used = (after < before).to(model.device)
    kept = TunedLens(
        weight.masked_fill(~used[:, None, None], 0), bias.masked_fill(~used[:, None], 0)
    )
    (logit, tuned), n = _held_out(model, corpus, seed, "report", settings, known, kept)
    layers = [
        {"layer": k, "used": bool(used[k])}
        | {"chosen_logit": float(before[k]), "chosen_tuned": float(after[k])}
        | {"logit": float(logit[k]), "tuned": float(tuned[k])}
        for k in range(model.n_layers)
    ]
    record = {"settings": asdict(settings), "layers": layers, "n_chosen": n_chosen, "n": n}
    return TunedLens(kept.weight, kept.bias, dict(about or {}) | record)


@torch.no_grad()
def _held_out(
    model: LoadedModel,
    corpus: Corpus,
    seed: int,
    part: str,
    settings: LensSettings,
    known: set[tuple[int, ...]],
    lens: TunedLens,
) -> tuple[Tensor, int]:
    """Mean KL of logit and tuned lens on a part, ``[2, n_layers]``, and the number of tokens.

    Texts that are ``known`` are left out, and those of this part are known afterwards. Where
    nothing is left, the means are 0, so that no translator is used.
    """
    lenses = (TunedLens.identity(model), lens)
    total, n = torch.zeros(2, model.n_layers, dtype=torch.float64), 0
    drawn: set[tuple[int, ...]] = set()
    stream = streamed(model, corpus, seed, part, settings.texts, known, drawn)
    for streams in itertools.islice(stream, settings.held_out):
        n += streams.shape[1]
        total += torch.stack([divergences(model, streams, x).sum(1).cpu() for x in lenses])
    known |= drawn
    return total / max(n, 1), n
