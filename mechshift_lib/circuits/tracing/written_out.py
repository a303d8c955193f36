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

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
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
from mechshift_lib.models.norms import Norm
from mechshift_lib.models.sameness import differ
from mechshift_lib.models.weights import is_plain, tensor_of

#: Tokens that go through layers together on a processor, few enough for its cache.
_TOKENS = 512


@dataclass(frozen=True)
class Layer:
    """One layer, written out, and what its attention made of the clean runs.

    Turned dimensions of queries and keys stand in pairs, as complex numbers do; the model has the
    first of all pairs before the second.

    Attributes:
        attn_norm: norm in front of attention.
        mlp_norm: norm in front of the MLP.
        mlp: the MLP.
        parallel: the MLP reads what attention reads.
        qkv: rows of the projections to q, k and v, ``[(n_heads + 2 * n_kv) * d_head, d_model]``,
            each key/value head of the checkpoint once.
        bias: their bias, if they have one.
        o: output projection, ``[d_model, n_heads * d_head]``.
        o_bias: its bias, if it has one.
        kept: which active positions are computed behind its keys and values.
        turns: cosine + i sine of the active positions, ``[n_active, n_turned / 2]``, if positions
            are rotary.
        mask: whether a computed position sees a position, ``[n_kept, pos]``; ``None`` for all.
        q: turned queries of the clean runs, ``[n_run, n_heads, pos, d_head]``.
        k: turned keys, ``[n_run, n_kv, pos, d_head]``.
        v: values, as ``k``.
        z: heads' outputs, as ``q``.
    """

    attn_norm: Norm
    mlp_norm: Norm
    mlp: Callable[[Tensor], Tensor]
    parallel: bool
    qkv: Tensor
    bias: Tensor | None
    o: Tensor
    o_bias: Tensor | None
    kept: Tensor | slice
    turns: Tensor | None
    mask: Tensor | None
    q: Tensor
    k: Tensor
    v: Tensor
    z: Tensor

    def projected(self, x: Tensor, rows: slice) -> Tensor:
        """Some of the projections' outputs for what their norm put out."""
        return linear(x, self.qkv[rows], None if self.bias is None else self.bias[rows])

    def turned(self, x: Tensor, kept: Tensor | slice) -> Tensor:
        """Queries or keys ``[..., n_kept, d_head]`` turned by their positions."""
        return x if self.turns is None else _turned(x, self.turns[kept])

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Heads' outputs, ``[n_row, n_kept, n_heads * d_head]``; fewer key heads are shared."""
        shared = q.shape[1] != k.shape[1]
        z = scaled_dot_product_attention(q, k, v, attn_mask=self.mask, enable_gqa=shared)
        return z.transpose(1, 2).flatten(2)

    def written(self, before: Tensor, attended: Tensor) -> Tensor:
        """The stream behind the layer, from that before it and what attention adds."""
        after = before + attended
        return after + self.mlp(self.mlp_norm(before if self.parallel else after))


