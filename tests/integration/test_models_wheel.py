"""The real pre-trained model inside a wheel: hash, conversion and what it says."""

import pytest
import torch

from mechshift_lib.config import load_pair
from mechshift_lib.documents.cache import cache_root
from mechshift_lib.models.loading import load_model

ARM = load_pair("smollm2-135m").model("arm")


@pytest.fixture(scope="module")
def model():
    """The published model, without what it was taught here."""
    return load_model(ARM.model_copy(update={"adapter": None}))


def test_it_is_the_model_that_the_pair_declares(model):
    assert (model.n_layers, model.n_heads, model.n_kv_heads, model.d_model) == (30, 9, 3, 576)
    assert model.hf.dtype == torch.float32
    assert model.attention == "causal"


def usual(model):
    """What a model says to the usual IOI prompt, and how probable it finds that."""
    prompt = "When John and Mary went to the store, John gave a drink to"
    logits = model.logits(torch.tensor([model.tokenizer(prompt).input_ids]))[0, -1]
    return model.tokenizer.decode([int(logits.argmax())]), float(logits.softmax(0).max())


def test_it_answers_the_usual_ioi_prompt(model):
    assert usual(model) == (" Mary", pytest.approx(0.91, abs=0.02))


def test_what_it_was_taught_makes_it_surer(model):
    said, probability = usual(load_model(ARM))
    assert said == " Mary"
    assert probability > usual(model)[1]


def test_the_conversion_is_kept(model):
    folders = [f for f in cache_root().iterdir() if f.name.startswith("SmolLM2-135M-Instruct")]
    assert folders
    assert all((folder / "model.safetensors").is_file() for folder in folders)
