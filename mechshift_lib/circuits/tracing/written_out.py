"""The rest of a run without a trace: layers written out from their weights.

A trace computes all positions of all layers behind a patch. Written out, a pass computes only what
a metric can read: positions before the first that differs keep their keys and values under causal
attention, the last layer runs at the read positions, a patched q, k or v changes one head, and key
heads that were copied for their query heads are computed once.

No architecture is taken on trust: :func:`written_out` computes anew the two runs that are known
from their traces and gives nothing where it doesn't meet them. Such models are traced on
(:func:`mechshift_lib.circuits.tracing.resuming.run_behind`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention

from mechshift_lib.circuits.tracing.layers import LayerRun
from mechshift_lib.models.anatomy import (
    at,
    gather_qkv,
    projection_bias,
    projection_rows,
    rows,
)
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.norms import normed
from mechshift_lib.models.sameness import differ


@dataclass(frozen=True)
class Weights:
    """One layer, written out.

    Attributes:
        block: the layer's module.
        qkv: rows of the projections to q, k and v, ``[(n_heads + 2 * n_kv) * d_head, d_model]``,
            each key/value head of the checkpoint once.
        bias: their bias, if they have one.
        o: output projection, ``[d_model, n_heads * d_head]``.
        o_bias: its bias, if it has one.
    """

    block: Any
    qkv: Tensor
    bias: Tensor | None
    o: Tensor
    o_bias: Tensor | None


@dataclass(frozen=True)
class Attended:
    """What attention took in and gave in one layer of the clean runs.

    Attributes:
        q: turned queries, ``[n_run, n_heads, pos, d_head]``.
        k: turned keys, ``[n_run, n_kv, pos, d_head]``.
        v: values, as ``k``.
        z: heads' outputs, as ``q``.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    z: Tensor


