"""The models in a browser: they compute what torch does, and are asked as the library asks."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mechshift_lib.analyses.study import EXAMPLES_SEED
from mechshift_lib.config import ROOT, load_pair
from mechshift_lib.models.loading import LoadedModel, load_model
from mechshift_lib.play.files import Entry, name_of
from mechshift_lib.tasks import Example, pair_task
from mechshift_lib.tasks.infilling import Infilling
from tests.book.browser import FRAME, ask, serve
from tests.book.make_play import make_play

pytestmark = pytest.mark.browser
PAIRS = ("tiny-qwen", "tiny-llama")
#: Opens models one after the other and answers with what a function makes of each.
EACH = """(async () => {
  const play = w.mechshiftPlay, asked = await (await fetch("/asked.json")).json(), found = [];
  const told = await play.about();
  const model = async (name) => {
    const about = await play.file(name);
    return new play.Model(about, play.floats(about.data, about.dtype));
  };
  const bytes = (floats) => {
    const all = new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength);
    let text = "";
    for (let i = 0; i < all.length; i += 8192) {
      text += String.fromCharCode(...all.subarray(i, i + 8192));
    }
    return btoa(text);
  };
  BODY
  return found;
})()"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engine")


@pytest.fixture(scope="module")
def entries(folder: Path) -> list[Entry]:
    (folder / "frame.html").write_text(FRAME)
    return make_play(folder, PAIRS)


@pytest.fixture(scope="module")
def address(folder: Path, entries: list[Entry]) -> Iterator[str]:
    assert entries
    with serve(folder) as address:
        yield address


def in_browser(address: str, folder: Path, asked: object, body: str) -> Any:
    """What ``body`` put into ``found``, given ``asked``."""
    (folder / "asked.json").write_text(json.dumps(asked))
    found = ask(address, "engine.html", EACH.replace("BODY", body))
    assert not isinstance(found, str), found
    return found


def floats(text: str) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), dtype="<f4").copy())


@lru_cache(maxsize=4)
def loaded(pair: str, role: str, seed: int) -> LoadedModel:
    return load_model(load_pair(pair).model(role, seed))


def examples(pair: str, task: str, n: int) -> list[Example]:
    tokenizer = loaded(pair, "arm", 0).tokenizer
    return pair_task(load_pair(pair), task).examples(tokenizer, n, EXAMPLES_SEED)


def inputs(pair: str, model: LoadedModel) -> list[list[int]]:
    """An input of every task: with its answer for an ARM, with masks for an MDM."""
    found = []
    for task in load_pair(pair).tasks:
        (one,) = examples(pair, task, 1)
        own, mask = pair_task(load_pair(pair), task), model.mask_id
        if mask is None:
            found.append([*one.clean, *one.answer])
            continue
        found.append([*one.clean, *[mask] * len(one.answer)])
        if isinstance(own, Infilling):
            one = own.native(one, model.tokenizer)
            found.append([*one.clean, *[mask] * len(one.answer), *one.after])
    return found


@pytest.mark.parametrize("pair", PAIRS)
def test_logits_are_those_of_torch_for_every_shipped_model(
    address: str, folder: Path, entries: list[Entry], pair: str
) -> None:
    (entry,) = [one for one in entries if one.pair.name == pair]
    there = [(role, seed) for seed, roles in entry.trainings.items() for role in roles]
    shipped = {
        (role, seed)
        for seed in entry.pair.seeds
        for role in ("arm", "mdm", "continued", *entry.pair.variants)
        if (ROOT / entry.pair.model(role, seed).source.path).is_dir()
    }
    assert set(there) == shipped
    asked, wanted = [], []
    for role, seed in there:
        model = loaded(pair, role, seed)
        rows = inputs(pair, model)
        asked.append({"name": name_of(pair, role, seed), "inputs": rows})
        wanted.append([model.logits(torch.tensor([ids]))[0] for ids in rows])
    body = """for (const { name, inputs } of asked) {
      const one = await model(name);
      found.push(inputs.map(ids => bytes(one.run(ids).logits)));
    }"""
    for (role, seed), logits, shown in zip(
        there, wanted, in_browser(address, folder, asked, body), strict=True
    ):
        for expected, text in zip(logits, shown, strict=True):
            torch.testing.assert_close(
                floats(text).view_as(expected), expected, atol=1e-4, rtol=0, msg=f"{role} {seed}"
            )
