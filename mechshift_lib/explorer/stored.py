"""The explorer's files of a pair: made of its scores, or stored as they are.

Scores of a large model's edges are too many to ship, and take minutes to compute. Of such a pair,
whose tables all ship, the chapter on circuits stores the files themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, fields, replace

import pandas as pd

from mechshift_lib.analyses.circuits import key_of
from mechshift_lib.analyses.scores import circuits_of, measured
from mechshift_lib.analyses.study import Study
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.errors import ConfigError, ModelError
from mechshift_lib.explorer.files import script
from mechshift_lib.explorer.sources import NotStoredError, Reading, Source, along, final
from mechshift_lib.results.store import Frames

KIND = "explored"
ROOMS = ("circuits", "comparison", "analyses/behaviour", "analyses/scores", "explorer")


def files_of(study: Study) -> Iterator[tuple[Source, str]]:
    """Every file that there is of a pair, with the circuits that it has."""
    for task in study.pair.tasks:
        for seed in study.pair.seeds:
            made = [(one, script(study.pair.name, one)) for one in final(study, task, seed)]
            yield from made or _stored(study, task, seed)
    for one in along(study):
        yield one, script(study.pair.name, one)


def keep(study: Study, task: str) -> None:
    """Store the files of a task, of every training whose tables ship.

    Nothing is done for a pair whose file doesn't say so: its files are made of its scores.
    """
    for seed in study.pair.seeds if study.pair.tables == "all" else ():
        explored(study, task, seed)


def explored(study: Study, task: str, seed: int) -> Frames:
    """The files of a task and training.

    Returns:
        ``files``: one row a file: the fields of :class:`Source` (``graph`` and ``names`` as JSON),
        and ``script``.

    Raises:
        ConfigError: no two examples are solved.
    """
    names = _names(study, task, seed)

    def compute() -> Frames:
        for name in names:
            measured(study, task, name, seed)
        stored = replace(study, store=Reading(study.store.root))
        rows = []
        for one in final(stored, task, seed):
            row = {field.name: getattr(one, field.name) for field in fields(Source)}
            row["graph"] = json.dumps(asdict(one.graph), default=int)
            row["names"] = json.dumps(one.names)
            rows.append(row | {"script": script(study.pair.name, one)})
        return {"files": pd.DataFrame(rows)}

    return study.frames(KIND, key_of(study, task, seed, names, ROOMS), compute)


def _names(study: Study, task: str, seed: int) -> list[str]:
    """Circuits of a training: the MDM's own order is the first's only."""
    return circuits_of(study, task) if seed == study.seed else list(study.pair.roles)


def _stored(study: Study, task: str, seed: int) -> Iterator[tuple[Source, str]]:
    """Files that were stored of a task and training; none where there are none."""
    try:
        table = explored(study, task, seed)["files"]
    except (NotStoredError, ConfigError, ModelError):
        return
    for row in table.to_dict("records"):
        text = str(row.pop("script"))
        graph, names = Graph(**json.loads(row["graph"])), tuple(json.loads(row["names"]))
        yield Source(**row | {"graph": graph, "names": names}), text
