"""``mechshift patch``: exact patching of activations and of paths, from file to file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from mechshift_lib.choices import Direction, Through
from mechshift_lib.cli.options import (
    EXAMPLES_HELP,
    MODEL_HELP,
    MOST_ROWS,
    AttentionOption,
    DeviceMapOption,
    DeviceOption,
    DtypeOption,
    KVOption,
    MaskTokenOption,
    MetricOption,
    QuantizationOption,
    ReadoutOption,
    RemoteOption,
    RevisionOption,
    parse_device_map,
    parse_names,
)
from mechshift_lib.errors import ConfigError

if TYPE_CHECKING:
    from mechshift_lib.circuits.patching.record import Site


def patch(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    examples: Annotated[Path, typer.Argument(metavar="EXAMPLES", help=EXAMPLES_HELP)],
    out: Annotated[Path, typer.Option(help="Where the table goes: .csv, .parquet or .json.")],
    sites: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Activations: resid (the residual stream at a layer's input, and after the "
            "last layer), attn, mlp (what they write) and head; by default all: "
            "resid,attn,mlp,head.",
        ),
    ] = None,
    direction: Annotated[
        Direction | None,
        typer.Option(
            help="denoise: a clean activation in the corrupted run; noise: a corrupted one in "
            "the clean run.",
            show_default="denoise",
        ),
    ] = None,
    by_position: Annotated[
        bool | None,
        typer.Option(
            "--by-position/--all-positions",
            help="Patch one position at a time, or all of them at once.",
            show_default="by-position",
        ),
    ] = None,
    by_step: Annotated[
        bool | None,
        typer.Option(
            "--by-step/--all-steps",
            help="Rows for each denoising step, or their average.",
            show_default="by-step",
        ),
    ] = None,
    senders: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Patch paths instead: nodes that send, such as input,a0.h1,m2, one after the "
            "other; all: every node that writes before a reader.",
        ),
    ] = None,
    readers: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="With --senders: who reads, such as `a5.h0<q>,m4` (at once) or logits.",
        ),
    ] = None,
    through: Annotated[
        Through | None,
        typer.Option(
            help="With --senders: direct: the residual stream alone leads to the readers; mlps: "
            "MLPs between them are recomputed.",
            show_default="direct",
        ),
    ] = None,
    together: Annotated[
        bool | None,
        typer.Option("--together", help="With --senders: patch all of them at once."),
    ] = None,
    metric: MetricOption = "logit-diff",
    attention: AttentionOption = "causal",
    kv: KVOption = "ungrouped",
    batch_size: Annotated[
        int,
        typer.Option(
            help="Patched runs at once; the results don't depend on it.", min=1, max=MOST_ROWS
        ),
    ] = 256,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    quantization: QuantizationOption = None,
    device_map: DeviceMapOption = None,
    readout: ReadoutOption = "next-token",
    mask_token: MaskTokenOption = None,
    revision: RevisionOption = None,
    remote: RemoteOption = None,
) -> None:
    """Replace activations of one run by those of the other: which of them carry the answer?

    **Activations**: one row per site, layer, head, position and denoising step. `value` is the
    share of the way from the patched run's metric to the other run's: (patched - base) /
    (other - base), a ratio of means over `n` examples. 0 = the patch changes nothing; 1 = as much
    as replacing the whole input.

    **Paths** (`--senders`, `--readers`): the senders' outputs become those of the corrupted run,
    other heads stay clean, and only the readers take in what that makes of their input. `effect`
    is the mean metric lost, `value` its share of clean - corrupted, with a 95 % bootstrap interval
    over the examples. **Sign**: positive = the corrupted path lowers the metric.

    When an example fails (a metric that is NaN, say), the table of the examples finished before is
    kept in NAME.partial.csv.

    Example: mechshift patch FOLDER prompts.json --sites resid,head --out patched.csv

    Example: mechshift patch FOLDER prompts.json --senders all --readers logits --out paths.csv
    """
    nodes = {
        "--sites": sites,
        "--direction": direction,
        "--by-position": by_position,
        "--by-step": by_step,
    }
    paths = {"--readers": readers, "--through": through, "--together": together}
    others = paths if senders is None else nodes
    stray = [name for name, value in others.items() if value is not None]
    if stray and senders is not None:
        raise ConfigError(f"{stray[0]} is for activations: leave it out, or leave out --senders.")
    if stray:
        raise ConfigError(f"{stray[0]} is for paths: say their --senders, too.")
    if senders is not None and readers is None:
        raise ConfigError("--senders needs to know who reads: give --readers, such as logits.")
    from mechshift_lib.circuits.patching.record import SITES
    from mechshift_lib.cli.files.curves import Questions
    from mechshift_lib.cli.files.patches import patch_file, patch_paths_file

    questions = Questions(
        model_dir=model,
        examples=examples,
        metric=metric,
        attention=attention,
        kv=kv,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
        quantization=quantization,
        device_map=parse_device_map(device_map),
        readout=readout,
        mask_token=mask_token,
        revision=revision,
        remote=remote,
        call="patch" if senders is None else "patch --senders",
        progress=sys.stderr.isatty(),
    )
    if senders is not None and readers is not None:
        patch_paths_file(
            questions,
            parse_names(senders, "--senders"),
            parse_names(readers, "--readers"),
            through=through or "direct",
            together=bool(together),
            out=out,
        )
    else:
        named = SITES if sites is None else parse_names(sites, "--sites")
        patch_file(
            questions,
            sites=cast("tuple[Site, ...]", named),
            direction=direction or "denoise",
            by_position=by_position is not False,
            by_step=by_step is not False,
            out=out,
        )
    typer.echo(f"Wrote {out}")
