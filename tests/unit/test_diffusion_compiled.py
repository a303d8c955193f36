"""A compiled training step: the same sums as an eager one, in few shapes, only where it pays."""

from __future__ import annotations

import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM

from mechshift_lib.diffusion import compiled
from mechshift_lib.diffusion.compiled import compiled_body, compiles_here, padded_width
from mechshift_lib.diffusion.matmul import products_in
from mechshift_lib.diffusion.objective import annealed_attention


@pytest.mark.parametrize(
    ("width", "longest", "padded"), [(18, 24, 18), (17, 24, 18), (23, 23, 23), (23, 24, 24)]
)
def test_widths_are_few_and_never_more_than_there_is(width: int, longest: int, padded: int) -> None:
    assert padded_width(width, longest) == padded


def test_long_stages_on_a_processor_with_a_compiler_are_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name == "g++" else None)
    assert compiles_here("cpu", compiled.WORTHWHILE_STEPS)
    assert not compiles_here("cpu", compiled.WORTHWHILE_STEPS - 1)
    assert not compiles_here("cuda", compiled.WORTHWHILE_STEPS)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert not compiles_here("cpu", compiled.WORTHWHILE_STEPS)


@pytest.mark.parametrize("by_layer", [False, True])
def test_compiled_and_eager_steps_have_the_same_loss_and_gradients(by_layer: bool) -> None:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=30,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2 if by_layer else 1,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    model = Qwen2ForCausalLM(config)
    if by_layer:  # as adapters are trained: their products are rounded in layers that are compiled
        model.requires_grad_(False)
        get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    body = compiled_body(model, by_layer)
    ids = torch.randint(30, (4, 6))
    present = torch.ones(4, 6, dtype=torch.bool)
    present[0, 4:] = False

    def step(run: object) -> tuple[float, torch.Tensor]:
        model.zero_grad()
        hidden = run(  # type: ignore[operator]
            input_ids=ids, attention_mask=annealed_attention(present, 1.0), use_cache=False
        ).last_hidden_state
        loss = (hidden[present] ** 3).sum()
        loss.backward()
        grads = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        assert len(grads) == (2 * 7 * 2 if by_layer else 12 + 2)
        return float(loss.detach()), torch.cat(grads)

    eager, fast = step(model.model), step(body)
    assert fast[0] == pytest.approx(eager[0], rel=1e-5)
    torch.testing.assert_close(
        fast[1], eager[1], rtol=1e-3, atol=1e-5 * float(eager[1].abs().max())
    )
    if by_layer:  # called by itself, the model runs as it is
        assert not any("forward" in vars(layer) for layer in model.model.layers)
        with products_in(model, "bfloat16"):
            rounded = step(body)
        assert rounded[0] != fast[0]
        assert rounded[0] == pytest.approx(fast[0], rel=0.1)
