"""A small model with LLaDA's names and habits.

Configuration fields of its own; layers that hold attention and MLP without modules for them and
return tuples; attention in both directions that ignores masks; an unembedding of its own or tied.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention, silu
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from tests.support.rotary import rotate


class LLaDAConfig(PretrainedConfig):
    """The numbers of a small LLaDA."""

    model_type = "llada"

    def __init__(
        self,
        vocab_size: int = 40,
        d_model: int = 32,
        mlp_hidden_size: int = 48,
        n_layers: int = 2,
        n_heads: int = 4,
        n_kv_heads: int = 2,
        max_sequence_length: int = 32,
        weight_tying: bool = False,
        rms_norm_eps: float = 1e-5,
        rope_theta: float = 10000.0,
        initializer_range: float = 0.15,
        **others: Any,
    ) -> None:
        """Numbers by their names in LLaDA's configuration."""
        self.vocab_size = vocab_size
        self.d_model = d_model
        self.mlp_hidden_size = mlp_hidden_size
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.n_kv_heads = n_kv_heads
        self.max_sequence_length = max_sequence_length
        self.weight_tying = weight_tying
        self.rms_norm_eps = rms_norm_eps
        self.rope_theta = rope_theta
        self.initializer_range = initializer_range
        super().__init__(**others)


class RMSLayerNorm(nn.Module):
    """RMSNorm with LLaDA's attribute names."""

    def __init__(self, width: int, eps: float) -> None:
        """A gain and an epsilon."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Output ``[batch, pos, d_model]``."""
        wide = x.float()
        scale = (wide.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return self.weight * (wide * scale).to(x.dtype)


class LLaDALlamaBlock(nn.Module):
    """One layer, without modules for attention and MLP."""

    def __init__(self, config: LLaDAConfig) -> None:
        """Everything without biases."""
        super().__init__()
        self.config = config
        width, hidden = config.d_model, config.mlp_hidden_size
        narrow = width // config.n_heads * config.n_kv_heads
        self.attn_norm = RMSLayerNorm(width, config.rms_norm_eps)
        self.ff_norm = RMSLayerNorm(width, config.rms_norm_eps)
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, narrow, bias=False)
        self.v_proj = nn.Linear(width, narrow, bias=False)
        self.attn_out = nn.Linear(width, width, bias=False)
        self.ff_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.ff_out = nn.Linear(hidden, width, bias=False)

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Output of attention, ``[batch, pos, d_model]``."""
        batch, length, width = q.shape
        heads, kv_heads = self.config.n_heads, self.config.n_kv_heads
        head = width // heads
        q = q.view(batch, length, heads, head).transpose(1, 2)
        k, v = (y.view(batch, length, kv_heads, head).transpose(1, 2) for y in (k, v))
        positions = torch.arange(length, device=q.device)
        q, k = (rotate(y, positions, self.config.rope_theta, head) for y in (q, k))
        k, v = (y.repeat_interleave(heads // kv_heads, 1) for y in (k, v))
        z = scaled_dot_product_attention(q, k, v, attn_mask=None, is_causal=False)
        return self.attn_out(z.transpose(1, 2).reshape(batch, length, width))

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """The residual stream ``[batch, pos, d_model]`` and, as without cache, nothing else."""
        normed = self.attn_norm(x)
        x = x + self.attention(self.q_proj(normed), self.k_proj(normed), self.v_proj(normed))
        normed = self.ff_norm(x)
        return x + self.ff_out(silu(self.ff_proj(normed)) * self.up_proj(normed)), None


class LLaDAModel(PreTrainedModel):
    """Everything, in a dictionary of modules named ``transformer``."""

    config_class = LLaDAConfig
    base_model_prefix = "model"
    _supports_sdpa = True

    def __init__(self, config: LLaDAConfig) -> None:
        """Build the modules."""
        super().__init__(config)
        blocks = [LLaDALlamaBlock(config) for _ in range(config.n_layers)]
        modules: dict[str, nn.Module] = {
            "wte": nn.Embedding(config.vocab_size, config.d_model),
            "emb_drop": nn.Dropout(0.0),
            "ln_f": RMSLayerNorm(config.d_model, config.rms_norm_eps),
            "blocks": nn.ModuleList(blocks),
        }
        if not config.weight_tying:
            modules["ff_out"] = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.transformer = nn.ModuleDict(modules)
        self.post_init()

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits ``[batch, pos, vocab]``."""
        x = self.transformer.emb_drop(self.transformer.wte(input_ids))
        for block in self.transformer.blocks:
            x, _ = block(x)
        x = self.transformer.ln_f(x)
        if self.config.weight_tying:
            return linear(x, self.transformer.wte.weight)
        return self.transformer.ff_out(x)


class LLaDAModelLM(PreTrainedModel):
    """The whole model."""

    config_class = LLaDAConfig
    base_model_prefix = "model"
    _supports_sdpa = True

    def __init__(self, config: LLaDAConfig) -> None:
        """Build the modules."""
        super().__init__(config)
        self.model = LLaDAModel(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The embedding."""
        return self.model.transformer.wte

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        use_cache: bool | None = None,
    ) -> CausalLMOutputWithPast:
        """Logits ``[batch, pos, vocab]``; the inner model is not called as a module."""
        return CausalLMOutputWithPast(logits=self.model.forward(input_ids))
