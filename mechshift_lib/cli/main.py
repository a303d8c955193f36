"""The command line. Every user error is one sentence on standard error and exit code 2."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mechshift_lib import __version__
from mechshift_lib.choices import BudgetName
from mechshift_lib.cli import (
    circuits,
    convert,
    dictionaries,
    hub,
    lens,
    pairs,
    patching,
    results,
    shards,
    tokens,
    trajectory,
)
from mechshift_lib.cli.parameters import RULE, parse_parameters, read_values, split_settings
from mechshift_lib.documents.files import check_place, real_path, sentence_of
from mechshift_lib.errors import (
    ConfigError,
    MechshiftError,
    in_one_line,
    listed,
    out_of_memory,
    shown,
)
from mechshift_lib.processes import signal_of, unwinding

__all__ = ["app", "main", "parse_parameters"]

# Heavy packages (torch, transformers, papermill) are imported inside the commands that need them,
# so that --help answers at once.


class _Group(TyperGroup):
    """Turns what the user can mend into one sentence; a traceback means a defect."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with unwinding():
                return super().invoke(ctx)
        except MechshiftError as error:
            _say(error)
            for note in getattr(error, "__notes__", ()):  # what it is about, line by line
                typer.echo(f"  {note}", err=True)
            raise typer.Exit(error.exit_code) from error
        except typer.BadParameter as error:  # an option's value
            _say(f"{error.format_message().rstrip('.')}.")
            raise typer.Exit(MechshiftError.exit_code) from error
        except KeyboardInterrupt as error:  # what was finished may be kept somewhere
            notes, number = getattr(error, "__notes__", ()), signal_of(error)
            _say(" ".join([f"Interrupted by {number.name}.", *notes]))
            raise typer.Exit(128 + number) from error
        except Exception as error:  # no room, permission or memory: nobody can know that before
            said = sentence_of(error) if isinstance(error, OSError) else out_of_memory(error)
            if said is None:
                raise
            _say(" ".join([said, *getattr(error, "__notes__", ())]))
            raise typer.Exit(MechshiftError.exit_code) from error


def _say(message: object) -> None:
    typer.echo(in_one_line(f"mechshift: {message}"), err=True)


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    help="""What happens inside a language model when it is turned from autoregressive into
    masked diffusion.

    A **pair** is an autoregressive model (role `arm`), the masked diffusion model post-trained
    from it (`mdm`) and a control trained on without diffusion (`continued`); each is one file in
    data/pairs. A **task** is ioi, greater-than, countdown or infilling.

    Start with `mechshift run tiny-qwen`, then `mechshift book`.""",
)


Seed = Annotated[int, typer.Option(help="Training seed of the models.", min=0)]
Jobs = Annotated[int, typer.Option(help="Notebooks at once, one thread each.", min=1)]
JobsOrProfile = Annotated[
    int | None,
    typer.Option(
        help="Notebooks at once, one thread each; by default 2, or what the profile says.",
        min=1,
        show_default=False,
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Where the notebooks run: a folder of workflow/profiles, such as slurm. By default "
        "on this machine.",
        show_default=False,
    ),
]
HowMuch = Annotated[
    BudgetName,
    typer.Option(
        help="How much each analysis does: numbers of examples and IG steps per pair file."
    ),
]


