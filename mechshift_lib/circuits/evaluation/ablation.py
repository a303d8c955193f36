"""Ablation: what an edge outside a circuit carries instead of its source's output.

Every ablation is a *reference*: one output per source that is put in place of the running model's
own. Only outputs of nodes are replaced; the bias of an attention output projection belongs to no
head and stays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mechshift_lib.choices import Ablation
from mechshift_lib.circuits.questions.items import check_items
from mechshift_lib.circuits.tracing.layers import Written, run_layers
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.anatomy import at, rows
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item
from mechshift_lib.models.weights import tensor_of


@dataclass(frozen=True)
class Reference:
    """Outputs that stand in for those of the running model.

    In float32 at least; every tensor has one row per item of a batch.

    Attributes:
        embed: of ``input``, ``[batch, pos, d_model]``.
        heads: per layer of the heads, before the output projection,
            ``[batch, pos, n_heads * d_head]``.
        mlps: per layer of the MLP, ``[batch, pos, d_model]``.
    """

    embed: Tensor
    heads: list[Tensor]
    mlps: list[Tensor]

    def streams(self, model: LoadedModel) -> Iterator[Tensor]:
        """The residual stream that these outputs add up to, with all biases.

        Yields, layer by layer, the stream before attention and before the MLP, and in the end
        that before the final norm: ``[batch, pos, d_model]`` each.
        """
        stream = self.embed
        for index in range(model.n_layers):
            yield stream
            projection = at(model.anatomy.layer(model.hf, index), model.anatomy.o)
            written = self.heads[index] @ rows(projection).to(stream.dtype).T
            bias = tensor_of(projection, "bias")
            after = stream + (written if bias is None else written + bias.to(stream.dtype))
            yield stream if model.anatomy.parallel else after
            stream = after + self.mlps[index]
        yield stream

    @classmethod
    def of(cls, outputs: Written) -> Reference:
        """What every node wrote in a run."""
        return cls(
            _precise(outputs.embed),
            [_precise(x) for x in outputs.heads],
            [_precise(x) for x in outputs.mlps],
        )

    def map(self, change: Callable[[Tensor], Tensor]) -> Reference:
        """The same with every tensor changed by a function."""
        return Reference(
            change(self.embed), [change(x) for x in self.heads], [change(x) for x in self.mlps]
        )

    def plus(self, other: Reference) -> Reference:
        """The sum of both, tensor by tensor."""
        return Reference(
            self.embed + other.embed,
            [x + y for x, y in zip(self.heads, other.heads, strict=True)],
            [x + y for x, y in zip(self.mlps, other.mlps, strict=True)],
        )

    def repeated(self, times: int) -> Reference:
        """The same batch several times one after the other."""
        return self.map(lambda x: x.repeat(times, 1, 1))


@dataclass(frozen=True)
class Means:
    """Constant outputs of every node by length and denoising step: means, or fitted from them.

    Attributes:
        by_key: for each number of tokens and denoising step the outputs, one row.
    """

    by_key: Mapping[tuple[int, int], Reference]

    @classmethod
    def of(cls, model: LoadedModel, items: Sequence[Item], batch_size: int) -> Means:
        """Mean outputs over the clean inputs of a reference set."""
        groups = cls.grouped(items)
        return cls({key: _mean_outputs(model, x, batch_size) for key, x in groups.items()})

    @staticmethod
    def grouped(items: Sequence[Item]) -> dict[tuple[int, int], list[Item]]:
        """Items by number of tokens and denoising step."""
        groups: dict[tuple[int, int], list[Item]] = defaultdict(list)
        for item in items:
            groups[len(item.clean), item.step].append(item)
        return dict(groups)

    def check(self, items: Sequence[Item]) -> None:
        """Refuse items that there are no constants for.

        Raises:
            CircuitError: the reference set has no item of the length and step of one of them.
        """
        for item in items:
            if (len(item.clean), item.step) not in self.by_key:
                raise CircuitError(
                    f"The ablation has no reference item of {len(item.clean)} tokens at step "
                    f"{item.step}: add one to the reference set."
                )

    def for_items(self, items: Sequence[Item]) -> Reference:
        """The means that belong to each item of a batch of one length.

        Raises:
            CircuitError: the reference set has no item of that length and step.
        """
        self.check(items)
        parts = [self.by_key[len(item.clean), item.step] for item in items]
        return Reference(
            torch.cat([part.embed for part in parts]),
            [torch.cat(layer) for layer in zip(*(part.heads for part in parts), strict=True)],
            [torch.cat(layer) for layer in zip(*(part.mlps for part in parts), strict=True)],
        )


def _mean_outputs(model: LoadedModel, items: Sequence[Item], batch_size: int) -> Reference:
    """Mean over the clean inputs of items of one length, one row."""
    total: Reference | None = None
    for start in range(0, len(items), batch_size):
        batch = items[start : start + batch_size]
        ids = torch.tensor([item.clean for item in batch], device=model.device)
        part = Reference.of(run_layers(model, ids)).map(lambda x: x.sum(0, keepdim=True))
        total = part if total is None else total.plus(part)
    assert total is not None
    return total.map(lambda x: x / len(items))


def _precise(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


@dataclass(frozen=True)
class Ablated:
    """An ablation, with the means that it needs.

    Attributes:
        kind: which ablation.
        means: outputs over the reference set, for :attr:`Ablation.MEAN`, or for
            :attr:`Ablation.OPTIMAL` one circuit's constants.
    """

    kind: Ablation
    means: Means | None = None

    @classmethod
    def of(
        cls,
        model: LoadedModel,
        items: Sequence[Item],
        ablation: Ablation | str,
        reference: Sequence[Item] | None,
        batch_size: int,
    ) -> Ablated:
        """Prepare an ablation; an optimal one is yet to be fitted from its means.

        Args:
            model: a loaded model.
            items: what will be run.
            ablation: which ablation.
            reference: the set that means are taken over; ``items`` without one.
            batch_size: items per pass over the reference set.

        Raises:
            CircuitError: the ablation is unknown or a reference item malformed.
        """
        kind = Ablation.named(ablation)
        if not kind.by_position:
            return cls(kind)
        if reference is not None:
            check_items(reference, model)
        return cls(kind, Means.of(model, items if reference is None else reference, batch_size))

    def reference(self, items: Sequence[Item], corrupted: Written) -> Reference:
        """What cut edges carry for a batch of items.

        Args:
            items: the batch.
            corrupted: outputs of its corrupted run.

        Raises:
            CircuitError: the reference set lacks a length or step.
        """
        if self.means is not None:
            return self.means.for_items(items)
        outputs = Reference.of(corrupted)
        return outputs.map(torch.zeros_like) if self.kind is Ablation.ZERO else outputs
