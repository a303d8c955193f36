"""Where the literal transformer finds the weights of a Hugging Face model.

Written without the library's anatomies, so that a mistake there shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu
from transformers import PreTrainedModel

from tests.support.rotary import rotate


class Parts:
    """A model with Llama's names: Llama, Qwen2, Qwen3, Mistral, Gemma, OLMo and Dream."""

    parallel = False

    def __init__(self, model: PreTrainedModel) -> None:
        """Read the numbers of the model, which may have been ungrouped."""
        self.model: Any = model
        self.config: Any = model.config
        self.n_heads = self.config.num_attention_heads
        self.n_kv_heads = getattr(self.config, "num_key_value_heads", None) or self.n_heads
        self.d_head = (
            getattr(self.config, "head_dim", None) or self.config.hidden_size // self.n_heads
        )

    def slice(self, head: int) -> slice:
        """A head's rows of its projection."""
        return slice(head * self.d_head, (head + 1) * self.d_head)

    def embed(self, ids: Tensor) -> Tensor:
        """Output of ``input``."""
        return self.model.model.embed_tokens(ids)

    @property
    def layers(self) -> Any:
        """The layers."""
        return self.model.model.layers

    def norms(self, layer: Any) -> tuple[Any, Any]:
        """Norms in front of attention and of the MLP."""
        return layer.input_layernorm, layer.post_attention_layernorm

    def project(self, layer: Any, part: str, head: int, x: Tensor) -> Tensor:
        """A head's q, k or v ``[batch, pos, d_head]`` of the norm's output, before positions."""
        linear = getattr(layer.self_attn, f"{part}_proj")
        y = x @ linear.weight[self.slice(head)].T
        y = y if linear.bias is None else y + linear.bias[self.slice(head)]
        norm = getattr(layer.self_attn, f"{part}_norm", None)
        return y if norm is None else norm(y)

    def turn(self, x: Tensor) -> Tensor:
        """Positions into q or k."""
        rope = getattr(self.config, "rope_parameters", None) or {}
        base = rope.get("rope_theta") or self.config.rope_theta
        width = int(self.d_head * rope.get("partial_rotary_factor", 1.0))
        return rotate(x, torch.arange(x.shape[1]), base, width)

    def write(self, layer: Any, head: int, z: Tensor) -> Tensor:
        """What a head adds to the stream, without the bias of the output projection."""
        return z @ layer.self_attn.o_proj.weight[:, self.slice(head)].T

    def bias(self, layer: Any) -> Tensor | None:
        """Bias of the output projection."""
        return layer.self_attn.o_proj.bias

    def mlp(self, layer: Any, x: Tensor) -> Tensor:
        """What the MLP adds, from its norm's output."""
        return layer.mlp(x)

    def logits(self, stream: Tensor) -> Tensor:
        """Logits of the final residual stream."""
        return self.model.lm_head(self.model.model.norm(stream))


class Phi3Parts(Parts):
    """Phi-3: Llama's names but for one projection."""

    def project(self, layer: Any, part: str, head: int, x: Tensor) -> Tensor:
        """All q, then all k, then all v, of which there are fewer."""
        before = {"q": 0, "k": self.n_heads, "v": self.n_heads + self.n_kv_heads}[part]
        return x @ layer.self_attn.qkv_proj.weight[self.slice(before + head)].T


class Gpt2Parts(Parts):
    """GPT-2: fused projections stored as columns, learned positions, biases everywhere."""

    def embed(self, ids: Tensor) -> Tensor:
        """Token plus position."""
        transformer = self.model.transformer
        return transformer.wte(ids) + transformer.wpe(torch.arange(ids.shape[1]))

    @property
    def layers(self) -> Any:
        """The layers."""
        return self.model.transformer.h

    def norms(self, layer: Any) -> tuple[Any, Any]:
        """Norms in front of attention and of the MLP."""
        return layer.ln_1, layer.ln_2

    def project(self, layer: Any, part: str, head: int, x: Tensor) -> Tensor:
        """All q, then all k, then all v."""
        shift = "qkv".index(part) * self.n_heads * self.d_head
        rows = self.slice(head)
        columns = slice(shift + rows.start, shift + rows.stop)
        fused = layer.attn.c_attn
        return x @ fused.weight[:, columns] + fused.bias[columns]

    def turn(self, x: Tensor) -> Tensor:
        """Positions are in the embedding."""
        return x

    def write(self, layer: Any, head: int, z: Tensor) -> Tensor:
        """Rows of the output projection are inputs."""
        return z @ layer.attn.c_proj.weight[self.slice(head)]

    def bias(self, layer: Any) -> Tensor | None:
        """Bias of the output projection."""
        return layer.attn.c_proj.bias

    def logits(self, stream: Tensor) -> Tensor:
        """Logits of the final residual stream."""
        return self.model.lm_head(self.model.transformer.ln_f(stream))