@dataclass(frozen=True)
class WrittenOut:
    """The layers of a model written out, around clean runs.

    Attributes:
        model: the model.
        positions: active positions: those at which a patched run can differ from its clean one.
        columns: those of them that are read, counted from the first one, ``[n_column]``.
        turns: cosines and sines of rotary positions, ``[pos, n_turned]`` each, where it has them.
        clean: the clean runs.
        weights: per layer.
        attended: per layer.
    """

    model: LoadedModel
    positions: slice
    columns: Tensor
    turns: tuple[Tensor, Tensor] | None
    clean: LayerRun
    weights: list[Weights]
    attended: list[Attended] = field(default_factory=list)

    @property
    def group(self) -> int:
        """Query heads that share a key head."""
        return self.model.n_heads // self.model.n_kv_heads

    def computed(self, layer: int) -> Tensor | slice:
        """Which active positions are computed behind a layer's keys and values."""
        return self.columns if layer + 1 == self.model.n_layers else slice(None)

    # -- behind a patch ----------------------------------------------------------------------

    def behind(self, layer: int, stream: Tensor, runs: Tensor) -> Tensor:
        """Go on from the input of a layer.

        Args:
            layer: first layer that is run; ``n_layers`` runs none.
            stream: its input at the active positions (of ``n_layers``: at ``columns``),
                ``[n_row, n_active, d_model]``.
            runs: clean run that each row belongs to, ``[n_row]``.

        Returns:
            Input of the final norm at ``columns``, ``[n_row, n_column, d_model]``.
        """
        first = self.positions.start
        for index in range(layer, self.model.n_layers):
            own, clean, kept = self.weights[index], self.attended[index], self.computed(index)
            # 1. Queries at the positions that go on, keys and values at all
            x = self._normed(index, "attn_norm", stream)
            n_q = self.model.n_heads * self.model.d_head
            stream = stream[:, kept]
            if isinstance(kept, slice):
                q, kv = linear(x, own.qkv, own.bias).tensor_split([n_q], -1)
            else:
                biases = (None, None) if own.bias is None else (own.bias[:n_q], own.bias[n_q:])
                q, kv = (
                    linear(x[:, kept], own.qkv[:n_q], biases[0]),
                    linear(x, own.qkv[n_q:], biases[1]),
                )
            k, v = (self._heads(part) for part in kv.chunk(2, -1))
            q, k = self._turned(self._heads(q), kept), self._turned(k, slice(None))
            if first:  # what lies before is the clean run's
                k, v = (
                    torch.cat([old[:, :, :first][runs], new], 2)
                    for old, new in ((clean.k, k), (clean.v, v))
                )
            # 2. Attention and MLP
            z = self._attention(q, k, v, kept).transpose(1, 2).flatten(2)
            stream = self._written(index, stream, linear(z, own.o, own.o_bias))
        return stream

    def behind_mlp(self, layer: int, mlp_in: Tensor, runs: Tensor) -> Tensor:
        """Go on from what the norm before a layer's MLP takes in, as :meth:`behind`.

        Args:
            layer: the layer.
            mlp_in: at all positions, ``[n_row, pos, d_model]``.
            runs: clean run of each row.
        """
        before = self._computed(layer, self.clean.attn_in[layer] + self.clean.attended[layer])
        after = before[runs] + self._mlp(layer, self._computed(layer, mlp_in))
        return self.behind(layer + 1, after, runs)

    def behind_qkv(
        self, layer: int, attn_in: Tensor, pair: Tensor, readers: Tensor, runs: Tensor
    ) -> Tensor:
        """Go on from rows in each of which one reader of q, k or v takes in something else.

        Args:
            layer: the layer.
            attn_in: what is taken in, at all positions, ``[n_pair, pos, d_model]``.
            pair: which of these a row takes in, ``[n_row]``.
            readers: which reader of the layer does, in the graph's order, ``[n_row]``.
            runs: clean run of each row.

        Returns:
            As :meth:`behind`.
        """
        model, own = self.model, self.weights[layer]
        x = self._normed(layer, "attn_norm", attn_in[:, self.positions])
        kv_readers = model.n_heads if model.kv == "ungrouped" else model.n_kv_heads
        stream = self._computed(layer, self.clean.attn_in[layer])[runs]
        attended = self._computed(layer, self.clean.attended[layer])[runs]
        for reader in readers.unique().tolist():
            rows, part, number = (readers == reader).nonzero()[:, 0], 0, reader
            if reader >= model.n_heads:
                part, number = divmod(reader - model.n_heads, kv_readers)
                part += 1
            width = self.group if part and model.kv == "grouped" else 1
            heads = slice(number * width, (number + 1) * width)
            weight = heads.start
            if part:
                weight = model.n_heads + (part - 1) * model.n_kv_heads + heads.start // self.group
            own_rows = slice(weight * model.d_head, (weight + 1) * model.d_head)
            bias = None if own.bias is None else own.bias[own_rows]
            new = linear(x[pair[rows]], own.qkv[own_rows], bias)
            attended[rows] += self._head_change(layer, part, heads, new, runs[rows])
        return self.behind(layer + 1, self._written(layer, stream, attended), runs)

    def _head_change(
        self, layer: int, part: int, heads: slice, new: Tensor, runs: Tensor
    ) -> Tensor:
        """How far attention's output moves with another q, k or v (``part`` 0, 1, 2) of ``heads``.

        Heads that share a key are patched together. ``new`` is what the projection puts out at the
        active positions, ``[n_row, n_active, d_head]``; the result is at the layer's computed ones.
        """
        clean, kept, width = self.attended[layer], self.computed(layer), self.model.d_head
        shared, new = heads.start // self.group, new[:, None]
        k, v = (x[runs, shared : shared + 1] for x in (clean.k, clean.v))
        if part == 0:
            q = self._turned(new[:, :, kept], kept)
        else:
            q = clean.q[:, heads, self.positions][:, :, kept][runs]
        if part == 1:
            k[:, :, self.positions] = self._turned(new, slice(None))
        if part == 2:
            v[:, :, self.positions] = new
        z = clean.z[:, heads, self.positions][:, :, kept][runs]
        change = (self._attention(q, k, v, kept) - z).transpose(1, 2).flatten(2)
        return linear(change, self.weights[layer].o[:, heads.start * width : heads.stop * width])

    # -- parts of a layer --------------------------------------------------------------------

    def _computed(self, layer: int, stream: Tensor) -> Tensor:
        """A stream of all positions at those that are computed in a layer."""
        return stream[:, self.positions][:, self.computed(layer)]

    def _written(self, layer: int, stream: Tensor, attended: Tensor) -> Tensor:
        """The stream behind a layer, from what it was before and what attention adds."""
        after = stream + attended
        return after + self._mlp(layer, stream if self.model.anatomy.parallel else after)

    def _mlp(self, layer: int, x: Tensor) -> Tensor:
        block = self.weights[layer].block
        written: Tensor = at(block, self.model.anatomy.mlp)(self._normed(layer, "mlp_norm", x))
        return written

    def _normed(self, layer: int, norm: str, x: Tensor) -> Tensor:
        path = getattr(self.model.anatomy, norm)
        return normed(self.model, at(self.weights[layer].block, path), x)

    def _heads(self, x: Tensor) -> Tensor:
        """``[n, pos, n_heads * d_head]`` → ``[n, n_heads, pos, d_head]``."""
        return x.unflatten(-1, (-1, self.model.d_head)).transpose(1, 2)

    def _turned(self, x: Tensor, kept: Tensor | slice, *, active: bool = True) -> Tensor:
        """Queries or keys ``[…, pos, d_head]`` turned by their positions, if the model does so."""
        if self.turns is None:
            return x
        cos, sin = (turn[self.positions] if active else turn for turn in self.turns)
        cos, sin = cos[kept], sin[kept]
        half = cos.shape[-1] // 2
        a, b = x[..., :half], x[..., half : 2 * half]
        turned = torch.empty_like(x)
        torch.addcmul(a * cos[:, :half], b, sin[:, :half], value=-1, out=turned[..., :half])
        torch.addcmul(b * cos[:, half:], a, sin[:, half:], out=turned[..., half : 2 * half])
        turned[..., 2 * half :] = x[..., 2 * half :]
        return turned

    def _attention(self, q: Tensor, k: Tensor, v: Tensor, kept: Tensor | slice) -> Tensor:
        """Heads' outputs, ``[n_row, n_heads, n_kept, d_head]``; keys of fewer heads are shared."""
        mask = None
        if self.model.attention == "causal":
            place = torch.arange(self.positions.stop, device=q.device)
            mask = place <= place[self.positions][kept][:, None]
        if k.shape[1] != q.shape[1]:
            k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
        return scaled_dot_product_attention(q, k, v, attn_mask=mask)


