"""General texts: sampled from a tiny model, read from an SQLite file."""

from __future__ import annotations

import sqlite3
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mechshift_lib.diffusion.evaluation import InTraining, general_text
from mechshift_lib.diffusion.recipe import Architecture, Corpus
from mechshift_lib.diffusion.scratch import build_model
from mechshift_lib.diffusion.texts import OPENINGS, corpus_texts, cut, read_texts, sample_texts
from mechshift_lib.errors import ConfigError, ModelError
from mechshift_lib.models.sources import sha256
from mechshift_lib.tasks.tokenizer import build_word_tokenizer

SHAPE = Architecture(
    kind="llama", hidden_size=16, intermediate_size=16, layers=2, heads=2, kv_heads=1
)


def test_sampled_texts_begin_with_the_openings_and_repeat_with_the_seed() -> None:
    tokenizer = build_word_tokenizer()
    model = build_model(SHAPE, tokenizer, seed=3).eval()
    one, two, other = (sample_texts(model, tokenizer, 5, 12, seed) for seed in (0, 0, 1))
    assert one == two
    assert one != other
    assert len(one) == 5
    assert len(OPENINGS) >= 5


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "texts.db"
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE verses (n INT, text TEXT)")
        rows = [(2, "1:2 And  then\nno more."), (1, "1:1 In the beginning."), (3, "1:3 ")]
        made.executemany("INSERT INTO verses VALUES (?, ?)", rows)
    made.close()
    return path


def test_a_corpus_is_read_in_order_without_numbers_and_empty_rows(database: Path) -> None:
    query = "SELECT text FROM verses ORDER BY n"
    assert read_texts(database, query, r"\d+:\d+ ") == ["In the beginning.", "And then no more."]
    with pytest.raises(ConfigError, match="can't be asked 'SELECT x"):
        read_texts(database, "SELECT x FROM verses")
    with pytest.raises(ConfigError, match=r"readonly|read-only"):
        read_texts(database, "DELETE FROM verses")


def test_a_corpus_is_the_declared_one(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = Corpus(
        distribution="verses",
        version="1.0",
        file=database.name,
        sha256=sha256(database),
        query="SELECT text FROM verses ORDER BY n",
        strip=r"\d+:\d+ ",
    )
    with pytest.raises(ModelError, match=r"--no-deps verses==1\.0"):
        corpus_texts(declared)
    installed = SimpleNamespace(version="1.0", locate_file=lambda file: database.parent / file)
    monkeypatch.setattr(metadata, "distribution", lambda name: installed)
    assert corpus_texts(declared) == ["In the beginning.", "And then no more."]
    for wrong in ({"sha256": "0" * 64}, {"version": "2.0"}, {"file": "absent.db"}):
        with pytest.raises(ModelError, match="not the one that the recipe declares"):
            corpus_texts(declared.model_copy(update=wrong))


def test_long_texts_are_cut_and_single_tokens_left_out() -> None:
    tokenizer = build_word_tokenizer()
    plain = "the dog gave the book to the"
    ids = tokenizer(plain)["input_ids"]
    [found] = cut([plain], tokenizer, 4)
    assert tokenizer(found)["input_ids"] == ids[:4]


class Parrot:
    """Says at every place what stands in ``right``, with a certainty that is known."""

    readout = InTraining(torch.nn.Linear(1, 1), None).readout

    def __init__(self, right: list[int], mask_id: int | None) -> None:
        self.right, self.mask_id = torch.tensor(right), mask_id
        self.seen: list[torch.Tensor] = []

    def logits(self, ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> Any:
        self.seen.append(ids)
        return 3.0 * F.one_hot(self.right.roll(-1), 10).float().expand(len(ids), -1, -1)


def test_general_text_is_scored_at_masked_tokens_alone() -> None:
    text = [1, 2, 3, 4, 5, 6]
    certain = float(-torch.log_softmax(torch.tensor([3.0] + 9 * [0.0]), 0)[0])
    parrot = Parrot(text, 9)
    found = general_text(parrot, [text] * 3)
    assert found["general_loss"] == pytest.approx([certain] * 4)
    assert found["general_right"] == [1.0] * 4
    assert found["general_infilling"] == 1.0
    hidden = [(ids == 9).float().mean().item() for ids in parrot.seen[:4]]
    assert np.all(np.diff(hidden) > 0)
    assert all((ids[:, 0] == 1).all() for ids in parrot.seen)
    assert torch.equal((parrot.seen[-1] == 9).sum(1), torch.ones(12, dtype=torch.long))
    wrong = general_text(Parrot([1, 3, 4, 5, 6, 7], 9), [text])
    assert wrong["general_infilling"] == 0.0
    assert general_text(Parrot(text, None), [text])["general_next"] == pytest.approx(certain)
    assert general_text(parrot, []) == {}
