"""``mechshift doctor``, ``fork`` and ``unfork``: is a pair understood, and its part in the book."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mechshift_lib.choices import Dtype
from mechshift_lib.cli.hub import bring
from mechshift_lib.errors import ConfigError, ModelError, shown

if TYPE_CHECKING:
    from mechshift_lib.config import FolderSource, HubSource, Pair
    from mechshift_lib.doctor.diagnosis import Check, Diagnosis

#: Models of a pair that are examined.
COMPARED = ("arm", "mdm", "continued")
#: Letters that the longest name of a check has.
_WIDTH = 22

Arm = Annotated[
    str | None,
    typer.Option(help="The ARM: a Hugging Face folder, or owner/name@REVISION of the hub."),
]
Mdm = Annotated[str | None, typer.Option(help="The MDM post-trained from it, in the same way.")]
MaskToken = Annotated[
    str | None, typer.Option(help="The MDM's mask token; by default it is looked for.")
]
MaskId = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="The id of the MDM's mask; where its tokenizer has no token for it, it gets the one "
        "of --mask-token, or [MASK].",
    ),
]
RemoteCode = Annotated[
    bool,
    typer.Option(
        "--remote-code",
        help="Let a hub repository run its own code, at the revision given: read it before.",
    ),
]
Precision = Annotated[
    Dtype | None,
    typer.Option(
        help="Precision in which the models run; by default the pair's own, else float32.",
        show_default=False,
    ),
]


def doctor(
    pair: Annotated[
        str | None, typer.Argument(metavar="[PAIR]", help="A file in data/pairs; or --arm, --mdm.")
    ] = None,
    arm: Arm = None,
    mdm: Mdm = None,
    mask_token: MaskToken = None,
    mask_id: MaskId = None,
    remote_code: RemoteCode = False,
    dtype: Precision = None,
) -> None:
    """Say whether the library understands a pair of models, one check and one sentence a line.

    Both load; they have the same vocabulary and the same layers and heads; which way they attend,
    as measured; the mask token; whether a masked token is read in place or one position before, by
    which loses less; that node outputs add up to the residual stream; which tasks fit the
    tokenizer and are solved; the memory that attribution takes. Without PAIR it proposes the file.
    Models of the hub are fetched first, if they fit disk and memory.

    The exit code is 2 if the pair can't be run.

    Example: mechshift doctor --arm ./my-arm --mdm ./my-mdm
    """
    found = _diagnose(pair, arm, mdm, (mask_token, mask_id), remote_code, dtype)
    if pair is None and found.healthy:
        from mechshift_lib.doctor.proposal import as_yaml, propose

        typer.echo(f"\ndata/pairs/my-pair.yaml:\n\n{as_yaml(propose('my-pair', found))}")
    _conclude(found)


def fork(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the new pair: a-z, 0-9, '.' and '-'.")
    ],
    arm: Arm = None,
    mdm: Mdm = None,
    continued: Annotated[
        str | None,
        typer.Option(help="The control: the ARM trained on with its own loss, where there is one."),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(metavar="PAIR", help="Take over this pair's tasks, budgets and chapters."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading in the book.")] = None,
    chapter: Annotated[
        list[str] | None,
        typer.Option(help="Only this chapter; give it again for more; none: all."),
    ] = None,
    mask_token: MaskToken = None,
    mask_id: MaskId = None,
    remote_code: RemoteCode = False,
    dtype: Precision = None,
) -> None:
    """Add a pair of models to the book: its file, and its part in the table of contents.

    The models are examined as by doctor, and nothing is written unless the pair can be run. Then
    `mechshift run NAME` makes its chapters and `mechshift book` shows them; `mechshift unfork NAME`
    takes all of it back.

    Example: mechshift fork my-pair --arm ./my-arm --mdm ./my-mdm
    """
    if arm is None or mdm is None:
        raise ConfigError("A new pair needs two models: give --arm and --mdm.")
    from mechshift_lib.config import check_checkout, check_name, load_pair

    check_checkout()
    from mechshift_lib.fork import add_pair, check_free

    check_name(name)  # before the models are examined, which takes long
    check_free(name)
    from mechshift_lib.doctor.given import folder_or_hub
    from mechshift_lib.doctor.proposal import check_chapters, propose

    source = None if continued is None else folder_or_hub(continued, remote_code=remote_code)

    model = load_pair(like) if like is not None else None
    check_chapters(chapter or ())
    found = _diagnose(None, arm, mdm, (mask_token, mask_id), remote_code, dtype, model, source)
    _conclude(found)
    made = propose(name, found, title=title, like=model, analyses=chapter or [])
    for path in add_pair(made):
        typer.echo(f"Wrote {path}")
    typer.echo(f"Now: mechshift run {name} && mechshift book")


def unfork(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A pair that fork added.")],
) -> None:
    """Take a pair that fork added out of the book: its file, its part, its executed chapters.

    Models and stored results stay where they are.
    """
    from mechshift_lib.fork import remove_pair

    for path in remove_pair(name):
        typer.echo(f"Changed {path}" if path.exists() else f"Removed {path}")


def _diagnose(
    pair: str | None,
    arm: str | None,
    mdm: str | None,
    mask: tuple[str | None, int | None],
    remote_code: bool,
    dtype: Dtype | None,
    like: Pair | None = None,
    control: FolderSource | HubSource | None = None,
) -> Diagnosis:
    mask_token, mask_id = mask
    if pair is not None and (arm, mdm, *mask) != (None,) * 4:
        raise ConfigError(
            f"The models of {shown(pair)} stand in its file: leave out --arm, --mdm, --mask-token "
            "and --mask-id, or the pair's name."
        )
    if pair is None and (arm is None or mdm is None):
        raise ConfigError("Name a pair of data/pairs, or give both --arm and --mdm.")
    from mechshift_lib.config import FolderSource, load_pair
    from mechshift_lib.doctor.given import folder_or_hub, spec_of

    # Before what loads torch: a wrong path is said at once.
    sources = [folder_or_hub(x, remote_code=remote_code) for x in (arm, mdm) if x is not None]
    from mechshift_lib.doctor.diagnosis import default_device, examine
    from mechshift_lib.hub.fetching import local
    from mechshift_lib.hub.folders import mask_of, opened

    device = default_device()
    known = load_pair(pair) if pair is not None else like
    if pair is not None and known is not None:
        if "arm" not in known.roles:
            raise ConfigError(
                f"{shown(pair)} is an MDM without an ARM that it was made from, so there is no "
                "pair to examine: fetch it and use mechshift attribute, evaluate or patch on its "
                "folder."
            )
        _check_pinned(known)
        bring([known.declared(x) for x in known.roles if x in COMPARED])
    tasks = {task: known.task_options.get(task, {}) for task in known.tasks} if known else None
    if pair is not None and known is not None:
        chosen = {} if dtype is None else {"dtype": dtype}
        own, other, *rest = (
            known.model(x).model_copy(update=chosen) for x in known.roles if x in COMPARED
        )
        return examine(own, other, *rest, tasks=tasks, device=device, tell=_tell)
    first, second = sources
    if isinstance(first, FolderSource):
        first = opened(first)
    if isinstance(second, FolderSource):
        second = opened(second, mask_id, mask_token)
    if mask_id is not None and isinstance(second, FolderSource):
        mask_token, mask_id = mask_of(second), None
    third = opened(control) if isinstance(control, FolderSource) else control
    precision = dtype or "float32"
    given = [
        spec_of(first, readout="next-token", dtype=precision),
        spec_of(
            second, readout="shifted-mask", mask_token=mask_token, mask_id=mask_id, dtype=precision
        ),
    ]
    if third is not None:
        given.append(spec_of(third, readout="next-token", dtype=precision))
    bring(given)
    own, other, *rest = local(given)
    found = examine(own, other, *rest, tasks=tasks, declared=False, device=device, tell=_tell)
    # The pair's file names the hub's repositories, not where this machine keeps them.
    if found.arm is not None and found.mdm is not None:
        found.arm = found.arm.model_copy(update={"source": first})
        by_id = {} if mask_id is None else {"mask_id": mask_id, "mask_token": mask_token}
        found.mdm = found.mdm.model_copy(update={"source": second} | by_id)
        if third is not None:
            found.continued = found.arm.model_copy(update={"source": third})
    return found


def _check_pinned(pair: Pair) -> None:
    """Refuse a pair's file in which a revision is still to be filled in."""
    from mechshift_lib.config import HubSource

    for role in pair.roles:
        source = pair.declared(role).source
        if isinstance(source, HubSource) and not source.pinned:
            raise ConfigError(pair.unpinned(role, source))