@app.command()
def run(
    pairs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PAIR]...", help="Names of files in data/pairs; none: the book's."),
    ] = None,
    analysis: Annotated[
        list[str] | None,
        typer.Option(help="A chapter, such as circuits; give it again for more; none: all."),
    ] = None,
    budget: HowMuch = "book",
    jobs: JobsOrProfile = None,
    profile: Profile = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say which notebooks, how much memory and how long."),
    ] = False,
    compare_paper: Annotated[
        bool,
        typer.Option(
            "--compare-paper", help="Then print the paper's numbers beside those measured."
        ),
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Only score circuits, and of their questions those of job I of N, such as 1/8; a "
            "run without it takes the parts together.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run the analyses of pairs, only those whose inputs changed.

    Each analysis is a notebook in notebooks/, executed for each pair to
    book/executed/PAIR/ANALYSIS.ipynb. Tables are kept in results/ and never computed twice.
    Models of the hub are fetched before, by `mechshift fetch PAIR`. Times that `--dry-run` gives
    are carried from chapters that were measured on other sizes, as the least and the most.

    With `--shard`, jobs on one machine or several divide the questions that circuits are scored on.
    Each keeps its parts in results/circuit-parts; with all of them there, the run that follows has
    the scores of a single job, to the bit where the machines are of one kind.

    Example: mechshift run tiny-qwen --analysis circuits --jobs 1
    """
    if shard is not None:
        if dry_run or compare_paper or profile is not None:
            raise ConfigError("--shard only scores circuits: leave out the other options.")
        shards.score_shard(pairs or [], analysis or [], budget, shard)
        return
    if dry_run:
        hub.foresee(pairs or [], analysis or [], budget)
        return
    from mechshift_lib.workflow import run_workflow

    run_workflow(pairs or [], analysis or [], budget=budget, jobs=jobs, profile=profile)
    if compare_paper:
        hub.compare_paper(pairs or [], budget)


@app.command()
def book(
    budget: HowMuch = "book",
    jobs: Jobs = 2,
    execute: Annotated[
        bool, typer.Option(help="Bring the notebooks up to date first, or take them as they are.")
    ] = True,
) -> None:
    """Run what is out of date and build the book into _build/html.

    Nothing is computed that is already there; a second call takes seconds. Any warning of the
    build is an error.
    """
    from mechshift_lib.book.build import build_book
    from mechshift_lib.config import check_checkout
    from mechshift_lib.explorer.build import write_explorer
    from mechshift_lib.explorer.landing import write_landing
    from mechshift_lib.play.build import write_play
    from mechshift_lib.workflow import book_pages, out_of_date, run_workflow

    check_checkout()
    stale = []
    if execute:
        run_workflow(budget=budget, jobs=jobs, pages=book_pages())
    else:
        stale = out_of_date(budget=budget)
    if stale:
        typer.echo(
            "mechshift: Some pages are those of their last success and not fresh "
            f"({', '.join(stale[:3])}{', ...' if len(stale) > 3 else ''}; {len(stale)} in all): "
            "say mechshift book.",
            err=True,
        )
    write_explorer()
    write_landing()
    write_play()
    page = build_book(stale=stale, budget=budget)
    typer.echo(f"The book is ready: {page}")


@app.command()
def launchers(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder, or one of launchers.")],
) -> None:
    """Write the notebooks of all pages, each with its pair set, to be opened on Colab or Binder.

    Their first cell fetches and installs this very commit where they are opened on Colab, and does
    nothing elsewhere. The book's own stand in _build/html/launch, and its published ones in the
    branch launch, which the buttons of its pages lead to.
    """
    from mechshift_lib.book.launch import write_launchers

    typer.echo(f"Wrote {len(write_launchers(out))} notebooks to {out}")


@app.command()
def train(
    pair: Annotated[str, typer.Argument(metavar="PAIR", help="Name of a file in data/pairs.")],
    seed: Seed = 0,
) -> None:
    """Train the models of a pair: the ARM, the MDM made from it and the continued control.

    What is trained, and for how long, stands under training: in the pair's file. The checkpoints
    go to data/models/PAIR/seedS. A killed training goes on where it was when called again.
    """
    from mechshift_lib.config import load_pair

    chosen = load_pair(pair)
    from mechshift_lib.diffusion.train import train_pair

    train_pair(chosen, seed)


app.command()(circuits.attribute)
app.command()(circuits.evaluate)
app.command()(patching.patch)
app.command()(tokens.tokens)
app.command()(convert.convert)
app.add_typer(results.app, name="results")
app.command()(trajectory.trajectory)
app.command()(hub.fetch)
app.command()(pairs.doctor)
app.command()(pairs.fork)
app.command()(pairs.unfork)
app.command()(pairs.ship)
app.command()(lens.lens)
app.command()(dictionaries.dictionaries)


@app.command("export-circuit")
def export_circuit(
    pair: Annotated[str, typer.Argument(metavar="PAIR", help="Name of a file in data/pairs.")],
    task: Annotated[
        str, typer.Argument(metavar="TASK", help="ioi, greater-than, countdown or infilling.")
    ],
    role: Annotated[
        str,
        typer.Argument(
            metavar="ROLE",
            help="arm, mdm (masks revealed left to right), mdm-own (in the order of its own "
            "confidence) or continued.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(help=".json: {edge name: score}; .parquet: a table with one row an edge."),
    ],
    seed: Annotated[
        int | None, typer.Option(help="Training seed; by default the pair's first.")
    ] = None,
    budget: HowMuch = "book",
) -> None:
    """Write the scores of all edges of a model of a pair on a task.

    They are those of the book: EAP-IG, the mean over the examples that both models of the pair
    solve, and taken from results/ where they are already there. **Sign**: positive = corrupting
    the edge lowers the metric. `mechshift convert` makes a file of EAP-IG or MIB of them.
    """
    if out.suffix not in (".json", ".parquet"):
        raise ConfigError(f"Can't write {out.name!r}: its name must end in .json or .parquet.")
    check_place(out, ConfigError)
    from mechshift_lib.config import load_pair

    chosen = load_pair(pair)
    if task not in chosen.tasks:
        raise ConfigError(
            f"Pair {pair!r} has no task {shown(task)}; it has {listed(chosen.tasks)}."
        )
    if seed is not None:
        chosen.model("arm", seed)
    from mechshift_lib.analyses.scores import scores
    from mechshift_lib.analyses.study import Study
    from mechshift_lib.circuits.graph.circuit import Circuit

    found = scores(Study.open(pair, budget), task, role, seed)
    circuit = Circuit(graph=found.graph, scores=found.mean.astype("float32"))
    (circuit.to_json if out.suffix == ".json" else circuit.to_parquet)(out)
    typer.echo(f"Wrote {out}")


@app.command()
def execute(
    notebook: Annotated[Path, typer.Argument(help="A notebook with a cell tagged parameters.")],
    output: Annotated[Path, typer.Argument(help="Where the executed copy goes.")],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help=f"A parameter; give it again for more. {RULE}"
        ),
    ] = None,
    mark: Annotated[
        Path | None,
        typer.Option(help="Also write a file that holds the page's hash, when the page is whole."),
    ] = None,
) -> None:
    """Execute one notebook with parameters (what the workflow calls).

    An unknown parameter is an error. When a cell fails, the output is left as it was and the
    partial notebook is kept in results/failed.
    """
    given = split_settings(set_ or [])
    from mechshift_lib.config import load_pair
    from mechshift_lib.execution import run_notebook
    from mechshift_lib.execution.parameters import read_notebook, text_parameters
    from mechshift_lib.processes import end_with_owner

    end_with_owner()  # the workflow that called this
    title = load_pair(given["pair"]).title if "pair" in given else None
    source, target = real_path(notebook), real_path(output)
    texts = text_parameters(read_notebook(source), notebook.name)
    parameters = read_values(given, texts)
    check_place(target, ConfigError)
    if mark is not None:
        check_place(real_path(mark), ConfigError)
    run_notebook(source, target, parameters, title=title)
    if mark is not None:
        from mechshift_lib.made_of import seal

        seal(target, real_path(mark))
    typer.echo(f"Wrote {output}")


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Say the version and stop.")] = False,
) -> None:
    if version:
        typer.echo(f"mechshift {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point of the ``mechshift`` command."""
    app()
