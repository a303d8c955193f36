"""``mechshift evaluate``: a circuit's file, a model folder and prompts to faithfulness tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from mechshift_lib.choices import KV, Ablation, Attention, Dtype, Quantization
from mechshift_lib.circuits.evaluation.curve import AREAS, FRACTIONS, RANKING_OF, Curve
from mechshift_lib.circuits.evaluation.faithfulness import (
    RunOptions,
    edge_counts,
    faithfulness_curves,
)
from mechshift_lib.circuits.graph.circuit import check_out
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.graph.selection import SELECTIONS
from mechshift_lib.circuits.questions.items import check_batch_size, check_corrupted, check_items
from mechshift_lib.circuits.questions.metrics import check_metric
from mechshift_lib.cli.files.hub import model_folder
from mechshift_lib.cli.files.partial import (
    example_chunks,
    in_chunks,
    join_curves,
    partial_path,
)
from mechshift_lib.cli.files.prompts import Asking, items_of_rows
from mechshift_lib.cli.files.remote import asked_remotely
from mechshift_lib.cli.files.rows import read_rows
from mechshift_lib.cli.files.tables import SUFFIXES, write_table
from mechshift_lib.config import DeviceMap, ReadoutName
from mechshift_lib.errors import CircuitError
from mechshift_lib.exchange.reading import check_circuit_path, read_circuit
from mechshift_lib.models.loading import LoadedModel, load_folder
from mechshift_lib.models.readout import Item

#: At most so many chunks: each of them averages the whole reference set anew. Optimal ablation,
#: which would be fitted anew, has one.
_MOST_CHUNKS = 8


@dataclass(frozen=True)
class Questions:
    """A model folder and what it is asked.

    Attributes:
        model_dir: Hugging Face folder, or a model of the hub.
        examples: an examples file.
        metric: name of the metric.
        ablation: what edges outside a circuit carry.
        reference: examples file of the reference set of mean and optimal ablation; by default
            ``examples``.
        attention: ``"causal"`` or ``"full"``.
        kv: how key and value edges are counted.
        batch_size: rows per pass.
        memory_budget: bytes that a pass may take.
        device: ``"cpu"`` or ``"cuda"``.
        dtype: precision in which the model runs.
        quantization: how its weights are stored, where that isn't its precision.
        device_map: how it is spread over devices, where it isn't on ``device`` alone.
        readout: where answers to prompts as text are read.
        mask_token: mask token of an MDM's readout.
        revision: revision of a model of the hub.
        remote: where its passes run, by default here.
        call: name of the call, by which that is allowed or not.
        progress: show progress bars.
    """

    model_dir: str | Path
    examples: str | Path
    metric: str = "logit-diff"
    ablation: Ablation = Ablation.RESAMPLE
    reference: str | Path | None = None
    attention: Attention = "causal"
    kv: KV = "ungrouped"
    batch_size: int = 32
    memory_budget: int | None = None
    device: str = "cpu"
    dtype: Dtype = "float32"
    quantization: Quantization | None = None
    device_map: DeviceMap | None = None
    readout: ReadoutName = "next-token"
    mask_token: str | None = None
    revision: str | None = None
    remote: str | None = None
    call: str = "evaluate"
    progress: bool = False

    def options(self, reference: Sequence[Item]) -> RunOptions:
        """How circuits are run."""
        return {
            "metric": self.metric,
            "ablation": self.ablation,
            "reference": reference,
            "batch_size": self.batch_size,
            "memory_budget": self.memory_budget,
            "progress": self.progress,
        }

    def chunks(self, items: Sequence[Item]) -> list[list[Item]]:
        """Whole examples, at most so many at a time that few chunks prepare the ablation anew."""
        n_examples = len({item.example for item in items})
        most = 1 if self.ablation is Ablation.OPTIMAL else _MOST_CHUNKS
        return list(example_chunks(items, max(self.batch_size, -(-n_examples // most))))

    def open(self) -> tuple[LoadedModel, list[Item], list[Item]]:
        """The model, the items and the reference set.

        Raises:
            CircuitError: an option is unknown, or an example is malformed.
            ConfigError: the readout doesn't suit the attention.
            ModelError: the model can't be loaded or doesn't attend as declared.
        """
        check_metric(self.metric)
        check_batch_size(self.batch_size)
        asking = Asking(self.model_dir, self.readout, self.mask_token, self.attention)
        rows = read_rows(self.examples)
        others = None if self.reference is None else read_rows(self.reference)
        remote = asked_remotely(
            self.remote,
            self.call,
            self.model_dir,
            self.revision,
            attention=self.attention,
            kv=self.kv,
            device=self.device,
            quantization=self.quantization,
            device_map=self.device_map,
        )
        folder = model_folder(self.model_dir, self.revision)
        asking = replace(asking, folder=folder)
        items = items_of_rows(rows, asking)
        if self.ablation is Ablation.RESAMPLE:  # the others need no corrupted input
            check_corrupted(items)
        reference = items if others is None else items_of_rows(others, asking)
        model = load_folder(
            folder,
            attention=self.attention,
            kv=self.kv,
            device=self.device,
            dtype=self.dtype,
            quantization=self.quantization,
            device_map=self.device_map,
            remote=remote,
        )
        check_items(items, model)
        check_items(reference, model)
        return model, items, reference


def evaluate_file(
    questions: Questions,
    circuit_path: str | Path,
    *,
    fractions: Sequence[float] = FRACTIONS,
    by: Sequence[str] = ("signed", "absolute"),
    selection: str = "top",
    out: str | Path | None = None,
) -> list[Curve]:
    """Faithfulness of the circuits that a file's scores give, one curve per ranking.

    When an example fails, the table of those finished before is kept beside ``out``.

    Args:
        questions: the model and what it is asked.
        circuit_path: ``{edge name: score}``, the table that ``mechshift attribute`` writes, or a
            graph of EAP-IG or MIB.
        fractions: shares of all edges, ascending.
        by: rankings: ``"signed"`` (gives CPR) and ``"absolute"`` (gives CMD).
        selection: ``"top"`` or ``"greedy"``.
        out: where the points go, as ``.csv``, ``.parquet`` or ``.json`` (with CPR and CMD).

    Raises:
        CircuitError: an example, option or the circuit is malformed, or the metric is NaN.
        ModelError: the model can't be loaded or doesn't attend as declared.
    """
    edge_counts(1, fractions)
    check_circuit_path(circuit_path)
    if out is not None:
        check_out(out, SUFFIXES)
    if selection not in SELECTIONS:
        raise CircuitError(
            f"Unknown selection {selection!r}: choose one of {', '.join(SELECTIONS)}."
        )
    model, items, reference = questions.open()
    circuit = read_circuit(circuit_path, Graph.for_model(model)).ranking(circuit_path)
    chunks = questions.chunks(items)

    def work(chunk: Sequence[Item]) -> list[Curve]:
        return [
            faithfulness_curves(
                model,
                chunk,
                [circuit],
                fractions=fractions,
                by=ranking,
                selection=selection,
                **questions.options(reference),
            )[0]
            for ranking in by
        ]

    def join(done: list[list[Curve]]) -> list[Curve]:
        return [join_curves(parts) for parts in zip(*done, strict=True)]

    def keep(done: list[list[Curve]]) -> Path | None:
        if out is None:
            return None
        export_curves(join(done), partial_path(out))
        return partial_path(out)

    curves = join(in_chunks(chunks, work, keep))
    if out is not None:
        export_curves(curves, out)
        partial_path(out).unlink(missing_ok=True)
    return curves


def areas(curves: Sequence[Curve]) -> dict[str, dict[str, float]]:
    """CPR and CMD of the curves that they are defined for, with intervals: value, low, high.

    A curve of a single point has none.
    """
    found: dict[str, dict[str, float]] = {}
    for name, area in AREAS.items():
        for curve in curves:
            if curve.by == RANKING_OF[name] and len(curve.fractions) > 1:
                low, high = curve.interval(name)
                found[name] = {"value": area(curve), "low": low, "high": high}
    return found


def export_curves(curves: Sequence[Curve], out: str | Path) -> None:
    """Write the points of curves as ``.csv``, ``.parquet``, or with :func:`areas` as ``.json``.

    Raises:
        CircuitError: another suffix, or the file can't be written.
    """
    table = pd.concat([_points(curve) for curve in curves], ignore_index=True)
    known = {
        name: {key: x if math.isfinite(x) else None for key, x in area.items()}  # no NaN in JSON
        for name, area in areas(curves).items()
    }
    write_table(table, out, "points", known)


def _points(curve: Curve) -> pd.DataFrame:
    table = curve.frame()
    table.insert(0, "by", curve.by)
    table.insert(1, "selection", curve.selection)
    return table
