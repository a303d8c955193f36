"""The guide of the book to a new architecture: the page includes these lines, and they run."""

import pytest
import torch
from transformers import Starcoder2Config, Starcoder2ForCausalLM

from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.errors import ModelError
from mechshift_lib.models.loading import load_folder
from tests.support.tiny import VOCABULARY, tiny_items


@pytest.fixture
def folder(tmp_path):
    """A random StarCoder2: Llama's names with LayerNorms, biases, and an MLP that isn't gated."""
    torch.manual_seed(0)
    config = Starcoder2Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        initializer_range=0.15,
        bos_token_id=0,
        eos_token_id=0,
    )
    Starcoder2ForCausalLM(config).save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """What the guide registers is forgotten after a test."""
    from mechshift_lib.models import architectures

    monkeypatch.setattr(architectures, "ANATOMIES", dict(architectures.ANATOMIES))


def test_a_new_architecture_is_one_dataclass(folder):
    with pytest.raises(ModelError, match="Architecture 'starcoder2' is unknown"):
        load_folder(folder)

    # [describe]
    from mechshift_lib.models.anatomy import Anatomy
    from mechshift_lib.models.architectures import register

    starcoder2 = Anatomy(
        model_type="starcoder2",
        embed="model.embed_tokens",
        layers="model.layers",
        attn="self_attn",
        attn_norm="input_layernorm",
        q="self_attn.q_proj",
        k="self_attn.k_proj",
        v="self_attn.v_proj",
        o="self_attn.o_proj",
        mlp_norm="post_attention_layernorm",
        mlp="mlp",
        mlp_out="mlp.c_proj",
        final_norm="model.norm",
        unembed="lm_head",
        norm="layer",
    )
    register(starcoder2)
    # [load]
    model = load_folder(folder)  # proves the anatomy
    scores = attribute(model, tiny_items(2)).scores
    # [end]

    first, second = 12 * 1 + 5, 12 * 6 + 10  # readers times what they see: q, k and v, the MLP
    assert scores.shape == (first + second + 11,)  # and the logits
    assert abs(scores).max() > 1e-2
    assert load_folder(folder, attention="full").attention == "full"


def test_a_mistake_is_said_in_one_sentence(folder):
    from dataclasses import replace

    from mechshift_lib.models.architectures import LLAMA, register

    # [mistake]
    register(replace(LLAMA, model_type="starcoder2", mlp_out="mlp.c_proj"))
    with pytest.raises(ModelError, match="isn't that of an RMSNorm with its gain"):
        load_folder(folder)
    # [end of mistake]