def _tell(check: Check) -> None:
    """Say what one check found; large models take a while for each."""
    mark = "✓" if check.passed else "✗"
    colour = typer.colors.GREEN if check.passed else typer.colors.RED
    typer.secho(f"{mark} ", fg=colour, nl=False)
    typer.echo(f"{check.name:<{_WIDTH}}  {check.sentence}")


def _conclude(found: Diagnosis) -> None:
    if found.healthy:
        return
    failed = [check.name for check in found.checks if check.needed and not check.passed]
    raise ModelError(
        f"This pair can't be run: mend {', '.join(failed)}."
        if failed
        else "This pair can't be run: none of the tasks fits its tokenizer."
    )


def ship(
    pair: Annotated[str, typer.Argument(metavar="PAIR", help="A file in data/pairs.")],
    seed: Annotated[
        list[int] | None,
        typer.Option(help="Only this training; give it again for more; none: all."),
    ] = None,
    circuit: Annotated[
        list[str] | None,
        typer.Option(help="Only this circuit, such as mdm; give it again for more; none: all."),
    ] = None,
) -> None:
    """Score the circuits of every training and keep them in data/scores, for the book.

    The book reads them from there as long as models, examples and estimator are the same, so that
    it needn't patch every edge of every training again. What is there already isn't computed again.
    What else the pair's executed chapters used of trainings but the first is kept in data/tables
    (of the first only what takes long):
    after `mechshift run PAIR`, ship it again.

    Example: mechshift ship tiny-qwen --seed 0
    """
    from tqdm import tqdm

    from mechshift_lib.analyses.scores import CIRCUITS, circuits_to_ship, measure, scores_key
    from mechshift_lib.analyses.shipped import ship as keep
    from mechshift_lib.analyses.shipped import ship_tables, shipped
    from mechshift_lib.analyses.study import Study
    from mechshift_lib.errors import listed

    study = Study.open(pair)
    for number in seed or ():
        study.pair.model("arm", number)
    for name in circuit or ():
        if name not in CIRCUITS:
            raise ConfigError(f"Unknown circuit {shown(name)}: choose from {listed(CIRCUITS)}.")
    wanted = [
        one
        for one in circuits_to_ship(study, seed or study.pair.seeds)
        if not circuit or one[1] in circuit
    ]
    for task, name, number in tqdm(wanted, desc=pair, unit="circuit"):
        key = scores_key(study, task, name, number)
        if shipped(study, task, name, number, key) is None:
            keep(study, task, name, number, key, measure(study, task, name, number))
    pages = sorted((study.root / "book" / "executed" / pair).glob("*.ipynb"))
    tables = sum(ship_tables(study, number, pages) for number in seed or study.pair.seeds)
    typer.echo(
        f"{len(wanted)} circuits of {pair} are in data/scores, {tables} other results of its "
        "trainings in data/tables."
    )
