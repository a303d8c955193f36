"""``mechshift results``: what is stored, whether it is whole, and one archive to publish."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mechshift_lib.errors import ResultError

if TYPE_CHECKING:
    import pandas as pd

    from mechshift_lib.results.store import Store

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Stored results: list them, show one, check every byte, publish them.

    Each result is a folder results/KIND/NAME of parquet tables with its provenance. NAME is a hash
    of everything that the result depends on: parameters, models, examples and code.""",
)
Folder = Annotated[
    Path, typer.Option("--results", help="The folder of results; relative to the repository.")
]
RESULTS = Path("results")


def _store(folder: Path) -> Store:
    from mechshift_lib.results.store import Store

    return Store(folder)


def _table(frame: pd.DataFrame) -> str:
    return frame.to_string(index=False) if len(frame) else "(none)"


@app.command("list")
def list_(
    kind: Annotated[
        str | None, typer.Option(help="Only this kind of result, such as circuits.")
    ] = None,
    results: Folder = RESULTS,
) -> None:
    """List every stored result: kind, name, pair, role, task, when and by which commit."""
    from mechshift_lib.results.archive import listing

    found = listing(_store(results))
    if kind is not None and len(found):
        kinds = sorted(set(found["kind"]))
        if kind not in kinds:
            raise ResultError(f"There is no result of kind {kind!r}; there are {', '.join(kinds)}.")
        found = found[found["kind"] == kind]
    typer.echo(_table(found))


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A result's name, or its start.")],
    rows: Annotated[int, typer.Option(help="Rows of each table that are printed.", min=0)] = 5,
    results: Folder = RESULTS,
) -> None:
    """Show one result: its provenance, what its columns mean, and the first rows of its tables."""
    import json

    import pandas as pd

    from mechshift_lib.results.archive import dictionary, find

    entry = find(_store(results), name)
    record = entry.record()
    typer.echo(json.dumps({k: v for k, v in record.items() if k != "files"}, indent=1))
    columns = dictionary(entry)
    typer.echo(f"\n{_table(columns.drop(columns='kind'))}")
    for file in sorted(record["files"]) if rows else ():
        head = pd.read_parquet(entry.folder / file).head(rows)
        typer.echo(f"\n{file}\n{_table(head)}")


@app.command()
def verify(
    results: Folder = RESULTS,
    book: Annotated[
        bool,
        typer.Option("--book", help="Also every executed page, and the results that it names."),
    ] = False,
) -> None:
    """Hash every file again. The exit code is 2 if one isn't what the run wrote."""
    from mechshift_lib.results.archive import verify as check

    count, faults = 0, []
    for entry, fault in check(_store(results)):
        count += 1
        if fault:
            faults.append(f"{entry.kind}/{entry.name}: {fault}")
            typer.echo(faults[-1])
    if faults:
        raise ResultError(
            f"{len(faults)} of {count} results are damaged: delete their folders and run again."
        )
    typer.echo(f"{count} results, all whole.")
    if book:
        _verify_pages(results)


def _verify_pages(results: Path) -> None:
    from mechshift_lib.workflow import faults_of_pages

    count, faults = 0, 0
    for page, fault in faults_of_pages(results):
        count += 1
        if fault:
            faults += 1
            typer.echo(f"{page}: {fault}")
    if faults:
        raise ResultError(
            f"{faults} of {count} executed pages aren't what they were: say mechshift book, which "
            "makes them anew."
        )
    typer.echo(f"{count} executed pages, all whole.")


@app.command()
def export(
    out: Annotated[Path, typer.Argument(metavar="OUT.zip", help="Where the archive goes.")],
    results: Folder = RESULTS,
) -> None:
    """Write all results as one archive for Zenodo or OSF.

    It holds every table and its provenance, licence, CITATION.cff, dictionary.csv (what every
    column means) and manifest.json (sha256 of every file), and is the same byte for byte whenever
    it is made from the same results. A damaged result stops it.
    """
    from mechshift_lib.results.archive import export as write

    count = write(_store(results), out)
    typer.echo(f"Wrote {count} results to {out}")
