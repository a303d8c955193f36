"""Long work over a file's examples, of which nothing is lost when it stops half-way.

The work is done in chunks of whole examples. What an error, an interrupt or a full memory leaves
finished is written beside the place of the result and named in the message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mechshift_lib.circuits.attribution.edges import Attribution
from mechshift_lib.circuits.evaluation.curve import Curve
from mechshift_lib.circuits.patching.paths import PathPatching
from mechshift_lib.circuits.patching.record import Patching
from mechshift_lib.errors import MechshiftError
from mechshift_lib.models.readout import Item

T = TypeVar("T")


def partial_path(out: str | Path) -> Path:
    """Where the finished part of ``out`` is kept: ``scores.partial.json`` for ``scores.json``."""
    path = Path(out)
    return path.with_name(f"{path.stem}.partial{path.suffix}")


def example_chunks(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    """All items of ``size`` examples at a time, the shortest first, so that batches stay full."""
    by_example: dict[int, list[Item]] = {}
    for item in items:
        by_example.setdefault(item.example, []).append(item)
    ordered = sorted(by_example.values(), key=lambda own: (len(own[0].clean), own[0].example))
    for start in range(0, len(ordered), size):
        yield [item for own in ordered[start : start + size] for item in own]


def in_chunks(
    chunks: Sequence[Sequence[Item]],
    work: Callable[[Sequence[Item]], T],
    keep: Callable[[list[T]], Path | None],
) -> list[T]:
    """Results of ``work`` on each chunk; what is finished when one fails goes to ``keep``.

    Args:
        chunks: items of whole examples.
        work: what is done with each chunk.
        keep: writes the results of the chunks before and says where, or returns ``None``.

    Raises:
        MechshiftError: of the same class as the failing chunk's, its sentence followed by where
            the finished part is; any other exception gets that as a note.
    """
    done: list[T] = []
    try:
        for chunk in chunks:
            done.append(work(chunk))
    except BaseException as error:
        try:
            path = keep(done) if done else None
        except MechshiftError:  # what is finished can't be written: the first error says more
            path = None
        if path is None:
            raise
        n = len({item.example for chunk in chunks[: len(done)] for item in chunk})
        kept = f"what the {n} examples finished before gave is kept in {path}"
        if isinstance(error, MechshiftError):
            raise type(error)(f"{str(error).rstrip('.')}; {kept}.") from error
        error.add_note(f"{kept[0].upper()}{kept[1:]}.")
        raise
    return done


def join_attributions(
    parts: Sequence[Attribution], chunks: Sequence[Sequence[Item]]
) -> Attribution:
    """One attribution from those of disjoint chunks of examples.

    Args:
        parts: attributions of the same graph.
        chunks: the items of each.
    """
    examples = np.concatenate([part.examples for part in parts])
    order = np.argsort(examples)
    counts = [Counter(item.step for item in chunk) for chunk in chunks[: len(parts)]]
    steps = np.array(sorted(set().union(*counts)), dtype=np.int64)
    by_step = np.zeros((len(steps), parts[0].graph.n_edges))
    for part, count in zip(parts, counts, strict=True):
        rows = np.searchsorted(steps, part.steps)
        share = [count[step] / sum(c[step] for c in counts) for step in part.steps.tolist()]
        by_step[rows] += part.by_step * np.array(share)[:, None]
    by_position: NDArray[np.float32] | None = None
    positions = [part.by_position for part in parts if part.by_position is not None]
    if positions:
        weights = np.array([len(part.examples) for part in parts]) / len(examples)
        by_position = sum(
            (w * p for w, p in zip(weights, positions, strict=True)), np.zeros(1)
        ).astype(np.float32)

    def joined(name: str) -> NDArray[np.floating]:
        rows: NDArray[np.floating] = np.concatenate([getattr(part, name) for part in parts])[order]
        return rows

    return Attribution(
        graph=parts[0].graph,
        examples=examples[order],
        by_example=joined("by_example").astype(np.float32),
        steps=steps,
        by_step=by_step.astype(np.float32),
        metric_clean=joined("metric_clean").astype(np.float64),
        metric_corrupted=joined("metric_corrupted").astype(np.float64),
        by_position=by_position,
    )


def join_curves(parts: Sequence[Curve]) -> Curve:
    """One curve from those of disjoint chunks of examples, in ascending order of the examples."""
    examples = np.concatenate([part.examples for part in parts])
    order = np.argsort(examples)
    first = parts[0]
    return Curve(
        fractions=first.fractions,
        n_edges=first.n_edges,
        by=first.by,
        selection=first.selection,
        examples=examples[order],
        values=np.concatenate([part.values for part in parts], axis=1)[:, order],
        correct=np.concatenate([part.correct for part in parts], axis=1)[:, order],
        full=np.concatenate([part.full for part in parts])[order],
        empty=np.concatenate([part.empty for part in parts])[order],
    )


def join_patchings(parts: Sequence[Patching]) -> Patching:
    """One patching from those of disjoint chunks of examples, item after item."""
    first = parts[0]
    return replace(
        first,
        examples=np.concatenate([part.examples for part in parts]),
        steps=np.concatenate([part.steps for part in parts]),
        reads=np.concatenate([part.reads for part in parts]),
        lengths=np.concatenate([part.lengths for part in parts]),
        clean=np.concatenate([part.clean for part in parts]),
        corrupted=np.concatenate([part.corrupted for part in parts]),
        patched={site: _stacked([part.patched[site] for part in parts]) for site in first.patched},
    )


def _stacked(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Arrays below each other, NaN at the positions that only longer ones have."""
    width = max(part.shape[-1] for part in parts)
    return np.concatenate(
        [
            np.pad(
                part,
                [(0, 0)] * (part.ndim - 1) + [(0, width - part.shape[-1])],
                constant_values=np.nan,
            )
            for part in parts
        ]
    )


def join_paths(parts: Sequence[PathPatching]) -> PathPatching:
    """One path patching from those of disjoint chunks, in ascending order of the examples."""
    examples = np.concatenate([part.examples for part in parts])
    order = np.argsort(examples)
    return replace(
        parts[0],
        examples=examples[order],
        patched=np.concatenate([part.patched for part in parts], axis=1)[:, order],
        clean=np.concatenate([part.clean for part in parts])[order],
        corrupted=np.concatenate([part.corrupted for part in parts])[order],
    )
