"""SAEs as SAELens reads them: its documented layout and its formula, on activations as they are."""

import json

import pytest
import torch
from safetensors.torch import load_file

from mechshift_lib.errors import ModelError
from mechshift_lib.semantics.dictionary import Dictionary, Settings
from mechshift_lib.semantics.saelens import export_saelens

D, F = 6, 9


def dictionary(n_models: int = 1) -> Dictionary:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return Dictionary(
        encoder=draw(n_models, D, F),
        encoder_bias=draw(F),
        decoder=draw(F, n_models, D),
        bias=draw(n_models, D),
        mean=draw(n_models, D),
        scale=draw(n_models).abs() + 0.5,
        threshold=torch.tensor(0.7),
        settings=Settings(F, 2),
        about={"pair": "toy", "layer": 1},
    )


def test_the_exported_weights_give_the_same_features_and_reconstruction(tmp_path):
    one = dictionary()
    folder = export_saelens(tmp_path / "deep" / "sae", one, "model.layers.1")
    assert {path.name for path in folder.iterdir()} == {"cfg.json", "sae_weights.safetensors"}
    w = load_file(folder / "sae_weights.safetensors")
    shapes = {"W_enc": (D, F), "b_enc": (F,), "W_dec": (F, D), "b_dec": (D,), "threshold": (F,)}
    assert {name: tuple(x.shape) for name, x in w.items()} == shapes
    cfg = json.loads((folder / "cfg.json").read_text())
    assert (cfg["architecture"], cfg["d_in"], cfg["d_sae"]) == ("jumprelu", D, F)
    assert (cfg["apply_b_dec_to_input"], cfg["normalize_activations"]) == (False, "none")
    assert cfg["metadata"]["hook_name"] == "model.layers.1"
    # JumpReLUSAE.encode and .decode of SAELens 6, written out.
    x = 3 * torch.randn(50, D)
    before = x @ w["W_enc"] + w["b_enc"]
    features = torch.relu(before) * (before > w["threshold"])
    own = one.encode(x[:, None])
    assert 0 < (own > 0).float().mean() < 0.9
    torch.testing.assert_close(features, own, atol=1e-4, rtol=1e-4)
    made = features @ w["W_dec"] + w["b_dec"]
    torch.testing.assert_close(made, one.decode(own)[:, 0], atol=1e-4, rtol=1e-4)


def test_a_crosscoder_has_no_such_form(tmp_path):
    with pytest.raises(ModelError, match="export an SAE"):
        export_saelens(tmp_path, dictionary(2), "model.layers.1")
    assert not list(tmp_path.iterdir())
