"""A language model that explains neurons: a tiny random one, in a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from mechshift_lib.errors import ModelError
from mechshift_lib.semantics.local_explainer import LocalExplainer
from mechshift_lib.semantics.rules import SPECIAL, Text, places
from mechshift_lib.tasks.tokenizer import build_word_tokenizer

TEXTS = [
    Text((1, 5, 6, 7), (SPECIAL, "Mary", "met", "John"), "filler"),
    Text((1, 8, 9), (SPECIAL, "17", "+"), "filler"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    tokenizer = build_word_tokenizer()
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=512, n_embd=16, n_layer=1, n_head=2)
    config.eos_token_id = config.bos_token_id = tokenizer.eos_token_id
    config.initializer_range = 0.5
    path = tmp_path_factory.mktemp("language-model")
    GPT2LMHeadModel(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_it_explains_and_simulates_every_neuron(folder: Path) -> None:
    where = places(TEXTS)
    explainer = LocalExplainer(folder, TEXTS, where)
    at = np.arange(len(where))
    x = np.random.default_rng(0).normal(size=(len(where), 2))
    said = explainer.explain(x, at)
    assert [one.said for one in said] == [one.said for one in explainer.explain(x, at)]
    assert len({one.said for one in said}) == 2, "each is shown its own activations"
    found = explainer.simulate(said, at)
    assert found.shape == (5, 2)
    assert (found > 0).all()
    assert (found < 9).all()
    # Only the positions that are asked for, in their order.
    assert explainer.simulate(said, at[[4, 1]]) == pytest.approx(found[[4, 1]])


def test_what_is_simulated_is_the_digit_that_the_model_expects(folder: Path) -> None:
    """Literally: the text up to a token alone, and a mean over the ten digits."""
    explainer = LocalExplainer(folder, TEXTS, places(TEXTS))
    [one] = explainer.explain(np.array([[1.0], [0], [0]]), np.arange(3))
    found = explainer.simulate([one], np.arange(3))
    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    tokenizer = build_word_tokenizer()

    def encode(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    ids = encode(
        f"A neuron of a language model responds to {one.said}.\n"
        "Each token has its activation, 0 to 9.\n\n"
    )
    expected = []
    for token in TEXTS[0].tokens:
        ids = ids + encode(f"{token}\t")
        with torch.no_grad():
            last = model(torch.tensor([ids])).logits[0, -1]
        shares = last[[encode(str(d))[0] for d in range(10)]].softmax(-1)
        expected.append(sum(d * float(p) for d, p in enumerate(shares)))
        ids = ids + encode("unknown\n")
    assert found[:, 0] == pytest.approx(expected[1:], rel=1e-4)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no folder"):
        LocalExplainer(tmp_path / "none", TEXTS, places(TEXTS))
    with pytest.raises(ModelError, match="holds no causal language model"):
        LocalExplainer(tmp_path, TEXTS, places(TEXTS))
