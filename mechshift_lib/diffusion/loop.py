"""The training loop that every stage runs, from scratch or with adapters."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from mechshift_lib.config import Pair
from mechshift_lib.diffusion.checkpoint import load_checkpoint, save_checkpoint
from mechshift_lib.diffusion.compiled import compiled_body, compiles_here, padded_width
from mechshift_lib.diffusion.corpus import Batch, Draw, draw_batch
from mechshift_lib.diffusion.evaluation import (
    InTraining,
    accuracies,
    general_text,
    held_out_examples,
    mask_losses,
)
from mechshift_lib.diffusion.matmul import Matmul, kept_choice, products_in
from mechshift_lib.diffusion.objective import (
    annealed_attention,
    cart_weights,
    inverse_time_weights,
    token_losses,
)
from mechshift_lib.diffusion.recipe import Adapter, Diffusion, Optimisation, Recipe, Stage
from mechshift_lib.diffusion.schedule import apply_masks, draw_masks
from mechshift_lib.results.atomic import write_atomic
from mechshift_lib.tasks import Example


@dataclass(frozen=True)
class Run:
    """One stage of one pair and seed: everything a training step needs.

    ``body`` is the model without its head, compiled; None where it runs as it is. ``held_out`` are
    the ids of general texts that training never sees and its log is evaluated on.
    """

    pair: Pair
    recipe: Recipe
    stage: Stage
    optimisation: Optimisation
    seed: int
    model: PreTrainedModel
    tokenizer: Any
    draws: Mapping[str, Draw]
    mask_id: int
    body: Callable[..., Any] | None = None
    held_out: Sequence[Sequence[int]] = ()

    @property
    def diffusion(self) -> Diffusion | None:
        """How the stage's MDM is made; None for an ARM."""
        return self.recipe.diffusion_of(self.stage)

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then a cosine to zero."""
        warm = min(1.0, (step + 1) / max(1, self.optimisation.warmup))
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.optimisation.steps))
        return self.optimisation.lr * warm * cosine

    def openness(self, step: int) -> float:
        """How far attention has been annealed from causal (0) to full (1)."""
        diffusion = self.diffusion
        if diffusion is None or diffusion.attention == "causal":
            return 0.0
        return min(1.0, step / diffusion.anneal_steps) if diffusion.anneal_steps else 1.0

    def batch(self, step: int) -> Batch:
        """The texts of a step; MDM and continued share theirs, the ARM has its own."""
        phase = "arm" if self.stage == "arm" else "post"
        key = (self.seed, phase, step)
        mix = self.recipe.mix_of(self.stage)
        return draw_batch(self.draws, mix, self.tokenizer, self.optimisation.batch, key)

    def losses(self, batch: Batch, step: int) -> Iterator[tuple[Tensor, float, Tensor]]:
        """Each part of the batch: weighted sum of losses, sum of weights, plain token losses."""
        rng = np.random.default_rng([self.seed, step])
        noise = torch.Generator().manual_seed(1_000_003 * self.seed + step)
        diffusion = self.diffusion
        may_all = batch.maskable(diffusion.masked if diffusion else "text")
        if diffusion is not None and diffusion.answers_only:
            # Numbers of their own, so that a recipe without such texts draws what it drew before.
            drawn = np.random.default_rng([self.seed, step, 1]).random(len(may_all))
            may_all = np.where((drawn < diffusion.answers_only)[:, None], batch.answer, may_all)
        masked_all, ratio_all = draw_masks(may_all, rng)
        noised_all = apply_masks(batch.ids, masked_all, self.mask_id)
        for rows, width in batch.parts(self.recipe.groups):
            if self.body is not None:
                width = padded_width(width, batch.ids.shape[1])
            ids = torch.from_numpy(batch.ids[rows, :width])
            present = torch.from_numpy(batch.present[rows, :width])
            if diffusion is not None:
                where = torch.from_numpy(masked_all[rows, :width])
                inputs = torch.from_numpy(noised_all[rows, :width])
                attention = annealed_attention(present, self.openness(step), noise)
                if diffusion.weighting == "1/t":
                    times = torch.from_numpy(ratio_all[rows]).float().clamp(min=1e-6)
                    weights = inverse_time_weights(times, where)
                    total = float(may_all[rows].sum())
                else:
                    weights = cart_weights(where, present, diffusion.cart_p)
                    total = float(weights.sum())
            else:
                where, inputs, attention = present.clone(), ids, None
                where[:, 0] = False
                answer = torch.from_numpy(batch.answer[rows, :width])
                weights = torch.where(answer, 1.0, self.recipe.prompt_weight)
                total = float(weights[where].sum())
            yield self._weighted(inputs, attention, ids, where, weights, total)

    def _weighted(
        self,
        inputs: Tensor,
        attention: Tensor | None,
        ids: Tensor,
        where: Tensor,
        weights: Tensor,
        total: float,
    ) -> tuple[Tensor, float, Tensor]:
        device = self.model.device
        mask = None if attention is None else attention.to(device)
        body = self.model.model if self.body is None else self.body
        out = body(input_ids=inputs.to(device), attention_mask=mask, use_cache=False)
        head = self.model.get_output_embeddings()
        losses = token_losses(out.last_hidden_state, head, ids.to(device), where.to(device))
        return (losses * weights[where].to(device)).sum(), total, losses.detach()


def gradient_step(run: Run, optimizer: torch.optim.Optimizer, step: int) -> dict[str, Any]:
    """One optimisation step; returns its line of the log."""
    for group in optimizer.param_groups:
        group["lr"] = run.learning_rate(step)
    optimizer.zero_grad(set_to_none=True)
    total, weight, plain = 0.0, 0.0, []
    batch = run.batch(step)
    for loss, part_weight, tokens in run.losses(batch, step):
        loss.backward()  # type: ignore[no-untyped-call]
        total, weight = total + float(loss.detach()), weight + part_weight
        plain.append(tokens)
    parameters = [p for p in run.model.parameters() if p.grad is not None]
    for parameter in parameters:
        assert parameter.grad is not None
        parameter.grad.div_(max(weight, 1e-9))
    norm = torch.nn.utils.clip_grad_norm_(parameters, run.optimisation.clip)
    optimizer.step()
    return {
        "step": step,
        "lr": round(run.learning_rate(step), 8),
        "loss": round(total / max(weight, 1e-9), 5),
        "token_loss": round(float(torch.cat(plain).mean()), 5),
        "gradient_norm": round(float(norm), 4),
        "tokens": batch.n_tokens,
    }


def chosen_products(run: Run, kept: Path) -> tuple[Matmul, dict[str, float]]:
    """Precision of a stage's matrix products, and the seconds that were measured to choose it.

    What the recipe says; for ``auto`` what is faster here, measured once a seed and kept in the
    file ``kept``: a resumed stage goes on as it began, and the control differs from the MDM in
    its loss alone.
    """
    if run.recipe.matmul != "auto":
        return run.recipe.matmul, {}
    batch = run.batch(0)

    def once() -> None:
        for loss, _, _ in run.losses(batch, 0):
            loss.backward()  # type: ignore[no-untyped-call]

    run.model.train()
    return kept_choice(run.model, once, kept)


def train_stage(
    run: Run,
    work: Path,
    *,
    keep: Mapping[int, Path] | None = None,
    keep_at: tuple[float, Path] | None = None,
    save: Callable[[Run, Path], None] | None = None,
    progress: bool = True,
) -> Path:
    """Run all steps of a stage, resuming from ``work``; returns the path of its log.

    Args:
        run: the stage.
        work: folder of its checkpoint and log.
        keep: numbers of steps -> folders that ``save`` writes the model to after them.
        keep_at: a displacement and a folder that ``save`` writes the model to after the first
            step at which it is reached (:func:`displacement`).
        save: writes the model.
        progress: show a progress bar.
    """
    recipe, model, steps = run.recipe, run.model, run.optimisation.steps
    if recipe.compile and compiles_here(model.device, steps):
        run = replace(run, body=compiled_body(model, by_layer=isinstance(recipe, Adapter)))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trained,
        lr=run.optimisation.lr,
        betas=(0.9, 0.98),
        weight_decay=run.optimisation.weight_decay,
    )
    origin = [p.detach().clone() for p in trained]
    log = work / "training.jsonl"
    start, tokens_seen = load_checkpoint(work, model, optimizer)
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    lines = [line for line in lines if line["step"] < start]
    matmul, seconds = chosen_products(run, work.parent / "matmul.json")
    examples = held_out_examples(run.pair, run.tokenizer, recipe.eval_examples)
    bar = tqdm(
        range(start, steps),
        initial=start,
        total=steps,
        desc=f"{run.pair.name} seed {run.seed} {run.stage}",
        disable=not progress,
        mininterval=5,
    )
    for step in bar:
        model.train()
        with products_in(model, matmul):
            line = gradient_step(run, optimizer, step)
        if step == 0:
            line |= {"matmul": matmul, "matmul_seconds": seconds}
            line["compiled"] = run.body is not None
            line |= {"device": _device_name(model.device), "torch": torch.__version__}
        tokens_seen += line["tokens"]
        line["tokens"] = tokens_seen
        done = step + 1
        if done % recipe.eval_every == 0 or done == steps:
            line |= evaluate(run, examples)
        if step % recipe.log_every == 0 or "accuracy" in line:
            line["displacement"] = round(displacement(trained, origin), 5)
            lines.append(line)
            bar.set_postfix(loss=f"{line['loss']:.3f}")
        if keep and save and done in keep:
            save(run, keep[done])
        if keep_at and save and not keep_at[1].exists():
            moved = displacement(trained, origin)
            if moved >= keep_at[0]:
                save(run, keep_at[1])
                line |= {"kept": keep_at[1].name, "displacement": round(moved, 5)}
                if lines[-1] is not line:
                    lines.append(line)
        if done % recipe.checkpoint_every == 0 or done == steps:
            write_atomic(log, "".join(json.dumps(line) + "\n" for line in lines))
            save_checkpoint(work, model, optimizer, done, tokens_seen)
    return log


def _device_name(device: torch.device) -> str:
    """What a stage was trained on; its weights are the same again on the same only."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def displacement(now: Sequence[Tensor], origin: Sequence[Tensor]) -> float:
    """How far a training has moved a model: the Euclidean norm of the change of all that it
    trains.
    """
    with torch.no_grad():
        parts = [torch.linalg.vector_norm(a - b) for a, b in zip(now, origin, strict=True)]
        return float(torch.linalg.vector_norm(torch.stack(parts)))


def evaluate(run: Run, examples: Mapping[str, Sequence[Example]]) -> dict[str, Any]:
    """Accuracies on held-out examples and, for an MDM, mask-prediction losses by mask ratio.

    Where general text was held out, also how well its tokens are predicted
    (:func:`mechshift_lib.diffusion.evaluation.general_text`).
    """
    run.model.eval()
    diffusion = run.diffusion
    mask_id = None if diffusion is None else run.mask_id
    openness = 0.0 if diffusion is None or diffusion.attention == "causal" else 1.0
    asked = InTraining(run.model, mask_id, openness)
    found: dict[str, Any] = {"accuracy": accuracies(run.pair, asked, examples, run.tokenizer)}
    if diffusion is not None:
        found["mask_loss"] = mask_losses(asked, examples, "answers")
        found["text_loss"] = mask_losses(asked, examples, "text")
    return found | general_text(asked, run.held_out)
