"""What tokens see: proven in every layer, at every distance, whatever the weights are."""

from types import MethodType

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from mechshift_lib.errors import ModelError
from mechshift_lib.models import attention
from mechshift_lib.models.anatomy import at
from mechshift_lib.models.attention import sliding_window
from mechshift_lib.models.loading import load_folder, wrap_model
from tests.support.tiny import CASES, VOCABULARY, tiny_hf

WINDOW = 4


def windowed_hf(**changes):
    """A Qwen2 of three layers, the last two of which see four tokens."""
    torch.manual_seed(0)
    config = Qwen2Config(
        **{
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 32,
            "initializer_range": 0.15,
            "use_sliding_window": True,
            "sliding_window": WINDOW,
            "max_window_layers": 1,
            **changes,
        }
    )
    return Qwen2ForCausalLM(config).eval()


def masked(hf, index, allowed):
    """Let one layer see by a rule of its own: ``allowed(length)`` is ``[pos, pos]``, bool."""
    module = hf.model.layers[index].self_attn
    own = type(module).forward

    def forward(self, hidden_states, attention_mask=None, **options):
        return own(self, hidden_states, attention_mask=allowed(hidden_states.shape[1]), **options)

    module.forward = MethodType(forward, module)
    return hf


def causal_but(token, other):
    """Causal attention, but for one token that sees one later one."""

    def allowed(length):
        seen = torch.ones(length, length, dtype=torch.bool).tril()
        if length > max(token, other):
            seen[token, other] = True
        return seen

    return allowed


def full_but_far(length):
    """Everything within eight tokens."""
    places = torch.arange(length)
    return (places[:, None] - places).abs() < 8


def test_a_token_that_sees_one_later_one_in_one_layer_is_found():
    assert wrap_model(masked(tiny_hf(), 1, causal_but(0, 0))).attention == "causal"
    with pytest.raises(ModelError, match="in layer 1 token 10 of 32 sees token 31: declare 'full'"):
        wrap_model(masked(tiny_hf(), 1, causal_but(10, 31)))
    with pytest.raises(ModelError, match="token 1 sees the last: declare 'full'"):
        wrap_model(masked(tiny_hf(), 1, causal_but(1, 3)))


def test_a_layer_that_stays_causal_under_full_attention_is_found():
    """The first token does see the last: through the other layer."""
    hf = masked(tiny_hf(), 1, causal_but(0, 0))
    with pytest.raises(ModelError, match="in layer 1 token 0 of 32 doesn't see token 4"):
        wrap_model(hf, attention="full")


def test_code_that_hides_what_is_far_is_found():
    hf = masked(tiny_hf(), 0, full_but_far)
    with pytest.raises(ModelError, match="in layer 0 token 0 of 32 doesn't see token 9"):
        wrap_model(hf, attention="full")


@pytest.mark.parametrize(("architecture", "declared"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_seen_does_not_depend_on_the_weights(architecture, declared, dtype):
    """Scores so large that a token attends to one other alone."""
    hf = tiny_hf(architecture).to(dtype)
    anatomy = wrap_model(tiny_hf(architecture), attention="full").anatomy
    with torch.no_grad():
        for index in range(2):
            path = anatomy.fused or anatomy.q
            at(anatomy.layer(hf, index), path).weight.mul_(30)
    model = wrap_model(hf, attention=declared)
    attention.check_layers(model.hf, model.lm, model.anatomy, declared)
    other = "full" if declared == "causal" else "causal"
    with pytest.raises(ModelError, match=f"Attention '{other}' is declared, but in layer 0 token"):
        attention.check_layers(model.hf, model.lm, model.anatomy, other)


def test_windows_are_kept_in_a_causal_model():
    hf = windowed_hf()
    assert sliding_window(hf.config) == WINDOW
    ids = torch.arange(20)[None]
    expected = windowed_hf()(ids).logits.detach()
    torch.testing.assert_close(wrap_model(hf).logits(ids), expected)


@pytest.mark.parametrize("architecture", ["mistral", "phi3"])
def test_a_window_of_all_layers_is_kept_or_taken_away(architecture):
    def hf(window):
        model = tiny_hf(architecture)
        model.config.sliding_window = window
        return model

    ids = torch.arange(20)[None]
    for causal in (True, False):
        found = wrap_model(hf(WINDOW), attention="causal" if causal else "full").logits(ids)
        kept, none = (hf(w)(ids, is_causal=causal).logits.detach() for w in (WINDOW, None))
        assert (kept - none).abs().max() > 1e-2
        torch.testing.assert_close(found, kept if causal else none)


def test_windows_are_taken_away_under_full_attention(tmp_path):
    model = wrap_model(windowed_hf(), attention="full")
    plain = windowed_hf(use_sliding_window=False)
    ids = torch.arange(20)[None]
    torch.testing.assert_close(model.logits(ids), plain(ids, is_causal=False).logits.detach())
    windowed = windowed_hf()(ids, is_causal=False).logits.detach()
    assert (windowed - model.logits(ids)).abs().max() > 1e-2
    model.hf.save_pretrained(tmp_path)
    torch.testing.assert_close(
        load_folder(tmp_path, attention="full").logits(ids), model.logits(ids)
    )


def test_a_window_that_cannot_be_taken_away_is_refused(monkeypatch):
    monkeypatch.setattr(attention, "_widen", lambda model: None)
    with pytest.raises(ModelError, match="in layer 1 token 0 of 32 doesn't see token 9"):
        wrap_model(windowed_hf(), attention="full")


def test_taking_windows_away_must_change_nothing_within_them(monkeypatch):
    def widen(model):
        own(model)
        model.model.rotary_emb.inv_freq.mul_(0.5)  # as where layers turn positions by their kind

    own = attention._widen
    monkeypatch.setattr(attention, "_widen", widen)
    with pytest.raises(ModelError, match="Taking the sliding windows of layers away changed what"):
        wrap_model(windowed_hf(), attention="full")


def test_the_proof_of_a_large_model_is_shorter_but_longer_than_its_window(monkeypatch):
    monkeypatch.setattr(attention, "_widen", lambda model: None)
    monkeypatch.setattr(attention, "_WORK", {"cpu": 1})
    monkeypatch.setattr(attention, "_SHORTEST", 10)
    with pytest.raises(ModelError, match="in layer 1 token 0 of 22 doesn't see token 21"):
        wrap_model(windowed_hf(sliding_window=20), attention="full")
    assert wrap_model(windowed_hf(sliding_window=20)).attention == "causal"
