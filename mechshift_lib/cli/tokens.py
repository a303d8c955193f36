"""``mechshift tokens``: how a model's tokenizer splits texts, or the texts of an examples file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mechshift_lib.cli.options import EXAMPLES_HELP, MODEL_HELP, RevisionOption
from mechshift_lib.errors import ConfigError


def tokens(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TEXT]...",
            help="Texts; two of them are shown side by side. Or give --examples.",
            show_default=False,
        ),
    ] = None,
    examples: Annotated[
        Path | None, typer.Option(help=f"An examples file. {EXAMPLES_HELP}", show_default=False)
    ] = None,
    entry: Annotated[
        int | None,
        typer.Option(
            help="With --examples: show only this entry, from 0.", min=0, show_default=False
        ),
    ] = None,
    revision: RevisionOption = None,
) -> None:
    """Show the tokens of texts, with their ids and positions.

    Positions are those that an examples file names, and count whatever the tokenizer puts in
    front. A token is shown as Python writes it, so that `' Mary'` and `'Mary'` can be told apart.
    Of an examples file, each clean prompt stands beside its corrupted one, and the places where
    they differ are marked; entries whose prompts have unequal lengths are shown too, and named at
    the end. Weights are neither needed nor read.

    Example: mechshift tokens FOLDER "The cat" "The dog"

    Example: mechshift tokens FOLDER --examples prompts.json --entry 3
    """
    if (examples is None) == (not texts):
        raise ConfigError("Say what to show: either texts or --examples FILE.")
    if entry is not None and examples is None:
        raise ConfigError("--entry is one of an examples file: give --examples FILE, too.")
    from mechshift_lib.cli.files.hub import model_folder
    from mechshift_lib.cli.files.prompts import Asking
    from mechshift_lib.cli.files.rows import read_rows
    from mechshift_lib.cli.files.shown_tokens import lines_of_rows, lines_of_texts

    rows = None if examples is None else read_rows(examples)
    tokenizer = Asking(model_folder(model, revision, weights=False)).tokenizer
    lines = (
        lines_of_texts(tokenizer, texts or [])
        if rows is None
        else lines_of_rows(tokenizer, rows, entry)
    )
    for line in lines:
        typer.echo(line)
