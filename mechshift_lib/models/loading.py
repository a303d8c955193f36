"""Loading: a Hugging Face model, checked, frozen and wrapped by nnsight."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import nnsight
import torch
from torch import Tensor
from transformers import PreTrainedModel

from mechshift_lib.choices import KV, Attention, Dtype, Quantization
from mechshift_lib.config import ROOT, DeviceMap, FolderSource, ModelSpec, placed
from mechshift_lib.errors import ModelError
from mechshift_lib.models.adapters import merge_adapter
from mechshift_lib.models.anatomy import Anatomy, at, rows
from mechshift_lib.models.architectures import anatomy_of
from mechshift_lib.models.attention import (
    check_attention,
    check_layers,
    set_attention,
    sliding_window,
)
from mechshift_lib.models.checks import check_parts, embedding_rows
from mechshift_lib.models.devices import check_device, place
from mechshift_lib.models.grouping import ungroup
from mechshift_lib.models.inputs import arguments
from mechshift_lib.models.opening import (
    check_tokenizer,
    find_mask_id,
    open_model,
    open_tokenizer,
    quiet,
)
from mechshift_lib.models.parts import parts_of
from mechshift_lib.models.proof import check_anatomy
from mechshift_lib.models.readout import Readout, make_readout
from mechshift_lib.models.sameness import UNGROUPING, unchanged
from mechshift_lib.models.shape import Shape, shape_of
from mechshift_lib.models.sources import check_is_no_hub_name, locate, tokenizer_at
from mechshift_lib.models.spreading import spread
from mechshift_lib.models.weights import home_of, is_plain
from mechshift_lib.remote import Remote, refused

DTYPES: dict[Dtype, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class Traced(nnsight.NNsight):
    """nnsight's wrapper, which moves inputs to where the model takes them.

    By itself it goes by the first weight, which may be on disk.
    """

    @property
    def device(self) -> torch.device:
        """Where inputs go; looked for once, as every trace asks for it."""
        return self._home

    @cached_property
    def _home(self) -> torch.device:
        return home_of(self._module)


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to be asked and traced.

    Attributes:
        hf: the Hugging Face model, in evaluation mode, all parameters frozen.
        lm: its nnsight wrapper; modules have the names of ``hf``.
        tokenizer: its tokenizer, or ``None`` where the folder has none.
        anatomy: where its parts are.
        attention: ``"causal"`` or ``"full"``, as proven at load.
        readout: how it is asked.
        mask_id: id of the mask token, or ``None``.
        kv: whether every query head has its own k and v projection (``"ungrouped"``).
        n_kv_heads: key/value heads per layer of the checkpoint, before any ungrouping.
    """

    hf: PreTrainedModel
    lm: Any
    tokenizer: Any
    anatomy: Anatomy
    attention: Attention
    readout: Readout
    mask_id: int | None
    kv: KV
    n_kv_heads: int

    @property
    def shape(self) -> Shape:
        """The model's numbers, after any ungrouping."""
        return shape_of(self.hf.config, self.anatomy)

    @cached_property
    def parts(self) -> SimpleNamespace:
        """What traces read and write (:func:`mechshift_lib.models.parts.parts_of`)."""
        return parts_of(self.lm, self.anatomy, self.n_layers)

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return self.shape.n_layers

    @property
    def n_heads(self) -> int:
        """Query heads per layer."""
        return self.shape.n_heads

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.shape.d_model

    @property
    def d_head(self) -> int:
        """Width of one head."""
        return self.shape.d_head

    @property
    def d_mlp(self) -> int:
        """Hidden neurons of an MLP."""
        return int(rows(at(self.anatomy.layer(self.hf, 0), self.anatomy.mlp_out)).shape[1])

    @property
    def max_positions(self) -> int | None:
        """Longest input in tokens, or ``None`` where there is no limit."""
        return self.shape.max_positions

    @property
    def vocab_size(self) -> int:
        """Number of ids that the embedding knows."""
        return embedding_rows(self.hf)

    @cached_property
    def device(self) -> torch.device:
        """Where it takes inputs and puts out activations; its weights may be on others, too."""
        return home_of(self.hf)

    @property
    def remote(self) -> bool:
        """Whether its passes run elsewhere."""
        return not isinstance(self.lm, Traced)

    @property
    def plain(self) -> bool:
        """Whether all its weights are on that device, and none is quantised."""
        return is_plain(self.hf)

    def arguments(self, ids: Tensor, mask: Tensor | None = None) -> dict[str, Any]:
        """What the model is called with (see :func:`mechshift_lib.models.inputs.arguments`)."""
        return arguments(self.anatomy, ids, mask)

    @torch.no_grad()
    def logits(self, ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Logits ``[batch, pos, vocab]`` of input ids ``[batch, pos]``, without gradient.

        ``attention_mask`` ``[batch, pos]`` is 1 for tokens and 0 for padding on either side.
        """
        if attention_mask is not None:
            attention_mask = attention_mask.to(self.device)
        output = self.hf(**self.arguments(ids.to(self.device), attention_mask))
        logits: Tensor = output.logits
        return logits


def load_model(
    spec: ModelSpec, *, device: str = "cpu", kv: KV = "ungrouped", root: Path = ROOT
) -> LoadedModel:
    """Load one model of a pair; its folders are relative to ``root``.

    A LoRA adapter is merged into the weights, so that tracing sees a plain model. A model with a
    ``device_map`` is read into main memory and spread from there, whatever ``device`` says.

    Raises:
        ModelError: files are missing, damaged or not those declared; the mask token is missing;
            the architecture is unknown; the attention isn't the one declared; there is no such
            device; weights can't be quantised, or spread as declared.
    """
    return _load(spec, device, kv, root, tokenizer_needed=True)


def _load(
    spec: ModelSpec,
    device: str,
    kv: KV,
    root: Path,
    *,
    tokenizer_needed: bool,
    remote: Remote | None = None,
) -> LoadedModel:
    check_device(device)  # before what takes long
    model, tokenizer = open_spec(spec, root, device, tokenizer_needed=tokenizer_needed)
    mask_id = None if spec.mask_token is None else find_mask_id(tokenizer, spec.mask_token, model)
    readout = make_readout(spec.readout, mask_id)
    return wrap_model(
        model,
        tokenizer=tokenizer,
        attention=spec.attention,
        readout=readout,
        mask_id=mask_id,
        kv=kv,
        device=device,
        device_map=spec.device_map,
        max_memory=spec.max_memory,
        remote=remote,
    )


def open_spec(
    spec: ModelSpec, root: Path = ROOT, device: str = "cpu", *, tokenizer_needed: bool = True
) -> tuple[PreTrainedModel, Any]:
    """A model as it was saved, its adapter merged, and its tokenizer, or ``None`` without one.

    An adapter that was trained with new tokens has the tokenizer that knows them. A quantised model
    is on ``device``, any other in main memory.

    Raises:
        ModelError: files are missing, damaged or not those declared, or tokenizer and embedding
            don't belong together.
    """
    with quiet():
        located = locate(spec.source, root)
    model = open_model(located, DTYPES[spec.dtype], spec.quantization, device)
    words = located
    if spec.adapter is not None:
        model = merge_adapter(model, root / spec.adapter)
        words = tokenizer_at(root / spec.adapter) or located
    tokenizer = open_tokenizer(words, needed=tokenizer_needed)
    if tokenizer is not None:
        check_tokenizer(tokenizer, model)
    return model, tokenizer


def load_folder(
    path: str | Path,
    *,
    attention: Attention = "causal",
    readout: Literal["next-token", "shifted-mask", "mask"] = "next-token",
    mask_token: str | None = None,
    kv: KV = "ungrouped",
    device: str = "cpu",
    dtype: Dtype = "float32",
    quantization: Quantization | None = None,
    device_map: DeviceMap | None = None,
    max_memory: dict[str, str] | None = None,
    remote: Remote | None = None,
) -> LoadedModel:
    """Load any Hugging Face folder. A tokenizer is needed only for a mask token.

    With ``remote`` its passes run where it is served; the folder has the same model's weights.

    Raises:
        ConfigError: ``quantization``, ``device_map`` and ``max_memory`` don't go together, or the
            model isn't one that can run remotely (:data:`mechshift_lib.remote.MODELS`).
        ModelError: as in :func:`load_model`.
    """
    if readout != "next-token" and mask_token is None:
        raise ModelError(f"Readout {readout!r} needs a mask token: name one with mask_token.")
    check_is_no_hub_name(path)
    spec = ModelSpec(
        source=FolderSource(kind="folder", path=str(Path(path).absolute())),
        attention=attention,
        readout=readout,
        mask_token=mask_token,
        dtype=dtype,
    )
    spec = placed(spec, quantization=quantization, device_map=device_map, max_memory=max_memory)
    needed = mask_token is not None
    return _load(spec, device, kv, ROOT, tokenizer_needed=needed, remote=remote)


def wrap_model(
    model: PreTrainedModel,
    *,
    tokenizer: Any = None,
    attention: Attention = "causal",
    readout: Readout | None = None,
    mask_id: int | None = None,
    kv: KV = "ungrouped",
    device: str = "cpu",
    device_map: DeviceMap | None = None,
    max_memory: dict[str, str] | None = None,
    remote: Remote | None = None,
) -> LoadedModel:
    """Freeze, check and wrap a model that is in memory already. The model is changed in place.

    Raises:
        ConfigError: it is to run remotely, but isn't as it is published.
        ModelError: the architecture is unknown, the anatomy doesn't fit, the attention isn't the
            one declared, or it can't be spread as ``device_map`` says.
    """
    check_device(device)
    if len(set((getattr(model, "hf_device_map", None) or {}).values())) > 1:
        raise ModelError(
            "transformers has spread this model already: load it without device_map, and give "
            "device_map here."
        )
    anatomy = anatomy_of(model.config)
    model = model.eval().requires_grad_(False)
    place(model, "cpu" if device_map is not None else device)
    check_parts(model, anatomy)
    shape = shape_of(model.config, anatomy)
    if remote is not None:
        _check_as_published(model, shape, attention, kv)
    if kv == "ungrouped" and shape.n_kv_heads < shape.n_heads:
        with unchanged(model, UNGROUPING):
            ungroup(model, anatomy)
    if device_map is not None:  # what changes weights is done
        spread(model, anatomy, device_map, max_memory)
    window = sliding_window(model.config)
    set_attention(model, anatomy, attention)
    lm = Traced(model) if remote is None else _served(model, remote, anatomy)
    check_anatomy(model, lm, anatomy)
    check_attention(model, attention)
    check_layers(model, lm, anatomy, attention, window)
    return LoadedModel(
        hf=model,
        lm=lm,
        tokenizer=tokenizer,
        anatomy=anatomy,
        attention=attention,
        readout=readout or make_readout("next-token"),
        mask_id=mask_id,
        kv=kv,
        n_kv_heads=shape.n_kv_heads,
    )


def _check_as_published(model: PreTrainedModel, shape: Shape, attention: Attention, kv: KV) -> None:
    """Refuse to run remotely what is changed here."""
    if kv == "ungrouped" and shape.n_kv_heads < shape.n_heads:
        raise refused("kv")
    if attention == "full":
        raise refused("attention")
    if not is_plain(model):
        raise refused("quantization")


def _served(model: PreTrainedModel, remote: Remote, anatomy: Anatomy) -> Any:
    """The wrapper of a model whose passes run elsewhere, in the precision that is declared."""
    from mechshift_lib.models.serving import Served, check_precision

    lm = Served(model, remote)
    check_precision(lm, at(lm, anatomy.embed), model.dtype)
    return lm
