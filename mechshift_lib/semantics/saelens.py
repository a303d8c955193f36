"""Export of SAEs in the layout that SAELens reads (``SAE.load_from_disk``).

A folder with ``cfg.json`` and ``sae_weights.safetensors``: a BatchTopK SAE is at inference a
JumpReLU SAE whose features share one threshold (Bussmann et al. 2024, arXiv 2412.06410). Centring
and scaling are folded into its weights, so that it reads a model's own activations. SAELens has no
crosscoders.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file

from mechshift_lib.errors import ModelError
from mechshift_lib.results.atomic import write_atomic
from mechshift_lib.semantics.dictionary import Dictionary

WEIGHTS, CONFIG = "sae_weights.safetensors", "cfg.json"
#: First version of SAELens whose layout this is.
LAYOUT = "6.0.0"


def export_saelens(folder: Path, dictionary: Dictionary, hook: str) -> Path:
    """Write an SAE for SAELens.

    Args:
        folder: is made where it isn't there.
        dictionary: an SAE.
        hook: where it reads the model, such as ``model.layers.3``: the input of that module.

    Returns:
        The folder.

    Raises:
        ModelError: the dictionary is a crosscoder.
    """
    if dictionary.n_models != 1:
        raise ModelError(
            f"SAELens has no crosscoders, and this one is of {dictionary.n_models} models: export "
            "an SAE."
        )
    mean, scale = dictionary.mean[0], dictionary.scale[0]
    encoder, bias = dictionary.encoder[0], dictionary.bias[0]
    tensors = {
        "W_enc": encoder / scale,
        "b_enc": dictionary.encoder_bias - (mean / scale + bias) @ encoder,
        "W_dec": dictionary.decoder[:, 0] * scale,
        "b_dec": bias * scale + mean,
        "threshold": dictionary.threshold.expand(dictionary.n_features),
    }
    config = {
        "architecture": "jumprelu",
        "d_in": dictionary.encoder.shape[1],
        "d_sae": dictionary.n_features,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"hook_name": hook, "sae_lens_version": LAYOUT, "mechshift": dictionary.about},
    }
    whole = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    write_atomic(folder / WEIGHTS, lambda temporary: save_file(whole, temporary))
    text = json.dumps(config, indent=2, sort_keys=True)
    write_atomic(folder / CONFIG, text)
    return folder
