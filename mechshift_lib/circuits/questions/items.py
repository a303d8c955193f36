"""Items for circuits: what is refused, how they are batched, and which positions can matter."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from mechshift_lib.errors import CircuitError
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item


def check_items(items: Sequence[Item], model: LoadedModel) -> None:
    """Say in one sentence what is wrong with the first malformed item.

    Raises:
        CircuitError: no items, unequal lengths, a token id outside the vocabulary, a position out
            of range, or an answer that equals its distractor.
    """
    if not items:
        raise CircuitError("There is nothing to attribute: give at least one example.")
    longest = model.max_positions
    for item in items:
        where, length = f"Example {item.example}", len(item.clean)
        if length != len(item.corrupted):
            raise CircuitError(
                f"{where} has {length} clean and {len(item.corrupted)} corrupted tokens: both "
                "must have the same length."
            )
        if not length or (longest is not None and length > longest):
            raise CircuitError(f"{where} has {length} tokens: the model takes 1 to {longest}.")
        if not len(item.reads) == len(item.answers) == len(item.distractors) > 0:
            raise CircuitError(f"{where} needs one answer and one distractor for each position.")
        sets = (*item.answers, *item.distractors)
        if not all(sets):
            raise CircuitError(f"{where} has a position without an answer or distractor.")
        for token in {*item.clean, *item.corrupted, *(t for ids in sets for t in ids)}:
            if not 0 <= token < model.vocab_size:
                raise CircuitError(
                    f"{where} has token id {token}: the model's ids are 0 to "
                    f"{model.vocab_size - 1}."
                )
        for read, answers, distractors in zip(
            item.reads, item.answers, item.distractors, strict=True
        ):
            if not 0 <= read < length:
                raise CircuitError(f"{where} reads position {read} of {length}: out of range.")
            if set(answers) == set(distractors):
                raise CircuitError(f"{where} has an answer equal to its distractor {distractors}.")


def check_corrupted(items: Sequence[Item]) -> None:
    """Refuse an item whose corrupted input is its clean one: all of its scores would be 0.

    Raises:
        CircuitError: there is one.
    """
    for item in items:
        if item.clean == item.corrupted:
            raise CircuitError(
                f"Example {item.example} has the same clean and corrupted tokens, so nothing is "
                "corrupted and every score would be 0: change at least one token."
            )


def check_batch_size(batch_size: int) -> None:
    """Refuse a batch size below 1.

    Raises:
        CircuitError: the batch size is below 1.
    """
    if batch_size < 1:
        raise CircuitError(f"The batch size must be at least 1, not {batch_size}.")


def one_length(items: Sequence[Item], reason: str) -> int:
    """The number of tokens that all items have.

    Raises:
        CircuitError: they have different numbers; ``reason`` says what needs one.
    """
    lengths = sorted({len(item.clean) for item in items})
    if len(lengths) != 1:
        raise CircuitError(
            f"{reason} needs items of one length, but there are some of {lengths[0]} and of "
            f"{lengths[-1]} tokens: take one length at a time."
        )
    return lengths[0]


def buckets(items: Sequence[Item]) -> list[list[Item]]:
    """Items of equal length together, the shortest first."""
    by_length: dict[int, list[Item]] = defaultdict(list)
    for item in items:
        by_length[len(item.clean)].append(item)
    return [bucket for _, bucket in sorted(by_length.items())]


def batches(items: Sequence[Item], batch_size: int) -> Iterator[list[Item]]:
    """Items of equal length together, so that nothing is padded."""
    for bucket in buckets(items):
        for start in range(0, len(bucket), batch_size):
            yield bucket[start : start + batch_size]


def active_positions(items: Sequence[Item], attention: str) -> slice:
    """Positions of a batch that can carry a score.

    Under causal attention nothing differs before the first corrupted token and nothing after the
    last read position has a gradient.
    """
    length = len(items[0].clean)
    if attention != "causal":
        return slice(0, length)
    first = min(
        next((p for p in range(length) if x.clean[p] != x.corrupted[p]), length) for x in items
    )
    last = max(max(x.reads) for x in items)
    return slice(min(first, last), last + 1)
