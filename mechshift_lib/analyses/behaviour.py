"""What the models of a pair can do, and the examples that ARM and MDM both solve."""

from __future__ import annotations

import json
from typing import cast

import numpy as np
import pandas as pd
import torch

from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.circuits.questions.items import batches
from mechshift_lib.circuits.questions.metrics import Reads, item_metric
from mechshift_lib.comparison.bootstrap import wilson
from mechshift_lib.config import Role
from mechshift_lib.diffusion.samplers import ORDERS, OrderName, denoise, generate_arm
from mechshift_lib.errors import TaskError
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item
from mechshift_lib.tasks.infilling import Infilling

#: The task whose answer can stand in place.
NATIVE_TASK = "infilling"
#: Order in which an MDM reveals its answer where nothing else is said: its own confidence.
DEFAULT_ORDER: OrderName = "maskgit_plus"
ROOMS = ("circuits", "diffusion/samplers", "analyses/behaviour")


def answers(study: Study, task: str, role: Role, seed: int, order: str = "") -> pd.DataFrame:
    """What a model answers to every held-out example: greedy (ARM) or denoised (MDM).

    Args:
        study: the pair and budget.
        task: name of the task.
        role: ``arm``, ``mdm`` or ``continued``.
        seed: training seed.
        order: reveal order of an MDM, by default :data:`DEFAULT_ORDER`; an ARM has none.

    Returns:
        One row per example: ``example, correct, answer`` (text), ``reveal`` (JSON: answer
        positions revealed at each step), ``n_answer``.
    """
    is_arm = study.pair.model(role, seed).readout == "next-token"
    order = "" if is_arm else order or DEFAULT_ORDER
    key = study.key(role, seed, task, ROOMS) | {"order": order}

    def compute() -> dict[str, pd.DataFrame]:
        model, examples = study.model(role, seed), study.examples(task, seed)
        prompts, lengths = [e.clean for e in examples], [len(e.answer) for e in examples]
        size = study.budget.batch_size
        if is_arm:
            tokens = generate_arm(model, prompts, lengths, size)
            reveals = [[[i] for i in range(n)] for n in lengths]
        else:
            found = denoise(
                model,
                prompts,
                lengths,
                order=cast(OrderName, order),
                seed=RESAMPLING_SEED,
                batch_size=size,
            )
            tokens = [one.tokens for one in found]
            reveals = [[list(step) for step in one.order] for one in found]
        scorer, tokenizer = study.task(task), model.tokenizer
        frame = pd.DataFrame(
            {
                "example": np.arange(len(examples)),
                "correct": [
                    scorer.score(e, t, tokenizer) for e, t in zip(examples, tokens, strict=True)
                ],
                "answer": [tokenizer.decode(list(t)).strip() for t in tokens],
                "reveal": [json.dumps(reveal) for reveal in reveals],
                "n_answer": lengths,
            }
        )
        return {"answers": frame}

    return study.frames("answers", key, compute)["answers"]


def native_answers(study: Study, seed: int) -> pd.DataFrame:
    """What the MDM writes into the blank of infilling's sentence itself, text on both sides.

    The same fillers as in the form that ends with the answer; only an MDM can be asked so.

    Returns:
        One row per example: ``example, correct, answer``.

    Raises:
        TaskError: infilling of the pair, or its tokenizer, has no such form.
    """
    key = study.key("mdm", seed, NATIVE_TASK, ROOMS) | {"order": DEFAULT_ORDER, "form": "native"}

    def compute() -> dict[str, pd.DataFrame]:
        model, task = study.model("mdm", seed), study.task(NATIVE_TASK)
        assert isinstance(task, Infilling)
        given = study.examples(NATIVE_TASK, seed)
        examples = [task.native(example, model.tokenizer) for example in given]
        found = denoise(
            model,
            [e.clean for e in examples],
            [len(e.answer) for e in examples],
            after=[e.after for e in examples],
            order=DEFAULT_ORDER,
            seed=RESAMPLING_SEED,
            batch_size=study.budget.batch_size,
        )
        frame = pd.DataFrame(
            {
                "example": np.arange(len(examples)),
                "correct": [
                    task.score(e, one.tokens, model.tokenizer)
                    for e, one in zip(examples, found, strict=True)
                ],
                "answer": [model.tokenizer.decode(list(one.tokens)).strip() for one in found],
            }
        )
        return {"answers": frame}

    return study.frames("answers", key, compute)["answers"]