class NeoxParts(Parts):
    """GPT-NeoX and Pythia: fused projections head by head, parallel layers or not."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Whether layers are parallel is the model's own choice."""
        super().__init__(model)
        self.parallel = self.config.use_parallel_residual

    def embed(self, ids: Tensor) -> Tensor:
        """Output of ``input``."""
        return self.model.gpt_neox.embed_in(ids)

    @property
    def layers(self) -> Any:
        """The layers."""
        return self.model.gpt_neox.layers

    def project(self, layer: Any, part: str, head: int, x: Tensor) -> Tensor:
        """q, k and v of head 0, then those of head 1, and so on."""
        start = (3 * head + "qkv".index(part)) * self.d_head
        fused = layer.attention.query_key_value
        rows = slice(start, start + self.d_head)
        return x @ fused.weight[rows].T + fused.bias[rows]

    def write(self, layer: Any, head: int, z: Tensor) -> Tensor:
        """What a head adds to the stream."""
        return z @ layer.attention.dense.weight[:, self.slice(head)].T

    def bias(self, layer: Any) -> Tensor | None:
        """Bias of the output projection."""
        return layer.attention.dense.bias

    def logits(self, stream: Tensor) -> Tensor:
        """Logits of the final residual stream."""
        return self.model.lm_head(self.model.gpt_neox.final_layer_norm(stream))


class LladaParts(Parts):
    """LLaDA: numbers and modules of its own names."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Read the numbers by LLaDA's names."""
        self.model, self.config = model, model.config
        self.n_heads, self.n_kv_heads = self.config.n_heads, self.config.n_kv_heads
        self.d_head = self.config.d_model // self.n_heads

    def embed(self, ids: Tensor) -> Tensor:
        """Output of ``input``."""
        return self.model.model.transformer.wte(ids)

    @property
    def layers(self) -> Any:
        """The layers."""
        return self.model.model.transformer.blocks

    def norms(self, layer: Any) -> tuple[Any, Any]:
        """Norms in front of attention and of the MLP."""
        return layer.attn_norm, layer.ff_norm

    def project(self, layer: Any, part: str, head: int, x: Tensor) -> Tensor:
        """A head's q, k or v."""
        return x @ getattr(layer, f"{part}_proj").weight[self.slice(head)].T

    def write(self, layer: Any, head: int, z: Tensor) -> Tensor:
        """What a head adds to the stream."""
        return z @ layer.attn_out.weight[:, self.slice(head)].T

    def bias(self, layer: Any) -> Tensor | None:
        """There is none."""
        return None

    def mlp(self, layer: Any, x: Tensor) -> Tensor:
        """The gated MLP written out."""
        return layer.ff_out(silu(layer.ff_proj(x)) * layer.up_proj(x))

    def logits(self, stream: Tensor) -> Tensor:
        """Logits by the unembedding, or by the embedding where it is tied."""
        transformer = self.model.model.transformer
        rows = transformer.wte if self.config.weight_tying else transformer.ff_out
        return transformer.ln_f(stream) @ rows.weight.T


KINDS: dict[str, Callable[[PreTrainedModel], Parts]] = {
    "phi3": Phi3Parts,
    "gpt2": Gpt2Parts,
    "gpt_neox": NeoxParts,
    "llada": LladaParts,
}


def parts_of(model: PreTrainedModel) -> Parts:
    """Where this model's weights are."""
    return KINDS.get(model.config.model_type, Parts)(model)
