"""The one loop over batches of every attribution."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tqdm.auto import tqdm

from mechshift_lib.circuits.attribution.plan import Plan
from mechshift_lib.circuits.questions.items import buckets
from mechshift_lib.circuits.tracing.retrying import BatchSize, retrying_batches
from mechshift_lib.models.readout import Item

R = TypeVar("R")


def worked_batches(
    items: Sequence[Item],
    plan: Plan,
    work: Callable[[Sequence[Item]], R],
    *,
    rows: int | None = None,
    each: int = 1,
    unit: str = "item",
) -> Iterator[tuple[Sequence[Item], R]]:
    """Results of ``work`` on batches of items of one length, each with its batch.

    Args:
        items: what is asked, of any lengths.
        plan: its batch size and whether progress is shown.
        work: gives a batch's result; leaves nothing behind when memory runs out.
        rows: items per batch, where that isn't the plan's batch size.
        each: how far one item takes the progress bar.
        unit: what the bar counts.

    Raises:
        CircuitError: a single item doesn't fit into memory.
    """
    size = BatchSize(plan.batch_size if rows is None else rows)
    total = each * len(items)
    with tqdm(total=total, desc=plan.method, unit=unit, disable=not plan.progress) as bar:
        for bucket in buckets(items):
            for batch, result in retrying_batches(bucket, size, work):
                yield batch, result
                bar.update(each * len(batch))
