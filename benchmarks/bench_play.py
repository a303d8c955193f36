"""The models in the page: milliseconds of a denoising step in a headless browser, against torch's.

The browser's own clock stands still while a page computes under ``--dump-dom``, so a step is what
some hundred more of them add to the time of the whole visit. Torch runs the bare model on the same
canvases, one thread; nothing else of a step is counted there, so the ratio is against the floor.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from measuring import options, write

from mechshift_lib.config import ROOT
from mechshift_lib.play.files import name_of

sys.path.insert(0, str(ROOT))
from tests.book.browser import FRAME, serve
from tests.book.make_play import make_play
from tests.book.play_engine import PAIRS, Engine, examples, loaded

SEED, TASK = 0, "countdown"
#: What is changed in a step: nothing, and one head, which takes a pass on the corrupted prompt.
CHANGES: dict[str, list[str]] = {"a step": [], "a step with a head ablated": ["a1.h0"]}
_BODY = """const one = await model(asked.name);
for (let i = 0; i < asked.times; i++)
  for (const { prompt, n, corrupted } of asked.questions)
    w.mechshiftPlay.denoise(one, prompt, n, { order: "maskgit_plus" },
      { nodes: asked.nodes, corrupted });"""


def visit(engine: Engine, asked: dict[str, Any]) -> float:
    """Seconds of one visit of the page."""
    began = time.perf_counter()
    engine.run(asked, _BODY)
    return time.perf_counter() - began


def main() -> None:
    """Measure every tiny pair's MDM."""
    asked = options(__doc__)
    torch.set_num_threads(1)
    rows = []
    n, times, pairs = (1, 60, PAIRS[:1]) if asked.small else (4, 40, PAIRS)
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "frame.html").write_text(FRAME)
        entries = make_play(here, pairs, [SEED])
        with serve(here) as address:
            engine = Engine(address, here, entries)
            for pair in pairs:
                rows += measured(engine, pair, n, times, asked.repeats)
    write(
        asked.out,
        "play",
        rows,
        task=TASK,
        examples=n,
        times=times,
        repeats=asked.repeats,
        threads=1,
    )


def measured(engine: Engine, pair: str, n: int, times: int, repeats: int) -> list[dict[str, Any]]:
    """One row for each of :data:`CHANGES`."""
    model, found = loaded(pair, "mdm", SEED), examples(pair, TASK, n)
    questions = [
        {"prompt": list(x.clean), "corrupted": list(x.corrupted), "n": len(x.answer)} for x in found
    ]
    steps = times * sum(len(x.answer) for x in found)
    canvases = [
        torch.tensor([[*x.clean, *[model.mask_id] * len(x.answer)]])
        for x in found
        for _ in x.answer
    ]
    about = {"name": name_of(pair, "mdm", SEED), "questions": questions}
    taken: dict[str, list[float]] = {name: [] for name in ("nothing", "torch", *CHANGES)}
    for _ in range(repeats):  # in turn, so that all meet the same machine
        taken["nothing"].append(visit(engine, about | {"times": 0, "nodes": []}))
        for name, nodes in CHANGES.items():
            taken[name].append(visit(engine, about | {"times": times, "nodes": nodes}))
        began = time.perf_counter()
        with torch.no_grad():
            for canvas in canvases:
                model.hf(canvas, use_cache=False)
        taken["torch"].append((time.perf_counter() - began) / len(canvases))
    torch_ms = 1000 * min(taken["torch"])
    tokens = max(canvas.shape[1] for canvas in canvases)
    made = []
    for name in CHANGES:
        ms = 1000 * (min(taken[name]) - min(taken["nothing"])) / steps
        made.append(
            {"pair": pair, "what": name, "tokens": tokens, "ms": ms, "torch_ms": torch_ms}
            | {"ratio": ms / torch_ms}
        )
    return made


if __name__ == "__main__":
    main()
