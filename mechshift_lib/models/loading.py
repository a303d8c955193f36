"""Loading: a Hugging Face model, checked, frozen and wrapped by nnsight."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nnsight
import torch
from torch import Tensor
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as hf_logging

from mechshift_lib.config import ROOT, FolderSource, ModelSpec
from mechshift_lib.errors import MechshiftError, ModelError
from mechshift_lib.models.anatomy import Anatomy, at, rows
from mechshift_lib.models.architectures import anatomy_of
from mechshift_lib.models.checks import (
    Attention,
    check_attention,
    check_parts,
    embedding_rows,
    set_attention,
)
from mechshift_lib.models.grouping import ungroup
from mechshift_lib.models.inputs import arguments
from mechshift_lib.models.proof import check_anatomy
from mechshift_lib.models.readout import Readout, make_readout
from mechshift_lib.models.shape import Shape, shape_of
from mechshift_lib.models.sources import Located, locate

KV = Literal["ungrouped", "grouped"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.hf.device

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

    A LoRA adapter is merged into the weights, so that tracing sees a plain model.

    Raises:
        ModelError: files are missing, damaged or not those declared; the mask token is missing;
            the architecture is unknown; the attention isn't the one declared.
    """
    with _quiet():
        located = locate(spec.source, root)
    model = _open_model(located, DTYPES[spec.dtype])
    if spec.adapter is not None:
        model = _merge_adapter(model, root / spec.adapter)
    tokenizer = _open_tokenizer(located)
    mask_id = None if spec.mask_token is None else _mask_id(tokenizer, spec.mask_token, model)
    readout = make_readout(spec.readout, mask_id)
    return wrap_model(
        model,
        tokenizer=tokenizer,
        attention=spec.attention,
        readout=readout,
        mask_id=mask_id,
        kv=kv,
        device=device,
    )


def load_folder(
    path: str | Path,
    *,
    attention: Attention = "causal",
    readout: Literal["next-token", "shifted-mask", "mask"] = "next-token",
    mask_token: str | None = None,
    kv: KV = "ungrouped",
    device: str = "cpu",
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
) -> LoadedModel:
    """Load any Hugging Face folder. A tokenizer is needed only for a mask token.

    Raises:
        ModelError: as in :func:`load_model`.
    """
    if readout != "next-token" and mask_token is None:
        raise ModelError(f"Readout {readout!r} needs a mask token: name one with mask_token.")
    spec = ModelSpec(
        source=FolderSource(kind="folder", path=str(Path(path).absolute())),
        attention=attention,
        readout=readout,
        mask_token=mask_token,
        dtype=dtype,
    )
    return load_model(spec, device=device, kv=kv)


def wrap_model(
    model: PreTrainedModel,
    *,
    tokenizer: Any = None,
    attention: Attention = "causal",
    readout: Readout | None = None,
    mask_id: int | None = None,
    kv: KV = "ungrouped",
    device: str = "cpu",
) -> LoadedModel:
    """Freeze, check and wrap a model that is in memory already. The model is changed in place.

    Raises:
        ModelError: the architecture is unknown, the anatomy doesn't fit, or the attention isn't
            the one declared.
    """
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ModelError("Device 'cuda' isn't available on this machine: use device 'cpu'.")
    anatomy = anatomy_of(model.config)
    model = model.eval().requires_grad_(False)
    model.to(torch.device(device))  # type: ignore[arg-type]
    check_parts(model, anatomy)
    kv_heads = shape_of(model.config, anatomy).n_kv_heads
    if kv == "ungrouped":
        ungroup(model, anatomy)
    set_attention(model, anatomy, attention)
    lm = nnsight.NNsight(model)
    check_anatomy(model, lm, anatomy)
    check_attention(model, attention)
    return LoadedModel(
        hf=model,
        lm=lm,
        tokenizer=tokenizer,
        anatomy=anatomy,
        attention=attention,
        readout=readout or make_readout("next-token"),
        mask_id=mask_id,
        kv=kv,
        n_kv_heads=kv_heads,
    )


