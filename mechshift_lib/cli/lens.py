"""``mechshift lens``: trains the tuned lenses that ship with the book."""

from __future__ import annotations

from typing import Annotated

import typer

from mechshift_lib.errors import ConfigError


def lens(
    pair: Annotated[str, typer.Argument(metavar="PAIR", help="A file in data/pairs.")],
    seed: Annotated[
        list[int] | None,
        typer.Option(help="Only this training; give it again for more; none: all."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Only this model, such as mdm; give it again for more; none: all."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Train anew what is there already, too.")
    ] = False,
) -> None:
    """Train the tuned lens of every model and keep it in data/lenses, for the book.

    An affine translator of each layer learns to give the model's own output, on texts of the
    pair's own corpus. The book reads lenses from there as long as weights, texts and settings are
    the same, and trains those that are missing.

    Example: mechshift lens tiny-qwen --seed 0
    """
    from tqdm import tqdm

    from mechshift_lib.analyses import lenses
    from mechshift_lib.analyses.study import Study
    from mechshift_lib.errors import listed, shown

    study = Study.open(pair)
    for number in seed or ():
        study.pair.model("arm", number)
    for name in model or ():
        if name not in study.pair.roles:
            raise ConfigError(
                f"Unknown model {shown(name)}: choose from {listed(study.pair.roles)}."
            )
    if not lenses.fits(study):
        raise ConfigError(
            f"The models of {pair} are too large for lenses of {lenses.LARGEST:,} bytes at most: "
            "the book reads them by the logit lens."
        )
    wanted = [
        (role, number)
        for number in seed or study.pair.seeds
        for role in model or study.pair.roles
        if study.has(role, number)
    ]
    for role, number in tqdm(wanted, desc=pair, unit="lens"):
        if again or lenses.shipped(study, role, number) is None:
            lenses.ship(study, role, number)
    typer.echo(f"{len(wanted)} lenses of {pair} are in data/lenses.")
