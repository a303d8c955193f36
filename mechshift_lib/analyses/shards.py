"""The scores of a pair's circuits, divided among jobs that run side by side.

What is divided are the batches of questions: a shard scores every N-th of them, each filled just as
without shards. So the parts, taken together, are the scores of one job to the bit, on machines of
one kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from mechshift_lib.analyses.parts import Shard, part
from mechshift_lib.analyses.scores import (
    circuits_of,
    measured_items,
    questions,
    scores_key,
    studied_tasks,
)
from mechshift_lib.analyses.study import Study
from mechshift_lib.circuits.questions.items import buckets
from mechshift_lib.errors import ConfigError
from mechshift_lib.models.readout import Item
from mechshift_lib.results.store import Frames


def run_shard(study: Study, shard: Shard) -> Iterator[tuple[str, str, int]]:
    """Score a shard's questions of every circuit of the pair's first training.

    A part that is stored already isn't computed again.

    Yields:
        Task, circuit, and how many questions were the shard's.

    Raises:
        ConfigError: circuits of this pair are scored by exact patching, or there are none.
    """
    if study.budget.estimator == "exact":
        raise ConfigError(
            f"Circuits of {study.pair.name!r} are scored by exact patching, whose passes share "
            "clean runs and aren't divided: leave out --shard, or set estimator: eap-ig in the "
            "budget of the pair's file."
        )
    for task in studied_tasks(study):
        for circuit in circuits_of(study, task):
            found = part(
                study.store,
                scores_key(study, task, circuit, study.seed),
                shard,
                partial(measure_part, study, task, circuit, shard),
            )
            yield task, circuit, len(found["items"])


def measure_part(study: Study, task: str, circuit: str, shard: Shard) -> Frames:
    """A shard's part of a circuit's scores (see :func:`mechshift_lib.analyses.parts.part`)."""
    model, items, table = questions(study, task, circuit, study.seed)
    places = own_places(items, study.budget.batch_size, shard)
    chosen = [items[i] for i in places]
    own = table.iloc[places].assign(item=places)
    return measured_items(study, model, task, chosen, own.reset_index(drop=True))


def own_places(items: Sequence[Item], batch_size: int, shard: Shard) -> list[int]:
    """Places of the items of every N-th batch, ascending.

    Batches are those of attribution: items of one length in their order.
    """
    place = {id(item): i for i, item in enumerate(items)}
    batches = [
        bucket[start : start + batch_size]
        for bucket in buckets(items)
        for start in range(0, len(bucket), batch_size)
    ]
    own = batches[shard.number - 1 :: shard.of]
    return sorted(place[id(item)] for batch in own for item in batch)