def _open_model(located: Located, dtype: torch.dtype) -> PreTrainedModel:
    """Read weights in ``dtype``, from safetensors only."""
    try:
        with _quiet():
            config = AutoConfig.from_pretrained(located.name, **located.options)
            anatomy_of(config)
            loaded: Any = _auto_class(config).from_pretrained(
                located.name,
                config=config,
                dtype=dtype,
                output_loading_info=True,
                use_safetensors=True,
                **located.options,
            )
        model: PreTrainedModel
        info: dict[str, Any]
        model, info = loaded
    except MechshiftError:
        raise
    except Exception as error:
        raise ModelError(
            f"The model at {located.name} can't be read, so fetch or train it again: "
            f"{_short(error)}"
        ) from error
    lacking = sorted(info["missing_keys"]) + sorted(map(str, info["mismatched_keys"]))
    if lacking:
        raise ModelError(
            f"The model at {located.name} lacks {len(lacking)} weights, such as {lacking[0]}: "
            "fetch or train it again."
        )
    return model


def _auto_class(config: Any) -> Any:
    """``AutoModelForCausalLM``, but ``AutoModel`` where only that has the model (Dream).

    A model that has no unembedding is found out by its anatomy.
    """
    remote = getattr(config, "auto_map", None) or {}
    known = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING or "AutoModelForCausalLM" in remote
    return AutoModelForCausalLM if known else AutoModel


def _merge_adapter(model: PreTrainedModel, path: Path) -> PreTrainedModel:
    """Add a LoRA adapter's product to the weights."""
    from peft import PeftModel

    if not (path / "adapter_model.safetensors").is_file():
        raise ModelError(f"Adapter folder {path} has no adapter_model.safetensors: train it first.")
    try:
        with _quiet(), warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            adapted: Any = PeftModel.from_pretrained(model, str(path))
            merged: PreTrainedModel = adapted.merge_and_unload()
    except Exception as error:
        raise ModelError(
            f"The adapter at {path} can't be read, so train it again: {_short(error)}"
        ) from error
    return merged


def _open_tokenizer(located: Located) -> Any:
    if not located.has_tokenizer:
        return None
    try:
        with _quiet():
            return _tokenizer_class(located).from_pretrained(located.name, **located.options)
    except Exception as error:
        raise ModelError(
            f"The tokenizer at {located.name} can't be read: {_short(error)}"
        ) from error


def _tokenizer_class(located: Located) -> Any:
    """The plain fast tokenizer where a folder declares it, else what transformers chooses.

    For a Qwen2 model, transformers takes its own Qwen2 tokenizer whatever the folder declares, and
    so would split a word-level tokenizer's text into bytes.
    """
    path = Path(located.name) / "tokenizer_config.json"
    declared = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    plain = declared.get("tokenizer_class") in ("TokenizersBackend", "PreTrainedTokenizerFast")
    return PreTrainedTokenizerFast if plain else AutoTokenizer


def _mask_id(tokenizer: Any, token: str, model: PreTrainedModel) -> int:
    """Id of the mask token.

    Raises:
        ModelError: there is no tokenizer, it doesn't know the token, or the embedding is too short.
    """
    if tokenizer is None:
        raise ModelError(f"Mask token {token!r} can't be found: the folder has no tokenizer.")
    mask_id = tokenizer.get_vocab().get(token)
    if mask_id is None:
        raise ModelError(f"The tokenizer has no mask token {token!r}: name one that it has.")
    if mask_id >= embedding_rows(model):
        raise ModelError(f"Mask token {token!r} has id {mask_id}, beyond the model's embedding.")
    return int(mask_id)


def _short(error: Exception) -> str:
    """The first line of an error, at most 200 characters."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Loading without progress bars and notices."""
    bar, level = hf_logging.is_progress_bar_enabled(), hf_logging.get_verbosity()
    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()):  # the GGUF reader has a bar of its own
            yield
    finally:
        hf_logging.set_verbosity(level)
        if bar:
            hf_logging.enable_progress_bar()
