"""What runs models in a browser, for tests that hold them against torch and the library."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mechshift_lib.analyses.study import EXAMPLES_SEED
from mechshift_lib.config import load_pair
from mechshift_lib.models.loading import LoadedModel, load_model
from mechshift_lib.play.files import Entry
from mechshift_lib.tasks import Example, pair_task
from tests.book.browser import ask

PAIRS = ("tiny-qwen", "tiny-llama")
#: Opens models one after the other and answers with what a function makes of each.
_EACH = """(async () => {
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


@dataclass(frozen=True)
class Engine:
    """A page that computes and shows nothing.

    Attributes:
        address: of the server of its folder.
        folder: where it is.
        entries: what its index says of the pairs.
    """

    address: str
    folder: Path
    entries: list[Entry]

    def run(self, asked: object, body: str) -> Any:
        """What ``body`` (JavaScript) put into ``found``, given ``asked``."""
        (self.folder / "asked.json").write_text(json.dumps(asked))
        found = ask(self.address, "engine.html", _EACH.replace("BODY", body))
        assert not isinstance(found, str), found
        return found


def floats(text: str) -> torch.Tensor:
    """Numbers that came as ``bytes(...)``."""
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), dtype="<f4").copy())


@lru_cache(maxsize=4)
def loaded(pair: str, role: str, seed: int) -> LoadedModel:
    return load_model(load_pair(pair).model(role, seed))


def examples(pair: str, task: str, n: int) -> list[Example]:
    tokenizer = loaded(pair, "arm", 0).tokenizer
    return pair_task(load_pair(pair), task).examples(tokenizer, n, EXAMPLES_SEED)
