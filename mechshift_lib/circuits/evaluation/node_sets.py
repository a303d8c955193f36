"""Answers that a model writes itself while sets of nodes write something else.

The whole answer is generated: token after token by an ARM, step after step in its own order by an
MDM, so that one wrong token spoils the next. Replacing what a node writes equals cutting all edges
that leave it (:func:`mechshift_lib.circuits.evaluation.runs.run_circuits`), but needs one ordinary
forward pass a token.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mechshift_lib.circuits.evaluation.ablation import Reference
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.questions.reading import unembedded
from mechshift_lib.circuits.tracing.interventions import replaced_run
from mechshift_lib.circuits.tracing.layers import run_layers
from mechshift_lib.diffusion.samplers import Asked, OrderName, denoise, generate_arm
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Readout

Answers = list[tuple[int, ...]]
#: Tokens of an input and masks in it: inputs of one key are of the same step of an answer.
Key = tuple[int, int]


@dataclass(frozen=True)
class Intact:
    """What a model answers with all of its nodes.

    Attributes:
        answers: one answer a prompt, ``[n_answer]`` each.
        means: what every node writes at each position, a mean over the inputs of each key.
    """

    answers: Answers
    means: Mapping[Key, Reference]


@torch.no_grad()
def intact_answers(
    model: LoadedModel,
    prompts: Sequence[Sequence[int]],
    n_answer: Sequence[int],
    *,
    order: OrderName = "maskgit_plus",
    batch_size: int = 64,
) -> Intact:
    """Generate, and note what nodes write meanwhile.

    Args:
        model: a loaded model.
        prompts: token ids, of any lengths.
        n_answer: number of tokens of each answer.
        order: which positions an MDM reveals first; an ARM writes from the left.
        batch_size: prompts a forward pass.
    """
    noted = _Noted(model)
    answers = _generated(noted, prompts, n_answer, order, batch_size)
    return Intact(answers, {key: noted.mean(key) for key in noted.total})


@torch.no_grad()
def answers_without(
    model: LoadedModel,
    prompts: Sequence[Sequence[int]],
    n_answer: Sequence[int],
    without: Sequence[Collection[str]],
    *,
    means: Mapping[Key, Reference] | None = None,
    order: OrderName = "maskgit_plus",
    batch_size: int = 64,
) -> Answers:
    """Generate while some nodes write something else, other ones for each prompt.

    Args:
        model: a loaded model.
        prompts: token ids, of any lengths.
        n_answer: number of tokens of each answer.
        without: for each prompt names of sources, such as ``["a0.h1", "m2"]``.
        means: what these nodes write instead, of :func:`intact_answers` on prompts of the same
            lengths; zeros without.
        order: which positions an MDM reveals first.
        batch_size: prompts a forward pass.

    Returns:
        One answer a prompt, ``[n_answer]`` each.

    Raises:
        CircuitError: a node is unknown or writes nothing (``logits``), there are not as many sets
            as prompts, or there are no means for an input.
    """
    if len(without) != len(prompts):
        raise CircuitError(f"{len(prompts)} prompts have {len(without)} sets of nodes.")
    groups: dict[frozenset[str], list[int]] = defaultdict(list)
    for index, nodes in enumerate(without):
        groups[frozenset(nodes)].append(index)
    answers: Answers = [()] * len(prompts)
    for nodes, some in groups.items():
        asked = _Without(model, _cut(model, nodes), means)
        made = _generated(
            asked, [prompts[i] for i in some], [n_answer[i] for i in some], order, batch_size
        )
        for i, answer in zip(some, made, strict=True):
            answers[i] = answer
    return answers


def _generated(
    model: Asked,
    prompts: Sequence[Sequence[int]],
    n_answer: Sequence[int],
    order: OrderName,
    batch_size: int,
) -> Answers:
    if model.mask_id is None:
        return generate_arm(model, prompts, n_answer, batch_size)
    found = denoise(model, prompts, n_answer, order=order, batch_size=batch_size)
    return [one.tokens for one in found]


def _cut(model: LoadedModel, nodes: Collection[str]) -> Tensor:
    """Which sources a set holds, ``[n_source]``."""
    sources = Graph.for_model(model).sources
    for name in nodes:
        if name not in sources:
            raise CircuitError(
                f"Unknown node {name!r}: nodes that can be ablated are 'input', heads such as "
                f"'a0.h0' and MLPs such as 'm0', up to {sources[-1]!r}."
            )
    return torch.tensor([name in nodes for name in sources], device=model.device)


@dataclass(frozen=True)
class _Own:
    """A model that can be asked to generate."""

    model: LoadedModel

    @property
    def readout(self) -> Readout:
        return self.model.readout

    @property
    def mask_id(self) -> int | None:
        return self.model.mask_id

    def key(self, ids: Tensor) -> Key:
        """Denoising reveals as many tokens of every canvas, so one row speaks for all."""
        return ids.shape[1], int((ids[0] == self.mask_id).sum()) if self.mask_id is not None else 0


@dataclass(frozen=True)
class _Noted(_Own):
    """The model as it is; what its nodes write is added up."""

    total: dict[Key, Reference] = field(default_factory=dict)
    n: dict[Key, int] = field(default_factory=dict)

    def logits(self, ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        run, key = run_layers(self.model, ids.to(self.model.device)), self.key(ids)
        part = Reference.of(run).map(lambda x: x.sum(0, keepdim=True))
        self.total[key] = self.total[key].plus(part) if key in self.total else part
        self.n[key] = self.n.get(key, 0) + len(ids)
        return unembedded(self.model, run.final_in)

    def mean(self, key: Key) -> Reference:
        return self.total[key].map(lambda x: x / self.n[key])


@dataclass(frozen=True)
class _Without(_Own):
    """The model, some of whose nodes write means or zeros."""

    cut: Tensor
    means: Mapping[Key, Reference] | None

    def logits(self, ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        rows = self.cut.expand(len(ids), -1)
        final_in = replaced_run(self.model, ids.to(self.model.device), rows, self._instead(ids))
        return unembedded(self.model, final_in)

    def _instead(self, ids: Tensor) -> Reference:
        """One row, which stands for all."""
        if self.means is None:
            zero = torch.zeros(1, 1, 1, dtype=self.model.hf.dtype, device=self.model.device)
            return Reference(zero, [zero] * self.model.n_layers, [zero] * self.model.n_layers)
        key = self.key(ids)
        if key not in self.means:
            raise CircuitError(f"There are no means for inputs of {key[0]} tokens, {key[1]} masks.")
        return self.means[key].map(lambda x: x.to(self.model.hf.dtype))
