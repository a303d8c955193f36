"""What every benchmark uses: models of real shapes, the floor, time, memory, provenance, files.

Weights are random: time and memory depend on shapes alone. Each side of a comparison runs in a
process of its own, so that memory is its own; the sides take turns and the least time counts, which
is least disturbed by whatever else the machine does.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from mechshift_lib.config import ROOT
from mechshift_lib.models.readout import Item
from mechshift_lib.results.atomic import write_atomic
from mechshift_lib.results.provenance import provenance

STEPS = 5


@dataclass(frozen=True)
class Shape:
    """A model's shape and what it is asked.

    Attributes:
        architecture: ``"gpt2"``, ``"qwen2"`` or ``"llama"``.
        layers: number of layers.
        heads: query heads per layer.
        kv_heads: key/value heads per layer.
        d_model: width of the residual stream.
        d_mlp: hidden neurons of an MLP.
        vocabulary: number of token ids.
        batch: examples, all in one batch.
        length: tokens of an example.
    """

    architecture: str
    layers: int
    heads: int
    kv_heads: int
    d_model: int
    d_mlp: int
    vocabulary: int = 5000
    batch: int = 8
    length: int = 20


SHAPES = {
    "GPT-2 small": Shape("gpt2", 12, 12, 12, 768, 3072),
    "Qwen2.5-0.5B": Shape("qwen2", 24, 14, 2, 896, 4864),
}
#: For a run that only shows that a script works.
SMALL_SHAPES = {
    "small GPT-2": Shape("gpt2", 2, 4, 4, 32, 64, 50, 4, 8),
    "small Qwen2": Shape("qwen2", 2, 4, 2, 32, 64, 50, 4, 8),
}


def build(shape: Shape) -> PreTrainedModel:
    """A random model, all parameters frozen."""
    torch.manual_seed(0)
    common: dict[str, Any] = {"vocab_size": shape.vocabulary, "bos_token_id": 0, "eos_token_id": 0}
    if shape.architecture == "gpt2":
        config = GPT2Config(
            n_embd=shape.d_model,
            n_layer=shape.layers,
            n_head=shape.heads,
            n_inner=shape.d_mlp,
            n_positions=1024,
            **common,
        )
        return GPT2LMHeadModel(config).eval().requires_grad_(False)
    made, wrapped = {
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        "llama": (LlamaConfig, LlamaForCausalLM),
    }[shape.architecture]
    config = made(
        hidden_size=shape.d_model,
        intermediate_size=shape.d_mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=4096,
        **common,
    )
    return wrapped(config).eval().requires_grad_(False)


def items(shape: Shape) -> list[Item]:
    """Random prompts that differ from their corruptions from the first token on.

    So no position can be left out, as under full attention.
    """
    draw = torch.Generator().manual_seed(0)
    size = (shape.batch, shape.length)
    clean, corrupted = (torch.randint(3, shape.vocabulary, size, generator=draw) for _ in "ab")
    corrupted[:, 0] = 3 + (clean[:, 0] - 2) % (shape.vocabulary - 3)
    pairs = zip(clean.tolist(), corrupted.tolist(), strict=True)
    return [
        Item(i, 0, tuple(a), tuple(b), (shape.length - 1,), ((1,),), ((2,),))
        for i, (a, b) in enumerate(pairs)
    ]


def floor(model: PreTrainedModel, asked: list[Item], steps: int = STEPS) -> None:
    """What EAP-IG inputs needs by definition, of the bare Hugging Face model and nothing else.

    Two forward passes, and ``steps`` forward and backward passes to the activations: parameters are
    frozen, gradients end at the output of the embedding.
    """
    clean, corrupted = (
        torch.tensor([getattr(item, name) for item in asked], device=model.device)
        for name in ("clean", "corrupted")
    )
    with torch.no_grad():
        model(clean, use_cache=False)
        model(corrupted, use_cache=False)
        embed = model.get_input_embeddings()
        start, end = embed(corrupted), embed(clean)
    for k in range(steps):
        point = torch.lerp(start, end, k / steps).requires_grad_(True)
        logits = model(inputs_embeds=point, use_cache=False).logits[:, -1].float()
        torch.autograd.grad((logits[:, 1] - logits[:, 2]).sum(), point)


@contextmanager
def peak_memory() -> Iterator[dict[str, float]]:
    """Highest resident memory above that at the start, ``{"bytes": …}``; on Linux and macOS."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = _status("VmRSS")
    else:
        before = _highest()
    found: dict[str, float] = {}
    yield found
    found["bytes"] = (_status("VmHWM") if sys.platform == "linux" else _highest()) - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def _highest() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


#: A side of a comparison: given its arguments, gives a call to be timed.
Side = Callable[..., Callable[[], Any]]


def _serve(side: Side, arguments: tuple[Any, ...], connection: Any) -> None:
    """In a process of its own: prepare once, then run whenever asked and answer with seconds.

    The first answer is the peak memory of the first run, which isn't timed.
    """
    torch.set_num_threads(1)
    call = side(*arguments)
    with peak_memory() as memory:
        call()
    connection.send(memory["bytes"])
    while connection.recv():
        began = time.perf_counter()
        call()
        connection.send(time.perf_counter() - began)


@dataclass(frozen=True)
class Cost:
    """Seconds of each repeat, and bytes above what was loaded."""

    seconds: list[float]
    bytes: float

    @property
    def least(self) -> float:
        """Least time of the repeats."""
        return min(self.seconds)


def compare(sides: Mapping[str, tuple[Side, tuple[Any, ...]]], repeats: int) -> dict[str, Cost]:
    """Run the sides in turn, each in a process of its own."""
    context = multiprocessing.get_context("spawn")
    running = {}
    memory: dict[str, float] = {}
    for name, (side, arguments) in sides.items():
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(side, arguments, there), daemon=True)
        process.start()
        there.close()
        running[name] = (process, here)
        memory[name] = here.recv()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, (_, here) in running.items():
            here.send(True)
            seconds[name].append(here.recv())
    for process, here in running.values():
        here.send(False)
        process.join()
    return {name: Cost(seconds[name], memory[name]) for name in sides}


def options(description: str | None) -> argparse.Namespace:
    """``--small`` and ``--out``, which every script has."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="tiny shapes: does the script work?")
    parser.add_argument("--repeats", type=int, default=5, help="repeats of every timing")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "data" / "benchmarks", help="folder of the results"
    )
    return parser.parse_args()


def write(folder: Path, name: str, rows: list[dict[str, Any]], **settings: Any) -> None:
    """Write rows with their settings and provenance to ``<name>.json``, and print them."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = {"settings": settings, "provenance": provenance(seed=0, device=device), "rows": rows}
    write_atomic(folder / f"{name}.json", json.dumps(found, indent=1) + "\n")
    for row in rows:
        parts = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        print("  ".join(parts), flush=True)
