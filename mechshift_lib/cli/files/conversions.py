"""``mechshift convert``: circuits from file to file, in the forms that peers have."""

from __future__ import annotations

import json
import math
from pathlib import Path

from transformers import AutoConfig

from mechshift_lib.choices import KV, Ranking
from mechshift_lib.circuits.graph.circuit import Circuit, check_out, write_file
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.cli.files.hub import model_folder, readable
from mechshift_lib.documents.files import check_place
from mechshift_lib.errors import CircuitError, ModelError
from mechshift_lib.exchange.forms import SHARES, Form
from mechshift_lib.exchange.reading import check_circuit_path, read_circuit
from mechshift_lib.exchange.writing import left_out, peer_content
from mechshift_lib.models.architectures import anatomy_of
from mechshift_lib.models.opening import quiet, shortened
from mechshift_lib.models.shape import shape_of
from mechshift_lib.models.sources import named


def convert_file(
    source: str | Path,
    out: str | Path,
    *,
    form: Form,
    model_dir: str | Path,
    kv: KV = "ungrouped",
    revision: str | None = None,
    circuits: bool = False,
    by: Ranking = "absolute",
) -> list[str]:
    """Write the circuit of a file in another form.

    Args:
        source: the file, in any form.
        out: the new file, or with ``circuits`` a folder that is empty or not there yet.
        form: its form.
        model_dir: folder of the model that the scores are of, or its name on the hub.
        kv: how its key and value edges are counted.
        revision: revision of a model of the hub.
        circuits: write MIB's circuits without scores instead of the scores.
        by: how edges are ranked for these.

    Returns:
        What the form can't say of the circuit, a sentence each.

    Raises:
        CircuitError: the circuit can't be read or is of another graph, or nothing can be written.
        ModelError: there is no such model, or its architecture is unknown.
    """
    check_circuit_path(source)
    if circuits:
        _check_folder(Path(out))
    else:
        check_out(out, (".json", ".parquet") if form == "mechshift" else (".json",))
    graph, d_model = graph_of_folder(readable(model_folder(model_dir, revision, weights=False)), kv)
    found = read_circuit(source, graph)
    if circuits:
        for share in SHARES:
            kept = found.ranking(source).top(math.floor(share * graph.n_edges + 1e-9), by)
            content = peer_content(
                found.circuit, "mib", d_model=d_model, members=kept, scores=False
            )
            write_file(Path(out) / f"{share:g}.json", json.dumps(content).encode())
        return left_out(graph)
    if form == "mechshift":
        # a circuit without scores becomes one in which its edges have 1 and all others 0
        circuit = found.circuit if found.scored else Circuit(graph, found.given.astype("float32"))
        (circuit.to_json if Path(out).suffix == ".json" else circuit.to_parquet)(out)
        return (
            ["The form doesn't say which edges were in the circuit, as it has their scores."]
            if found.scored and found.members is not None
            else []
        )
    content = peer_content(
        found.circuit, form, d_model=d_model, members=found.members, scores=found.scored
    )
    write_file(out, json.dumps(content).encode())
    return left_out(graph)


def graph_of_folder(folder: Path, kv: KV = "ungrouped") -> tuple[Graph, int]:
    """Graph and d_model of a model, from its configuration alone.

    Raises:
        ModelError: the folder has no configuration that can be read, or its architecture is
            unknown.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"{named(folder)} has no config.json: give a Hugging Face folder.")
    try:
        with quiet():
            config = AutoConfig.from_pretrained(
                str(folder.absolute()), local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # transformers raises whatever a damaged file makes it stumble over
        raise ModelError(
            f"The config.json of {named(folder)} can't be read: {shortened(error)}."
        ) from error
    anatomy = anatomy_of(config)
    shape = shape_of(config, anatomy)
    graph = Graph(shape.n_layers, shape.n_heads, shape.n_kv_heads, kv, anatomy.parallel)
    return graph, shape.d_model


def _check_folder(out: Path) -> None:
    """Refuse a folder that has something in it: its files would be taken for circuits."""
    if out.is_dir():
        if any(out.iterdir()):
            raise CircuitError(f"Folder {out} isn't empty: name a new one.")
        out = out / "circuit.json"
    check_place(out, CircuitError)