def form_table(study: Study) -> pd.DataFrame:
    """Accuracy of the MDM in infilling's two forms, on the same fillers, in every training.

    Returns:
        One row per form and seed: ``form`` (``at the end``, ``in place``), ``seed, n, right,
        accuracy, low, high``; empty where the pair has no infilling, or no blank of its own.
    """
    rows: list[dict[str, object]] = []
    if NATIVE_TASK in study.pair.tasks:
        try:
            for seed in study.pair.seeds:
                forms = {
                    "at the end": answers(study, NATIVE_TASK, "mdm", seed),
                    "in place": native_answers(study, seed),
                }
                rows += [
                    {"form": form, "seed": seed} | _accuracy(found.correct)
                    for form, found in forms.items()
                ]
        except TaskError:  # one word only, or fillers that are read otherwise in a sentence
            rows = []
    return pd.DataFrame(rows, columns=["form", "seed", "n", "right", "accuracy", "low", "high"])


def metrics(study: Study, task: str, role: Role, seed: int) -> pd.DataFrame:
    """The task's metric on clean and corrupted prompts, as attribution reads it.

    Over as many examples as circuits are taken over, the first ones, solved or not.

    Teacher-forced for an ARM, left to right one token a step for an MDM; the mean over the answer
    positions that carry a metric.

    Returns:
        One row per example: ``example, clean, corrupted``.
    """
    n = study.budget.circuit_examples
    key = study.key(role, seed, task, ROOMS) | {"metric": study.task(task).metric, "first": n}

    def compute() -> dict[str, pd.DataFrame]:
        model = study.model(role, seed)
        items = [
            item
            for index, example in enumerate(study.examples(task, seed)[:n])
            for item in model.readout.items(example, index)
        ]
        rows = []
        for batch in batches(items, study.budget.batch_size):
            reads = Reads.of(batch, model.device)
            values = [
                _batch_metric(model, batch, run, study.task(task).metric, reads)
                for run in ("clean", "corrupted")
            ]
            rows += [
                {"example": item.example, "reads": len(item.reads), "clean": a, "corrupted": b}
                for item, a, b in zip(batch, *values, strict=True)
            ]
        frame = pd.DataFrame(rows)
        weighted = frame[["clean", "corrupted"]].mul(frame.reads, axis=0).assign(reads=frame.reads)
        total = weighted.groupby(frame.example).sum()
        means = total[["clean", "corrupted"]].div(total.reads, axis=0)
        return {"metrics": means.reset_index()}

    return study.frames("metrics", key, compute)["metrics"]


def _batch_metric(
    model: LoadedModel, items: list[Item], run: str, metric: str, reads: Reads
) -> list[float]:
    ids = torch.tensor([getattr(item, run) for item in items])
    values: list[float] = item_metric(metric, model.logits(ids), lambda x: x, reads).tolist()
    return values


def accuracy_table(study: Study) -> pd.DataFrame:
    """Accuracy of every model on every task, with its Wilson interval.

    Returns:
        One row per task, role and seed: ``task, role, seed, order, n, right, accuracy, low, high``.
    """
    return pd.DataFrame(
        [
            {"task": task, "role": role, "seed": seed}
            | _accuracy(answers(study, task, role, seed).correct)
            for role in study.pair.roles
            for seed in study.pair.seeds
            for task in study.pair.tasks
        ]
    )


