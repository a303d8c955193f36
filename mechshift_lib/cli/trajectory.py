"""``mechshift trajectory``: what the checkpoints of a post-training say, kept in their place."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mechshift_lib.config import ROOT
from mechshift_lib.errors import ConfigError, shown


def trajectory(
    pair: Annotated[str, typer.Argument(metavar="PAIR", help="Name of a file in data/pairs.")],
    seed: Annotated[
        list[int] | None,
        typer.Option(help="Only this training; give it again for more; none: all."),
    ] = None,
    checkout: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The checkout that was trained in, with its data/pairs, data/models and "
            "results/training; by default this one.",
        ),
    ] = None,
    dial: Annotated[
        bool,
        typer.Option(
            "--dial",
            help="Measure the checkpoints of the MDM's variants instead, those that there are.",
        ),
    ] = False,
    examples: Annotated[
        int, typer.Option(min=1, help="Examples of every task that are answered.")
    ] = 200,
    circuit: Annotated[
        int,
        typer.Option(min=4, help="Examples that edges are scored on at every position, at most."),
    ] = 32,
    batch: Annotated[int, typer.Option(min=1, help="Inputs a pass.")] = 64,
    point: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL@STEP",
            help="Only measure this checkpoint and write nothing, such as mdm@100 (the ARM is "
            "arm@0); give it again for more. So several processes or machines share the work; "
            "what each measured is in results/trajectory.",
        ),
    ] = None,
) -> None:
    """Measure every checkpoint of a post-training and keep what it says in data/trajectories.

    Checkpoints of the MDM and the control lie in results/training after a training, and are too
    large for a repository. Of each, the accuracy on every task, the probability of the decisive
    cue, the distance from the ARM and the scores of all edges (EAP-IG, by answer position) are
    kept, with the hash of its weights, the recipe and the code's.

    A checkpoint that was measured already isn't measured again; where some are missing, the others
    are measured and one sentence says which. Of models with very many edges the circuits' likeness,
    way and depth are kept in place of the scores.

    Example: mechshift trajectory tiny-qwen --seed 0

    Example: mechshift trajectory smollm2-135m --seed 0 --examples 64 --circuit 16 --point mdm@100
    """
    from mechshift_lib.analyses import dial as dialled
    from mechshift_lib.analyses.study import Study
    from mechshift_lib.analyses.trajectory_files import DIAL, write
    from mechshift_lib.analyses.trajectory_points import Amount, measure_all, points, some

    if checkout is not None and not checkout.is_dir():
        raise ConfigError(f"There is no folder {shown(str(checkout))} that was trained in.")
    root = ROOT if checkout is None else checkout.absolute()
    study = Study.open(pair, root=root)
    chosen = seed or study.pair.seeds
    for number in chosen:
        study.pair.model("arm", number)
    amount = Amount(accuracy=examples, circuit=circuit, batch=batch)
    for number in chosen:
        all_points = (dialled.points if dial else points)(study, number)
        wanted = some(all_points, point) if point else all_points
        found = measure_all(
            study, number, amount, wanted, arm=all_points[0], progress=sys.stderr.isatty()
        )
        if point:
            typer.echo(f"Measured {', '.join(point)} of seed {number}.")
            continue
        path = write(study, number, found, amount, prefix=DIAL if dial else "")
        typer.echo(f"Wrote {path}")