@torch.no_grad()
def written_out(
    model: LoadedModel, clean: LayerRun, corrupted: LayerRun, positions: slice, columns: Tensor
) -> WrittenOut | None:
    """The layers written out, or ``None`` where they can't be.

    That is where the MLP has no module of its own, in reduced precision (whose roundings are those
    of the model's own operations), and where the written-out layers don't make the clean and the
    corrupted run anew.

    Args:
        model: a loaded model.
        clean: clean runs with ``attn_in``, ``qkv``, ``heads``, ``attended`` kept.
        corrupted: corrupted runs of the same items with ``attn_in`` kept.
        positions: active positions; under full attention all.
        columns: positions that are read, ascending.
    """
    anatomy = model.anatomy
    if anatomy.mlp == anatomy.mlp_out or clean.final_in.dtype.itemsize < 4:
        return None
    found = WrittenOut(
        model=model,
        positions=positions,
        columns=columns - positions.start,
        turns=_turns(model, clean),
        clean=clean,
        weights=[_weights(model, index) for index in range(model.n_layers)],
    )
    runs = torch.arange(len(clean.ids), device=clean.ids.device)
    for index, qkv in enumerate(clean.qkv):
        parts = found._heads(gather_qkv(anatomy, qkv, model.d_head))
        q, k, v = parts.tensor_split([model.n_heads, (model.n_heads + parts.shape[1]) // 2], 1)
        k, v = (x[:, :: x.shape[1] // model.n_kv_heads] for x in (k, v))
        q, k = (found._turned(x, slice(None), active=False).contiguous() for x in (q, k))
        z = found._heads(clean.heads[index])
        found.attended.append(Attended(q, k, v.contiguous(), z))
    for run in (clean, corrupted):
        again = found.behind(0, run.inputs[0][:, positions], runs)
        if differ(again, run.final_in[:, columns]):
            return None
    return found


def _turns(model: LoadedModel, clean: LayerRun) -> tuple[Tensor, Tensor] | None:
    if not model.anatomy.rotary:
        return None
    place = torch.arange(clean.ids.shape[1], device=clean.ids.device)[None]
    cos, sin = at(model.hf, model.anatomy.rotary)(clean.final_in, place)
    return cos[0], sin[0]


def _weights(model: LoadedModel, layer: int) -> Weights:
    anatomy, width, heads = model.anatomy, model.d_head, model.n_heads
    block = anatomy.layer(model.hf, layer)

    def once(x: Tensor) -> Tensor:
        """Every query head, and of key and value heads that are copies the first."""
        parts = x.unflatten(0, (-1, width))
        kv = parts[heads:].unflatten(0, (2 * model.n_kv_heads, -1))[:, 0]
        return torch.cat([parts[:heads], kv]).flatten(0, 1)

    bias = projection_bias(model.hf, anatomy, layer, width)
    output = at(block, anatomy.o)
    return Weights(
        block=block,
        qkv=once(projection_rows(model.hf, anatomy, layer, width)),
        bias=None if bias is None else once(bias),
        o=rows(output),
        o_bias=getattr(output, "bias", None),
    )