def order_table(study: Study) -> pd.DataFrame:
    """Accuracy of the MDM under every reveal order, on tasks whose answer has several tokens.

    Returns:
        One row per task, order and seed: ``task, order, seed, n, right, accuracy, low, high``;
        empty where every answer is one token.
    """
    rows = [
        {"task": task, "order": order, "seed": seed}
        | _accuracy(answers(study, task, "mdm", seed, order).correct)
        for seed in study.pair.seeds
        for task in study.pair.tasks
        if answers(study, task, "mdm", seed).n_answer.max() > 1
        for order in ORDERS
    ]
    columns = ["task", "order", "seed", "n", "right", "accuracy", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _accuracy(correct: pd.Series) -> dict[str, float]:
    right, n = int(correct.sum()), len(correct)
    low, high = wilson(right, n)
    return {"n": n, "right": right, "accuracy": right / n, "low": low, "high": high}


def metric_table(study: Study) -> pd.DataFrame:
    """Mean metric on clean and corrupted prompts of each model, with normal 95 % intervals.

    Returns:
        One row per task and role (first seed): ``task, role, metric, n, clean, clean_low,
        clean_high, corrupted, corrupted_low, corrupted_high, above``; ``above`` is the share of
        examples whose metric is larger on the clean prompt.
    """
    rows = []
    for role in study.pair.roles:
        for task in study.pair.tasks:
            frame = metrics(study, task, role, study.seed)
            row = {
                "task": task,
                "role": role,
                "metric": study.task(task).metric,
                "n": len(frame),
                "above": float((frame.clean > frame.corrupted).mean()),
            }
            for run in ("clean", "corrupted"):
                mean, error = frame[run].mean(), frame[run].sem() if len(frame) > 1 else np.nan
                row |= {run: mean, f"{run}_low": mean - 1.96 * error}
                row |= {f"{run}_high": mean + 1.96 * error}
            rows.append(row)
    return pd.DataFrame(rows)


def pool(study: Study, task: str, seed: int) -> list[int]:
    """Examples that circuits are taken over: the first of those that ARM and MDM both solve.

    At most as many as the budget says; fewer where fewer are solved. With the pool ``all``, the
    first examples, solved or not.
    """
    return solved(study, task, seed)[: study.budget.circuit_examples]


def solved(study: Study, task: str, seed: int) -> list[int]:
    """All examples that ARM and MDM both solve; with the pool ``all``, all examples."""
    right = answers(study, task, "arm", seed).correct & answers(study, task, "mdm", seed).correct
    chosen = np.flatnonzero(right) if study.pool == "common-correct" else np.arange(len(right))
    return [int(i) for i in chosen]


def pool_table(study: Study) -> pd.DataFrame:
    """The common-correct pool of every task (first seed).

    Returns:
        One row per task: ``task, n, arm, mdm, both, low, high`` (examples solved by both, as a
        share, with its Wilson interval), ``used`` (examples that circuits are taken over),
        ``continued`` (the share of these that the control solves).
    """
    rows = []
    for task in study.pair.tasks:
        right = {r: answers(study, task, r, study.seed).correct for r in study.pair.roles}
        both = right["arm"] & right["mdm"]
        low, high = wilson(int(both.sum()), len(both))
        used = pool(study, task, study.seed)
        kept = right["continued"][used] if "continued" in right and used else None
        rows.append(
            {
                "task": task,
                "n": len(both),
                "arm": int(right["arm"].sum()),
                "mdm": int(right["mdm"].sum()),
                "both": float(both.mean()),
                "low": low,
                "high": high,
                "used": len(used),
                "continued": np.nan if kept is None else float(kept.mean()),
            }
        )
    return pd.DataFrame(rows)


def sample_table(study: Study, n: int = 1) -> pd.DataFrame:
    """Examples to look at: prompt, right answer, and what each model answers.

    Returns:
        ``task, prompt, answer`` and one column a role; the first ``n`` examples of every task.
    """
    rows = []
    for task in study.pair.tasks:
        examples = study.examples(task, study.seed)[:n]
        tokenizer = study.model("arm", study.seed).tokenizer
        given = {r: answers(study, task, r, study.seed).answer for r in study.pair.roles}
        rows += [
            {"task": task, "prompt": e.text, "answer": tokenizer.decode(list(e.answer)).strip()}
            | {role: column[i] for role, column in given.items()}
            for i, e in enumerate(examples)
        ]
    return pd.DataFrame(rows)
