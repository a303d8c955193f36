"""A small model with Dream's names and habits.

Qwen2's module names; attention in both directions whatever the configuration says; key/value heads
counted by the attention module; a mask is handed to scaled dot-product attention as it is; layers
return tuples.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput

from tests.support.rotary import rotate


class DreamConfig(PretrainedConfig):
    """The numbers of a small Dream."""

    model_type = "Dream"

    def __init__(
        self,
        vocab_size: int = 40,
        hidden_size: int = 32,
        intermediate_size: int = 48,
        num_hidden_layers: int = 2,
        num_attention_heads: int = 4,
        num_key_value_heads: int = 2,
        max_position_embeddings: int = 32,
        rms_norm_eps: float = 1e-6,
        rope_theta: float = 10000.0,
        initializer_range: float = 0.15,
        **others: Any,
    ) -> None:
        """Numbers by their names in Dream's configuration."""
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads
        self.max_position_embeddings = max_position_embeddings
        self.rms_norm_eps = rms_norm_eps
        self.rope_theta = rope_theta
        self.initializer_range = initializer_range
        super().__init__(**others)


class DreamAttention(nn.Module):
    """Attention that no configuration makes causal (``causal`` stands for a port gone wrong)."""

    causal = False

    def __init__(self, config: DreamConfig) -> None:
        """Biases on q, k and v only."""
        super().__init__()
        self.config = config
        self.num_heads = config.num_attention_heads
        self.num_key_value_heads = config.num_key_value_heads
        self.num_key_value_groups = self.num_heads // self.num_key_value_heads
        self.head_dim = config.hidden_size // self.num_heads
        narrow = self.num_key_value_heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, narrow)
        self.v_proj = nn.Linear(config.hidden_size, narrow)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(
        self, x: Tensor, mask: Tensor | None, positions: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Output ``[batch, pos, d_model]`` and, as in the original, no attention weights."""
        batch, length, _ = x.shape

        def split(y: Tensor, heads: int) -> Tensor:
            return y.view(batch, length, heads, self.head_dim).transpose(1, 2)

        q = split(self.q_proj(x), self.num_heads)
        k = split(self.k_proj(x), self.num_key_value_heads)
        v = split(self.v_proj(x), self.num_key_value_heads)
        at = positions[:, None]
        q, k = (rotate(y, at, self.config.rope_theta, self.head_dim) for y in (q, k))
        k, v = (y.repeat_interleave(self.num_key_value_groups, 1) for y in (k, v))
        z = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=self.causal)
        return self.o_proj(z.transpose(1, 2).reshape(batch, length, -1)), None


class DreamMLP(nn.Module):
    """Gated MLP."""

    def __init__(self, config: DreamConfig) -> None:
        """No biases."""
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Output ``[batch, pos, d_model]``."""
        return self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))


class DreamRMSNorm(nn.Module):
    """RMSNorm with Qwen2's attribute names."""

    def __init__(self, width: int, eps: float) -> None:
        """A gain and an epsilon."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.variance_epsilon = eps

    def forward(self, x: Tensor) -> Tensor:
        """Output ``[batch, pos, d_model]``."""
        wide = x.float()
        scale = (wide.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()
        return self.weight * (wide * scale).to(x.dtype)


class DreamDecoderLayer(nn.Module):
    """One layer; returns a tuple."""

    def __init__(self, config: DreamConfig) -> None:
        """Attention and MLP, each behind a norm."""
        super().__init__()
        self.self_attn = DreamAttention(config)
        self.mlp = DreamMLP(config)
        self.input_layernorm = DreamRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = DreamRMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, mask: Tensor | None, positions: Tensor) -> tuple[Tensor]:
        """The residual stream ``[batch, pos, d_model]`` in a tuple."""
        x = x + self.self_attn(self.input_layernorm(x), mask, positions)[0]
        return (x + self.mlp(self.post_attention_layernorm(x)),)


class DreamBaseModel(PreTrainedModel):
    """Embedding, layers and final norm."""

    config_class = DreamConfig
    base_model_prefix = "model"
    _supports_sdpa = True

    def __init__(self, config: DreamConfig) -> None:
        """Build the modules."""
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        layers = [DreamDecoderLayer(config) for _ in range(config.num_hidden_layers)]
        self.layers = nn.ModuleList(layers)
        self.norm = DreamRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_init()

    def forward(self, ids: Tensor, mask: Tensor | None, positions: Tensor) -> Tensor:
        """Output of the final norm, ``[batch, pos, d_model]``."""
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, mask, positions)[0]
        return self.norm(x)


class DreamModel(PreTrainedModel):
    """The whole model: Dream's ``AutoModel`` class has the unembedding."""

    config_class = DreamConfig
    base_model_prefix = "model"
    _supports_sdpa = True

    def __init__(self, config: DreamConfig) -> None:
        """Build the modules."""
        super().__init__(config)
        self.model = DreamBaseModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The embedding."""
        return self.model.embed_tokens

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        use_cache: bool | None = None,
    ) -> MaskedLMOutput:
        """Logits ``[batch, pos, vocab]``."""
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        return MaskedLMOutput(
            logits=self.lm_head(self.model(input_ids, attention_mask, position_ids))
        )