@dataclass(frozen=True)
class WrittenOut:
    """The layers of a model written out, around clean runs.

    Attributes:
        n_heads: query heads of a layer.
        n_kv: its key/value heads in the checkpoint.
        kv_readers: its readers of k in the graph.
        d_head: width of a head.
        positions: active positions: those at which a patched run can differ from its clean one.
        clean: the clean runs.
        layers: the layers.
    """

    n_heads: int
    n_kv: int
    kv_readers: int
    d_head: int
    positions: slice
    clean: LayerRun
    layers: list[Layer]

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
        first, n_q = self.positions.start, self.n_heads * self.d_head
        for own in self.layers[layer:]:
            # 1. Queries at the positions that go on, keys and values at all
            x = own.attn_norm(stream)
            q = self._heads(own.projected(x[:, own.kept], slice(n_q)))
            k, v = self._heads(own.projected(x, slice(n_q, None))).chunk(2, 1)
            q, k = own.turned(q, own.kept), own.turned(k, slice(None))
            if first:  # what lies before is the clean run's
                k, v = (
                    torch.cat([old[:, :, :first][runs], new], 2)
                    for old, new in ((own.k, k), (own.v, v))
                )
            # 2. Attention and MLP
            attended = linear(own.attention(q, k, v), own.o, own.o_bias)
            stream = own.written(stream[:, own.kept], attended)
        return stream

    def behind_mlp(self, layer: int, mlp_in: Tensor, runs: Tensor) -> Tensor:
        """Go on from what the norm before a layer's MLP takes in, as :meth:`behind`.

        Args:
            layer: the layer.
            mlp_in: at all positions, ``[n_row, pos, d_model]``.
            runs: clean run of each row.
        """
        stream = self.clean.attn_in[layer] + self.clean.attended[layer]
        stream = self._computed(layer, stream)[runs]
        return self._behind_attention(layer, stream, self._computed(layer, mlp_in), runs)

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
        own, width = self.layers[layer], self.d_head
        x = own.attn_norm(attn_in[:, self.positions])
        before = self._computed(layer, self.clean.attn_in[layer])
        stream = (before + self._computed(layer, self.clean.attended[layer]))[runs]
        for reader in readers.unique().tolist():
            rows = (readers == reader).nonzero()[:, 0]
            # 1. Which part of which heads this is, and its rows of the projections
            part, number = 0, reader
            if reader >= self.n_heads:
                part, number = divmod(reader - self.n_heads + self.kv_readers, self.kv_readers)
            size = self.n_heads // self.kv_readers if part else 1
            heads = slice(number * size, (number + 1) * size)
            shared = heads.start * self.n_kv // self.n_heads
            first = (self.n_heads + (part - 1) * self.n_kv + shared if part else number) * width
            # 2. What it takes in, and what that adds to the stream
            new = own.projected(x[pair[rows]], slice(first, first + width))[:, None]
            z = self._attended(own, part, heads, shared, new, runs[rows])
            z = z - own.z[:, heads, self.positions][:, :, own.kept][runs[rows]]
            columns = slice(heads.start * width, heads.stop * width)
            stream[rows] += linear(z.transpose(1, 2).flatten(2), own.o[:, columns])
        mlp_in = before[runs] if own.parallel else stream
        return self._behind_attention(layer, stream, mlp_in, runs)

    def _attended(
        self, own: Layer, part: int, heads: slice, shared: int, new: Tensor, runs: Tensor
    ) -> Tensor:
        """Outputs of heads whose q, k or v (``part`` 0, 1, 2) is another at the active positions.

        Args:
            own: their layer.
            part: which of them.
            heads: the heads, which have one key head.
            shared: its number.
            new: outputs of the projection, ``[n_row, 1, n_active, d_head]``.
            runs: clean run of each row.

        Returns:
            ``[n_row, n_heads, n_kept, d_head]``.
        """
        k, v = (x[runs, shared : shared + 1] for x in (own.k, own.v))
        if part == 0:
            q = own.turned(new[:, :, own.kept], own.kept)
        else:
            q = own.q[:, heads, self.positions][:, :, own.kept][runs]
        if part == 1:
            k[:, :, self.positions] = own.turned(new, slice(None))
        if part == 2:
            v[:, :, self.positions] = new
        return self._heads(own.attention(q, k, v))

    def _behind_attention(self, layer: int, stream: Tensor, mlp_in: Tensor, runs: Tensor) -> Tensor:
        """Go on from a layer's attention, as :meth:`behind`, a few rows at a time.

        Args:
            layer: the layer.
            stream: with what attention adds, at the layer's computed positions.
            mlp_in: what the norm before its MLP takes in there.
            runs: clean run of each row.
        """
        size, own = len(runs), self.layers[layer]
        if stream.device.type == "cpu":
            size = max(1, _TOKENS // (self.positions.stop - self.positions.start))
        found = []
        for x, taken, run in zip(*(y.split(size) for y in (stream, mlp_in, runs)), strict=True):
            found.append(self.behind(layer + 1, x + own.mlp(own.mlp_norm(taken)), run))
        return torch.cat(found)

    def _computed(self, layer: int, stream: Tensor) -> Tensor:
        """A stream of all positions at those that are computed in a layer."""
        return stream[:, self.positions][:, self.layers[layer].kept]

    def _heads(self, x: Tensor) -> Tensor:
        """``[n, pos, n_heads * d_head]`` → ``[n, n_heads, pos, d_head]``."""
        return x.unflatten(-1, (-1, self.d_head)).transpose(1, 2)


@torch.no_grad()
def written_out(
    model: LoadedModel, clean: LayerRun, corrupted: LayerRun, positions: slice, columns: Tensor
) -> WrittenOut | None:
    """The layers written out, or ``None`` where they can't be.

    That is where the MLP has no module of its own, in reduced precision (whose roundings are those
    of the model's own operations), where the model is spread, quantised or served elsewhere, and
    where the written-out layers don't make the clean and the corrupted run anew.

    Args:
        model: a loaded model.
        clean: clean runs with ``attn_in``, ``qkv``, ``heads`` and ``attended`` kept.
        corrupted: corrupted runs of the same items with ``attn_in`` kept.
        positions: active positions; under full attention all.
        columns: positions that are read, ascending.
    """
    anatomy, n_layers = model.anatomy, model.n_layers
    if anatomy.mlp == anatomy.mlp_out or clean.final_in.dtype.itemsize < 4:
        return None
    if model.remote:  # passes run elsewhere
        return None
    if not is_plain(model.hf):  # all weights at once would fill the memory that was to be spared
        return None
    turns = _turns(model, clean)
    kept = [slice(None), columns - positions.start]
    found = WrittenOut(
        n_heads=model.n_heads,
        n_kv=model.n_kv_heads,
        kv_readers=model.n_heads if model.kv == "ungrouped" else model.n_kv_heads,
        d_head=model.d_head,
        positions=positions,
        clean=clean,
        layers=[
            _layer(model, clean, positions, index, kept[index + 1 == n_layers], turns)
            for index in range(n_layers)
        ],
    )
    runs = torch.arange(len(clean.ids), device=clean.ids.device)
    for run in (clean, corrupted):
        again = found.behind(0, run.inputs[0][:, positions], runs)
        if differ(again, run.final_in[:, columns]):
            return None
    return found


def _layer(
    model: LoadedModel,
    clean: LayerRun,
    positions: slice,
    layer: int,
    kept: Tensor | slice,
    turns: Tensor | None,
) -> Layer:
    """One layer written out (see :func:`written_out`)."""
    anatomy, width, heads, n_kv = model.anatomy, model.d_head, model.n_heads, model.n_kv_heads
    block, dtype = anatomy.layer(model.hf, layer), clean.final_in.dtype
    output, n_turned = at(block, anatomy.o), 0 if turns is None else 2 * turns.shape[1]

    def parts(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v, ``[n_heads, d_head, …]`` each: copies of key heads once, turned in pairs."""
        split = x.unflatten(0, (-1, width)).tensor_split([heads, (heads + len(x) // width) // 2])
        q, k, v = split[0], *(y[:: len(y) // n_kv] for y in split[1:])
        return _paired(q, n_turned, 1), _paired(k, n_turned, 1), v

    rows_of = projection_rows(model.hf, anatomy, layer, width)
    bias = projection_bias(model.hf, anatomy, layer, width)
    made = gather_qkv(anatomy, clean.qkv[layer], width).movedim(-1, 0)
    q, k, v = (x.permute(2, 0, 3, 1).contiguous() for x in parts(made))
    if turns is not None:
        q, k = _turned(q, turns), _turned(k, turns)
    mask = None
    if model.attention == "causal":
        place = torch.arange(positions.stop, device=q.device)
        mask = place <= place[positions][kept][:, None]
    return Layer(
        attn_norm=Norm.of(anatomy, at(block, anatomy.attn_norm), dtype),
        mlp_norm=Norm.of(anatomy, at(block, anatomy.mlp_norm), dtype),
        mlp=_mlp(at(block, anatomy.mlp)),
        parallel=anatomy.parallel,
        qkv=torch.cat(parts(rows_of)).flatten(0, 1),
        bias=None if bias is None else torch.cat(parts(bias)).flatten(),
        o=rows(output),
        o_bias=tensor_of(output, "bias"),
        kept=kept,
        turns=None if turns is None else turns[positions],
        mask=mask,
        q=q,
        k=k,
        v=v,
        z=clean.heads[layer].unflatten(-1, (-1, width)).transpose(1, 2),
    )


def _mlp(module: Any) -> Callable[[Tensor], Tensor]:
    """An MLP; of a gated one its maps, without what calling modules costs."""
    names = ("gate_proj", "up_proj", "down_proj", "act_fn")
    if not all(isinstance(getattr(module, name, None), nn.Module) for name in names):
        found: Callable[[Tensor], Tensor] = module
        return found
    maps = (module.gate_proj, module.up_proj, module.down_proj)
    (gate, gate_bias), (up, up_bias), (down, down_bias) = ((x.weight, x.bias) for x in maps)

    def gated(x: Tensor) -> Tensor:
        neurons = module.act_fn(linear(x, gate, gate_bias)).mul_(linear(x, up, up_bias))
        return linear(neurons, down, down_bias)

    return gated


def _turns(model: LoadedModel, clean: LayerRun) -> Tensor | None:
    """Cosine + i sine of all positions, ``[pos, n_turned / 2]``, if they are rotary."""
    if not model.anatomy.rotary:
        return None
    place = torch.arange(clean.ids.shape[1], device=clean.ids.device)[None]
    cos, sin = at(model.hf, model.anatomy.rotary)(clean.final_in, place)
    return torch.complex(cos[0], sin[0])[:, : cos.shape[-1] // 2].contiguous()


def _paired(x: Tensor, n_turned: int, dim: int) -> Tensor:
    """The first ``n_turned`` of a dimension in pairs: its first half beside its second."""
    half = torch.arange(n_turned // 2, device=x.device)
    first = torch.stack([half, half + n_turned // 2], 1).flatten()
    rest = torch.arange(n_turned, x.shape[dim], device=x.device)
    return x.index_select(dim, torch.cat([first, rest]))


def _turned(x: Tensor, turns: Tensor) -> Tensor:
    """Pairs ``[…, pos, d_head]`` turned by ``[pos, n_turned / 2]``; what is beyond stays."""
    n_turned = 2 * turns.shape[-1]
    pairs = x[..., :n_turned].unflatten(-1, (-1, 2))
    turned = torch.view_as_real(torch.view_as_complex(pairs) * turns).flatten(-2)
    return turned if n_turned == x.shape[-1] else torch.cat([turned, x[..., n_turned:]], -1)
