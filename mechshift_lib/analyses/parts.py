"""Results that several jobs made a part of each: kept as parts, taken together when all are there.

A part is a result of its own, under the key of the whole and the number of its shard, so parts that
were made of other models, questions or code are told from those that belong together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mechshift_lib.errors import ResultError
from mechshift_lib.results.store import Frames, Store, canonical, read_provenance

#: Kind of stored result that parts of circuits are.
KIND = "circuit-parts"
#: Fields of a key that say what a result is about; the others say what it was made of.
_ABOUT = ("pair", "task", "circuit", "seed")
#: What the provenance of a whole repeats of each of its parts.
_NOTED = ("created", "commit", "hardware", "device", "wall_seconds", "files")


@dataclass(frozen=True)
class Shard:
    """One of several jobs among which work is divided.

    Attributes:
        number: which, from 1.
        of: how many there are.
    """

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def part(
    store: Store, key: Mapping[str, Any], shard: Shard, compute: Callable[[], Frames]
) -> Frames:
    """A part of a result, from the store or computed and stored.

    Args:
        store: where parts are kept.
        key: the key of the whole.
        shard: whose part.
        compute: makes it: ``items`` with a column ``item``, the place of each in the whole;
            ``scores``, a column an item, named by its place; and ``graph``.
    """
    return store.frames(KIND, _key(key, shard), compute)


def together(store: Store, key: Mapping[str, Any]) -> tuple[Frames, dict[str, Any]] | None:
    """The whole of a result and what its provenance says; ``None`` where no job made a part of it.

    Raises:
        ResultError: parts are missing, damaged, or made of something else than is asked now.
    """
    key = json.loads(canonical(key))  # as keys are stored
    records = [
        read_provenance(path.parent) for path in store.root.glob(f"{KIND}/*/provenance.json")
    ]
    asked = {name: key[name] for name in _ABOUT}
    about = [x for x in records if {name: x["key"].get(name) for name in _ABOUT} == asked]
    own = [x["key"]["shard"] for x in about if _without_shard(x["key"]) == key]
    if not about:
        return None
    if not own:
        raise ResultError(_foreign(key, about[0]["key"]))
    for of in sorted({of for _, of in own}):
        shards = [Shard(number, of) for number in range(1, of + 1)]
        if all([x.number, x.of] in own for x in shards):
            return _joined(store, key, shards)
    raise ResultError(_missing(key, own))


def _key(key: Mapping[str, Any], shard: Shard) -> dict[str, Any]:
    return dict(key) | {"shard": [shard.number, shard.of]}


def _without_shard(key: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in key.items() if name != "shard"}


def _joined(
    store: Store, key: Mapping[str, Any], shards: list[Shard]
) -> tuple[Frames, dict[str, Any]]:
    def missing() -> Frames:
        raise ResultError(_missing(key, []))

    found = [store.frames(KIND, _key(key, shard), missing) for shard in shards]
    filled = [frames for frames in found if len(frames["items"])]
    items = pd.concat([frames["items"] for frames in filled]).sort_values("item")
    places = [str(i) for i in range(len(items))]
    if items.item.astype(str).tolist() != places:
        raise ResultError(
            f"The parts of {_named(key)} don't make a whole, as their questions overlap or leave "
            f"gaps: delete results/{KIND} and run the shards again."
        )
    scores = pd.concat([frames["scores"] for frames in filled], axis=1)[places]
    whole = {
        "items": items.drop(columns="item").reset_index(drop=True),
        "scores": scores,
        "graph": filled[0]["graph"],
    }
    records = [store.provenance(KIND, _key(key, shard)) for shard in shards]
    notes = [
        {"shard": str(shard)} | {name: record.get(name) for name in _NOTED}
        for shard, record in zip(shards, records, strict=True)
    ]
    seconds = round(sum(record["wall_seconds"] for record in records), 3)
    return whole, {"wall_seconds": seconds, "parts": notes}


def _named(key: Mapping[str, Any]) -> str:
    return f"circuit {key['circuit']} of {key['pair']} on {key['task']}"


def _missing(key: Mapping[str, Any], own: list[list[int]]) -> str:
    """What is said where some of a result's shards were run: of those that most were run of."""
    counts = [of for _, of in own]
    of = max(counts, key=counts.count)
    lacking = [str(i) for i in range(1, of + 1) if [i, of] not in own]
    return (
        f"Of {_named(key)}, shards {', '.join(lacking)} of {of} are missing: run mechshift run "
        f"{key['pair']} --shard {lacking[0]}/{of} (and so on), copy their results/{KIND} here, or "
        f"delete results/{KIND} and all of it is computed here."
    )


def _foreign(key: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """What is said where all parts are of something else: what differs first."""
    whole = _without_shard(other)
    field = next(x for x in sorted({*key, *whole}) if key.get(x) != whole.get(x))
    what = {"code": "another version of the library", "pool": "other examples"}
    return (
        f"The parts of {_named(key)} in results/{KIND} were made of "
        f"{what.get(field, f'another {field}')} than is asked for now: run the shards again, or "
        f"delete results/{KIND} and all of it is computed here."
    )
