"""``mechshift dictionaries``: trains the dictionaries that ship with the book, and exports them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mechshift_lib.errors import ConfigError


def dictionaries(
    pair: Annotated[str, typer.Argument(metavar="PAIR", help="A file in data/pairs.")],
    seed: Annotated[
        list[int] | None,
        typer.Option(help="Only this training; give it again for more; none: all."),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(help="Only this one, such as arm-mdm; give it again for more; none: all."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Train anew what is there already, too.")
    ] = False,
    saelens: Annotated[
        Path | None,
        typer.Option(
            help="Write SAEs to this folder as SAELens reads them; crosscoders have no such form."
        ),
    ] = None,
) -> None:
    """Train sparse autoencoders and crosscoders of a pair, and keep them in data/dictionaries.

    They read the residual stream in the middle of the models on texts of the pair's own corpus,
    streamed and never kept. Each is written when it is whole: a killed run goes on with the next.
    The book reads them from there as long as weights, texts and settings are the same.

    Example: mechshift dictionaries tiny-qwen --seed 0 --saelens /tmp/saes
    """
    from tqdm import tqdm

    from mechshift_lib.analyses import dictionaries as made
    from mechshift_lib.analyses.study import Study
    from mechshift_lib.errors import listed, shown
    from mechshift_lib.semantics.saelens import export_saelens

    study = Study.open(pair)
    for number in seed or ():
        study.pair.model("arm", number)
    for one in name or ():
        if one not in made.VIEWS:
            raise ConfigError(f"Unknown dictionary {shown(one)}: choose from {listed(made.VIEWS)}.")
    if not made.fits(study):
        raise ConfigError(
            f"The models of {pair} are too wide for crosscoders of {made.LARGEST:,} bytes at most, "
            "which is what ships with the book: use a narrower model."
        )
    wanted = [
        (one, number)
        for number in seed or study.pair.seeds
        for one in made.names(study, number)
        if not name or one in name
    ]
    for one, number in tqdm(wanted, desc=pair, unit="dictionary"):
        if again or made.shipped(study, one, number) is None:
            made.ship(study, one, number)
        if saelens is not None and one not in made.CROSSCODERS:
            module = made.module_of(study, one, number)
            folder = saelens / pair / f"seed{number}" / one
            export_saelens(folder, made.dictionary_of(study, one, number), module)
    typer.echo(f"{len(wanted)} dictionaries of {pair} are in data/dictionaries.")
