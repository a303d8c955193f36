"""Weights in 8 and 4 bits: linear maps still, with the gradients of what is computed."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.circuits.evaluation.faithfulness import faithfulness_curve
from mechshift_lib.circuits.patching.activations import patch_nodes
from mechshift_lib.config import FolderSource, ModelSpec, load_pair
from mechshift_lib.errors import ModelError
from mechshift_lib.models.anatomy import at, rows
from mechshift_lib.models.loading import LoadedModel, load_folder, wrap_model
from mechshift_lib.models.weights import is_quantised
from mechshift_lib.results import model_hash
from tests.support.tiny import tiny_hf, tiny_items

ITEMS = tiny_items(3)
BITS = ("8-bit", "4-bit")
#: Relative error of a weight matrix, at most: 255 values in a row, and 16 in a block.
COARSENESS = {"8-bit": 0.02, "4-bit": 0.15}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    for name in ("llama", "gpt2", "phi3"):
        tiny_hf(name).save_pretrained(root / name)
    return {name: root / name for name in ("llama", "gpt2", "phi3")}


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "phi3"])
def test_linear_weights_are_integers_and_nothing_else(
    folders: dict[str, Path], architecture: str, bits: Any
) -> None:
    plain, small = (
        load_folder(folders[architecture], kv="grouped", quantization=x) for x in (None, bits)
    )
    assert not small.plain
    anatomy, layer = small.anatomy, small.anatomy.layer(small.hf, 0)
    for path in (anatomy.o, anatomy.mlp_out):
        module = at(layer, path)
        assert is_quantised(module)
        assert module.weight.dtype in (torch.int8, torch.uint8)
        original = rows(at(plain.anatomy.layer(plain.hf, 0), path))
        error = (rows(module) - original).norm() / original.norm()
        assert 0 < error < COARSENESS[bits]
    for path in (anatomy.embed, anatomy.unembed, anatomy.final_norm):
        kinds = {p.dtype for p in at(small.hf, path).parameters()}
        assert kinds <= {torch.float32}, path


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_module_is_the_linear_map_of_its_weights(
    folders: dict[str, Path], architecture: str, bits: Any
) -> None:
    """Also backwards, and with outliers, which LLM.int8() would take out of the integers."""
    model = load_folder(folders[architecture], quantization=bits)
    module = at(model.anatomy.layer(model.hf, 0), model.anatomy.o)
    x = torch.randn(2, 5, model.d_model, generator=torch.Generator().manual_seed(0))
    x[0, 0, 3] = 40.0
    x.requires_grad_(True)
    bias = 0 if module.bias is None else module.bias
    found, expected = module(x), x @ rows(module).T + bias
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
    cotangent = torch.randn_like(found)
    (gradient,) = torch.autograd.grad(found, x, cotangent)
    torch.testing.assert_close(gradient, cotangent @ rows(module), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(module(x[:1, :1]), found[:1, :1], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_circuits_are_those_of_the_function_that_is_computed(
    folders: dict[str, Path], architecture: str, bits: Any
) -> None:
    """Against the same weights, turned back into floating point and loaded as any model."""
    small = load_folder(folders[architecture], kv="grouped", quantization=bits)
    twin = _dequantised(small, architecture)
    for method in ("eap-ig", "exact"):
        found, expected = (
            attribute(m, ITEMS, method=method, steps=2).by_example for m in (small, twin)
        )
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, atol=2e-4 * scale)
    one, other = (
        faithfulness_curve(m, ITEMS, attribute(twin, ITEMS).circuit, fractions=(0.2,)).values
        for m in (small, twin)
    )
    np.testing.assert_allclose(one, other, atol=1e-3)
    one, other = (patch_nodes(m, ITEMS).patched for m in (small, twin))
    for site in other:
        np.testing.assert_allclose(one[site], other[site], atol=1e-3)


def _dequantised(model: LoadedModel, architecture: str) -> LoadedModel:
    """A plain model with the weights that a quantised one computes with."""
    hf = tiny_hf(architecture)
    with torch.no_grad():
        for name, module in hf.named_modules():
            own = model.hf.get_submodule(name)
            if is_quantised(own):
                plain: Any = module
                weight = rows(own)
                plain.weight.copy_(weight if isinstance(module, torch.nn.Linear) else weight.T)
    return wrap_model(hf, kv="grouped")


@pytest.mark.parametrize("bits", BITS)
def test_key_and_value_are_repeated_from_the_integers(folders: dict[str, Path], bits: Any) -> None:
    single, shared = (
        load_folder(folders["llama"], kv=kv, quantization=bits) for kv in ("ungrouped", "grouped")
    )
    ids = torch.arange(12).reshape(2, 6)
    torch.testing.assert_close(single.logits(ids), shared.logits(ids), atol=1e-4, rtol=1e-4)


def test_it_is_a_model_of_its_own(folders: dict[str, Path]) -> None:
    spec = ModelSpec(
        source=FolderSource(kind="folder", path=str(folders["llama"])),
        attention="causal",
        readout="next-token",
    )
    hashes = {
        model_hash(spec.model_copy(update={"quantization": x})) for x in (None, "8-bit", "4-bit")
    }
    assert len(hashes) == 3
    assert model_hash(spec.model_copy(update={"device_map": "auto"})) == model_hash(spec)


def test_without_the_package_it_says_what_to_install(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = builtins.__import__

    def lacking(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("bitsandbytes"):
            raise ImportError(name)
        return whole(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(ModelError, match=r"4-bit needs bitsandbytes.*pip install bitsandbytes"):
        load_folder(folders["llama"], quantization="4-bit")


def test_an_adapter_cannot_be_merged_into_integers() -> None:
    spec = load_pair("tiny-llama").model("arm").model_dump()
    with pytest.raises(ValueError, match="an adapter can't be merged into quantised weights"):
        ModelSpec.model_validate(spec | {"adapter": "somewhere", "quantization": "8-bit"})
