"""What attribution costs, as a ratio to one forward and backward pass of the bare model.

The model is random (Qwen2, grouped-query attention); time depends on shapes, not on weights. EAP-IG
with m points needs m + 1 forward and m backward passes of the clean batch and one forward pass of
the corrupted one: the floor is a little above m.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from mechshift_lib.circuits.attribution import attribute
from mechshift_lib.models.loading import wrap_model
from mechshift_lib.models.readout import Item

EXAMPLES, LENGTH, VOCABULARY, REPEATS = 32, 24, 512, 5


def model() -> Qwen2ForCausalLM:
    """About 1.5 million parameters, 6 layers."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    return Qwen2ForCausalLM(config).eval()


def items() -> list[Item]:
    """Random prompts that differ from their corruption in one token."""
    draw = torch.Generator().manual_seed(0)
    clean = torch.randint(1, VOCABULARY, (EXAMPLES, LENGTH), generator=draw)
    corrupted = clean.clone()
    corrupted[:, 3] = (corrupted[:, 3] + 1) % VOCABULARY
    pairs = zip(clean.tolist(), corrupted.tolist(), strict=True)
    return [
        Item(i, 0, tuple(a), tuple(b), (LENGTH - 1,), ((1,),), ((2,),))
        for i, (a, b) in enumerate(pairs)
    ]


def seconds(call: Callable[[], object]) -> float:
    """Median of some calls, after one that doesn't count."""
    call()
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    """Print one line a method."""
    torch.set_num_threads(1)
    bare, asked = model(), items()
    ids = torch.tensor([item.clean for item in asked])

    def step() -> None:
        bare.zero_grad()
        bare(ids).logits[:, -1].sum().backward()

    floor = seconds(step)
    print(f"forward + backward of the bare model: {1000 * floor:.0f} ms")
    wrapped = wrap_model(model())
    for method, steps in (("eap", 1), ("eap-ig", 5)):
        taken = seconds(lambda m=method, s=steps: attribute(wrapped, asked, method=m, steps=s))
        print(f"{method} ({steps} points): {taken / floor:.1f} x")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory of all this: {peak:.2f} GiB")


if __name__ == "__main__":
    main()
