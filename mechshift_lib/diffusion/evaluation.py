"""Accuracy on held-out examples and the mask-prediction loss, as training logs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mechshift_lib.config import Pair
from mechshift_lib.diffusion.objective import annealed_attention
from mechshift_lib.diffusion.recipe import Masked
from mechshift_lib.diffusion.samplers import Asked, Reading, denoise, generate_arm
from mechshift_lib.models.weights import home_of
from mechshift_lib.tasks import Example, pair_task
from mechshift_lib.tasks.base import Tokenizer

#: Seed of the held-out examples that training logs are evaluated on.
EVAL_SEED = 90_001
#: Tokens of each held-out general text that are blanked, one at a time.
BLANKS = 4
#: Rows that general texts are asked in at once.
ROWS = 32
#: Edges of the bins of the mask ratio in which the mask-prediction loss is logged.
RATIO_BINS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class _Shifted:
    def read_position(self, token_index: int) -> int:
        return token_index - 1


@dataclass(frozen=True)
class InTraining:
    """A Hugging Face model asked while it is being trained.

    Attributes:
        hf: the model.
        mask_id: id of the mask token; None is an ARM.
        openness: 1 is full attention and 0 causal, for an MDM.
    """

    hf: torch.nn.Module
    mask_id: int | None
    openness: float = 1.0
    readout: Reading = _Shifted()

    def logits(self, ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Logits ``[batch, pos, vocabulary]``."""
        ids = ids.to(home_of(self.hf))
        mask = None
        if self.mask_id is not None:
            mask = annealed_attention(torch.ones_like(ids, dtype=torch.bool), self.openness)
        with torch.no_grad():
            out = self.hf(input_ids=ids, attention_mask=mask, use_cache=False)
        return out.logits  # type: ignore[no-any-return]


def held_out_examples(pair: Pair, tokenizer: Tokenizer, n: int) -> dict[str, list[Example]]:
    """The same ``n`` held-out examples of each of the pair's tasks, every time."""
    return {name: pair_task(pair, name).examples(tokenizer, n, EVAL_SEED) for name in pair.tasks}


def accuracies(
    pair: Pair, model: Asked, examples: Mapping[str, Sequence[Example]], tokenizer: Tokenizer
) -> dict[str, float]:
    """Share of right answers: greedy for an ARM, ``maskgit_plus`` for an MDM."""
    result: dict[str, float] = {}
    for name, drawn in examples.items():
        prompts, lengths = [e.clean for e in drawn], [len(e.answer) for e in drawn]
        if model.mask_id is None:
            answers = generate_arm(model, prompts, lengths, 128)
        else:
            found = denoise(model, prompts, lengths, order="maskgit_plus", batch_size=128)
            answers = [one.tokens for one in found]
        task = pair_task(pair, name)
        right = [task.score(e, a, tokenizer) for e, a in zip(drawn, answers, strict=True)]
        result[name] = sum(right) / len(right)
    return result


def mask_losses(
    model: Asked,
    examples: Mapping[str, Sequence[Example]],
    masked_part: Masked = "answers",
    draws: int = 2,
) -> list[float | None]:
    """Mean cross-entropy of masked tokens of held-out examples, by bin of the mask ratio.

    Each answer token, or each token of prompt and answer but the first, is masked with a
    probability drawn within the bin; the draws are the same every time. A bin without a masked
    token gives None.
    """
    assert model.mask_id is not None
    losses: list[float | None] = []
    for low, high in pairwise(RATIO_BINS):
        rng = np.random.default_rng([EVAL_SEED, int(100 * low)])
        total, count = 0.0, 0
        for drawn in examples.values():
            by_shape: dict[tuple[int, int], list[Example]] = {}
            for example in drawn:
                by_shape.setdefault((len(example.clean), len(example.answer)), []).append(example)
            for (n_prompt, n), members in sorted(by_shape.items()):
                ids = torch.tensor([[*e.clean, *e.answer] for e in members]).repeat(draws, 1)
                first = n_prompt if masked_part == "answers" else 1
                ratio = low + (high - low) * rng.random((len(ids), 1))
                masked = torch.tensor(rng.random((len(ids), n_prompt + n - first)) < ratio)
                noised = ids.clone()
                noised[:, first:][masked] = model.mask_id
                logits = model.logits(noised)[:, first - 1 : -1].float().cpu()
                ce = F.cross_entropy(logits[masked], ids[:, first:][masked], reduction="sum")
                total, count = total + float(ce), count + int(masked.sum())
        losses.append(total / count if count else None)
    return losses


def general_text(model: Asked, texts: Sequence[Sequence[int]]) -> dict[str, Any]:
    """How well a model predicts tokens of general texts that it wasn't trained on.

    Args:
        model: an ARM or an MDM.
        texts: ids of each text, of at least two tokens.

    Returns:
        Nothing without texts. Of an ARM ``general_next``, the mean cross-entropy of the next
        token. Of an MDM, by bin of the mask ratio, ``general_loss``, the mean cross-entropy of
        masked tokens, and ``general_right``, the share of them whose likeliest token is right; and
        ``general_infilling``, that share where a single token is blanked.
    """
    if not texts:
        return {}
    if model.mask_id is None:
        later = [np.arange(len(ids)) > 0 for ids in texts]
        return {"general_next": _predicted(model, texts, later, hide=False)[0]}
    losses, shares = [], []
    for low, high in pairwise(RATIO_BINS):
        rng = np.random.default_rng([EVAL_SEED, int(100 * low)])
        masked = [_masked(rng, len(ids), low, high) for ids in texts]
        loss, right = _predicted(model, texts, masked)
        losses.append(loss)
        shares.append(right)
    rng = np.random.default_rng(EVAL_SEED)
    repeated = [ids for ids in texts for _ in range(BLANKS)]
    single = [np.arange(len(ids)) == rng.integers(1, len(ids)) for ids in repeated]
    infilling = _predicted(model, repeated, single)[1]
    return {"general_loss": losses, "general_right": shares, "general_infilling": infilling}


def _masked(rng: np.random.Generator, n: int, low: float, high: float) -> NDArray[np.bool_]:
    """Where a text of ``n`` tokens is masked at a ratio drawn from a bin; never at its first."""
    ratio = low + (high - low) * rng.random()
    return np.asarray((rng.random(n) < ratio) & (np.arange(n) > 0))


def _predicted(
    model: Asked,
    texts: Sequence[Sequence[int]],
    asked: Sequence[NDArray[np.bool_]],
    hide: bool = True,
) -> tuple[float | None, float | None]:
    """Mean cross-entropy and share of right tokens where ``asked``, masked there if ``hide``.

    Texts of one length are asked together: none is padded. None where nothing is asked.
    """
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    total, right, count = 0.0, 0, 0
    for _, group in groupby(order, key=lambda i: len(texts[i])):
        alike = list(group)
        for members in (alike[i : i + ROWS] for i in range(0, len(alike), ROWS)):
            ids = torch.tensor([list(texts[i]) for i in members])
            where = torch.from_numpy(np.stack([asked[i] for i in members]))
            noised = ids.clone()
            if hide:
                assert model.mask_id is not None
                noised[where] = model.mask_id
            logits = model.logits(noised)[:, :-1].cpu()[where[:, 1:]].float()
            wanted = ids[:, 1:][where[:, 1:]]
            total += float(F.cross_entropy(logits, wanted, reduction="sum"))
            right += int((logits.argmax(-1) == wanted).sum())
            count += len(wanted)
    return (total / count, right / count) if count else (None, None)
