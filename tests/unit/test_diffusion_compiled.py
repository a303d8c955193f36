"""A compiled training step: the same sums as an eager one, in few shapes, only where it pays."""

from __future__ import annotations

import shutil

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from mechshift_lib.diffusion import compiled
from mechshift_lib.diffusion.compiled import compiled_body, compiles_here, padded_width
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


def test_compiled_and_eager_steps_have_the_same_loss_and_gradients() -> None:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=30,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    model = Qwen2ForCausalLM(config)
    body = compiled_body(model)
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
        weight = model.model.layers[0].mlp.down_proj.weight
        assert weight.grad is not None
        return float(loss.detach()), weight.grad.clone()

    eager, fast = step(model.model), step(body)
    assert fast[0] == pytest.approx(eager[0], rel=1e-5)
    torch.testing.assert_close(fast[1], eager[1], rtol=1e-4, atol=1e-5)
