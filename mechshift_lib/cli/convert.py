"""``mechshift convert``: a circuit's file in the form of EAP-IG, of MIB, or in ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mechshift_lib.choices import Ranking
from mechshift_lib.cli.options import MODEL_HELP, KVOption, RevisionOption
from mechshift_lib.errors import ConfigError
from mechshift_lib.exchange.forms import Form


def convert(
    circuit: Annotated[
        Path,
        typer.Argument(
            metavar="CIRCUIT",
            help="What attribute or export-circuit writes, or a graph of EAP-IG or MIB (.json).",
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help=".json; with --form mechshift also .parquet; with --circuits a new folder.",
        ),
    ],
    form: Annotated[
        Form,
        typer.Option(
            help="eap-ig: what EAP-IG's Graph.to_json wrote in 2024, nodes being true or false; "
            "mib: what it writes since 2025 and MIB's circuit track takes; mechshift: {edge name: "
            "score}."
        ),
    ],
    model: Annotated[
        Path,
        typer.Option(
            help=f"The model that the scores are of. {MODEL_HELP} Only its config.json is read."
        ),
    ],
    circuits: Annotated[
        bool,
        typer.Option(
            "--circuits",
            help="With --form mib: write circuits of 0.1 % to 50 % of the edges, without scores, "
            "a file each.",
        ),
    ] = False,
    by: Annotated[
        Ranking | None,
        typer.Option(
            help="With --circuits: rank edges by absolute or by signed score.",
            show_default="absolute",
        ),
    ] = None,
    kv: KVOption = "ungrouped",
    revision: RevisionOption = None,
) -> None:
    """Write a circuit in the form of a peer, or a peer's circuit in ours.

    Edges have the same names in all forms, and scores the same **sign**: positive = corrupting the
    edge lowers the metric. What a form can't say is said when it is written. Scores that are
    resolved by position are summed. `mechshift evaluate` reads all forms without this.

    Example: mechshift convert scores.json importances.json --form mib --model FOLDER

    Example: mechshift convert scores.json ioi_mine --form mib --model FOLDER --circuits
    """
    if circuits and form != "mib":
        raise ConfigError("--circuits are a form of MIB: add --form mib.")
    if by is not None and not circuits:
        raise ConfigError("--by ranks the edges of --circuits: add that, or leave it out.")
    from mechshift_lib.cli.files.conversions import convert_file

    for sentence in convert_file(
        circuit,
        out,
        form=form,
        model_dir=model,
        kv=kv,
        revision=revision,
        circuits=circuits,
        by=by or "absolute",
    ):
        typer.echo(f"mechshift: {sentence}", err=True)
    typer.echo(f"Wrote {out}")
