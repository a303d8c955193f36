"""Models that a browser can run: small folders of Llama or Qwen2, read without torch.

A model is left out where the page would compute anything else than transformers: every setting that
it doesn't know must have the value at which it does nothing, and every tensor must be known.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from mechshift_lib.config import ROOT, FolderSource, ModelSpec
from mechshift_lib.errors import ModelError

#: Numbers in the weights of the largest model that a page loads.
LARGEST = 4_000_000
KINDS = ("llama", "qwen2")
#: Settings of a config, and the values at which they change nothing.
PLAIN: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "mlp_bias": (False, None),
    "use_sliding_window": (False, None),
    "sliding_window": (None,),
    "rope_scaling": (None,),
}
#: Name of a layer's tensor in the folder -> name in the page; biases follow their weights.
LAYER = {
    "input_layernorm.weight": "attn_norm",
    "self_attn.q_proj.weight": "q",
    "self_attn.q_proj.bias": "q_bias",
    "self_attn.k_proj.weight": "k",
    "self_attn.k_proj.bias": "k_bias",
    "self_attn.v_proj.weight": "v",
    "self_attn.v_proj.bias": "v_bias",
    "self_attn.o_proj.weight": "o",
    "post_attention_layernorm.weight": "mlp_norm",
    "mlp.gate_proj.weight": "gate",
    "mlp.up_proj.weight": "up",
    "mlp.down_proj.weight": "down",
}
OUTSIDE = {
    "model.embed_tokens.weight": "embed",
    "model.norm.weight": "norm",
    "lm_head.weight": "unembed",
}
#: Tensors that not every model has.
OPTIONAL = {"q_bias", "k_bias", "v_bias", "unembed"}


@dataclass(frozen=True)
class Weights:
    """A model as the page needs it.

    Attributes:
        config: what the page computes with, without what the pair's file says of the model.
        tensors: by the page's names, float16 or float32, all of one kind.
    """

    config: dict[str, Any]
    tensors: dict[str, NDArray[Any]]


def read_weights(spec: ModelSpec, root: Path = ROOT) -> Weights | None:
    """A model of a pair, or None where the page can't run it or its folder isn't here.

    Raises:
        ModelError: its config or its weights are damaged.
    """
    if not isinstance(spec.source, FolderSource) or spec.adapter is not None:
        return None
    folder = root / spec.source.path
    path = folder / "model.safetensors"
    if not path.is_file():
        return None
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        found = _shape(config)
        if found is None:
            return None
        with safe_open(path, framework="numpy") as file:
            names = _names(set(file.keys()), found["layers"])
            if names is None or ("lm_head.weight" in names) == found.pop("tied"):
                return None
            sizes = [np.prod(file.get_slice(name).get_shape()) for name in names]
            kinds = {file.get_slice(name).get_dtype() for name in names}
            if sum(sizes) > LARGEST or kinds not in ({"F16"}, {"F32"}):
                return None
            tensors = {short: file.get_tensor(name) for name, short in names.items()}
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(f"{folder} is damaged: take it from the repository again.") from error
    return Weights(found | {"vocabulary": len(tensors["embed"])}, tensors)


def _shape(config: dict[str, Any]) -> dict[str, Any] | None:
    """What the page computes with; None where something is set that it doesn't know."""
    rope = config.get("rope_parameters") or {"rope_type": "default"}
    known = (
        config["model_type"] in KINDS
        and rope.get("rope_type") == "default"
        and all(config.get(name, values[0]) in values for name, values in PLAIN.items())
    )
    if not known:
        return None
    width, heads = config["hidden_size"], config["num_attention_heads"]
    return {
        "layers": config["num_hidden_layers"],
        "heads": heads,
        "kvHeads": config.get("num_key_value_heads") or heads,
        "width": width,
        "dHead": config.get("head_dim") or width // heads,
        "positions": config["max_position_embeddings"],
        "theta": rope.get("rope_theta", config.get("rope_theta", 10000.0)),
        "epsilon": config["rms_norm_eps"],
        "tied": bool(config.get("tie_word_embeddings", False)),
    }


def _names(there: set[str], layers: int) -> dict[str, str] | None:
    """Name in the folder -> name in the page; None where one is missing or not known."""
    known = dict(OUTSIDE)
    for layer in range(layers):
        known |= {f"model.layers.{layer}.{name}": f"{layer}.{s}" for name, s in LAYER.items()}
    missing = {known[name].rpartition(".")[2] for name in set(known) - there}
    if there - set(known) or missing - OPTIONAL:
        return None
    return {name: short for name, short in known.items() if name in there}
