"""Accuracy on held-out examples and the mask-prediction loss, as training logs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
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
