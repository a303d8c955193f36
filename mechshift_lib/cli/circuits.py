"""Commands of the circuit engine: any Hugging Face folder and any prompts, from file to file."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mechshift_lib.choices import Ablation, Method, Points, Ranking, Selection
from mechshift_lib.cli.options import (
    EXAMPLES_HELP,
    MODEL_HELP,
    MOST_STEPS,
    AttentionOption,
    BatchOption,
    BudgetOption,
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
    parse_fractions,
    parse_size,
)
from mechshift_lib.errors import ConfigError

if TYPE_CHECKING:
    from mechshift_lib.circuits.evaluation.curve import Curve
    from mechshift_lib.cli.files.curves import Questions


def attribute(
    model: Annotated[
        Path,
        typer.Option(
            help="Any Hugging Face folder (Llama, Qwen, Mistral, Phi-3, Gemma, OLMo, GPT-2, NeoX), "
            "or owner/name of the hub."
        ),
    ],
    examples: Annotated[Path, typer.Option(help=EXAMPLES_HELP)],
    out: Annotated[
        Path,
        typer.Option(help=".json: {edge name: score}; .parquet: a table with one row an edge."),
    ],
    method: Annotated[
        Method,
        typer.Option(
            help="eap: the gradient in the clean run; eap-ig: averaged on the way from the "
            "corrupted to the clean embeddings; eap-ig-activations: on the way of each sublayer's "
            "output; clean-corrupted: mean of both ends; exact: patch every edge (slow)."
        ),
    ] = "eap-ig",
    metric: MetricOption = "logit-diff",
    steps: Annotated[
        int, typer.Option(help="Points of integration of eap-ig.", min=1, max=MOST_STEPS)
    ] = 5,
    points: Annotated[
        Points, typer.Option(help="left: k/STEPS for k = 0 ... STEPS-1; right: 1 ... STEPS.")
    ] = "left",
    by_position: Annotated[
        bool,
        typer.Option(
            "--by-position",
            help="Resolve scores by position of the reader: a list an edge in JSON, a column a "
            "position in parquet. All examples must have one length.",
        ),
    ] = False,
    attention: AttentionOption = "causal",
    kv: KVOption = "ungrouped",
    batch_size: BatchOption = 32,
    memory_budget: BudgetOption = None,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    quantization: QuantizationOption = None,
    device_map: DeviceMapOption = None,
    readout: ReadoutOption = "next-token",
    mask_token: MaskTokenOption = None,
    revision: RevisionOption = None,
    remote: RemoteOption = None,
) -> None:
    """Score every edge of any model on any prompts.

    **Metric**: M = by default the logit of the answer minus the logit of the distractor, in the
    logits at `position` (-1 is the last).

    **Score** of an edge u->v: minus the sum over positions and d_model of (corrupted - clean
    output of u) x dM/d(input of v), then the **mean over examples**. Entries of the same `example`
    (an MDM's denoising steps) are averaged first. With `exact`, M minus M with only this edge
    carrying the corrupted output.

    **Sign**: positive = corrupting the edge lowers the metric.

    **Edges**: `input`, `a{layer}.h{head}` and `m{layer}` to `a{layer}.h{head}<q|k|v>`, `m{layer}`
    and `logits`, named like `a18.h25->a20.h24<v>`. Scores are float32.

    When an example fails (a metric that is NaN, say), the scores of the examples finished before
    are kept in NAME.partial.json.

    Example: mechshift attribute --model FOLDER --examples prompts.json --out scores.json
    """
    budget = parse_size(memory_budget)
    from mechshift_lib.cli.files.examples import attribute_file

    attribute_file(
        model,
        examples,
        out=out,
        metric=metric,
        method=method,
        steps=steps,
        points=points,
        by_position=by_position,
        attention=attention,
        kv=kv,
        batch_size=batch_size,
        memory_budget=budget,
        device=device,
        dtype=dtype,
        quantization=quantization,
        device_map=parse_device_map(device_map),
        readout=readout,
        mask_token=mask_token,
        revision=revision,
        remote=remote,
        progress=sys.stderr.isatty(),
    )
    typer.echo(f"Wrote {out}")


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    examples: Annotated[Path, typer.Argument(metavar="EXAMPLES", help=EXAMPLES_HELP)],
    circuit: Annotated[
        Path,
        typer.Argument(
            metavar="CIRCUIT",
            help="Scores of edges: what attribute writes (.json or .parquet), or a graph of EAP-IG "
            "or of the MIB benchmark (.json), of this model or of another with the same layers and "
            "heads. Edges that JSON doesn't name score 0. Or a folder of MIB's circuits of growing "
            "size, which say which edges are in them.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Where the table goes: .csv, .parquet, or .json with the areas.")
    ],
    fractions: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Shares of all edges, such as 0.01,0.1,1; by default those of the MIB benchmark, "
            "0.001 to 1.",
        ),
    ] = None,
    by: Annotated[
        Literal[Ranking, "both"],
        typer.Option(help="Rank edges by signed score (gives CPR), absolute score (CMD) or both."),
    ] = "both",
    selection: Annotated[
        Selection,
        typer.Option(help="top: the strongest edges; greedy: connected, from the logits back."),
    ] = "top",
    given: Annotated[
        bool,
        typer.Option(
            "--given",
            help="Take the file's edges with a score other than 0 (of a peer's file, those that it "
            "says are in the graph) as the circuit itself, and test it for completeness and "
            "minimality instead (--out must be .json).",
        ),
    ] = False,
    sample: Annotated[
        int, typer.Option(help="With --given: edges taken out one at a time, at most.", min=1)
    ] = 100,
    ablation: Annotated[
        Ablation,
        typer.Option(
            help="What edges outside the circuit carry. resample: the corrupted run; zero: "
            "nothing; mean: the mean over the clean inputs of the reference set, by position; "
            "optimal: the constants with which the circuit diverges least from the clean run over "
            "the reference set (slow: fitted for each circuit)."
        ),
    ] = Ablation.RESAMPLE,
    reference: Annotated[
        Path | None,
        typer.Option(help="Examples file of the reference set; by default EXAMPLES."),
    ] = None,
    metric: MetricOption = "logit-diff",
    attention: AttentionOption = "causal",
    kv: KVOption = "ungrouped",
    batch_size: BatchOption = 32,
    memory_budget: BudgetOption = None,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    quantization: QuantizationOption = None,
    device_map: DeviceMapOption = None,
    readout: ReadoutOption = "next-token",
    mask_token: MaskTokenOption = None,
    revision: RevisionOption = None,
    remote: RemoteOption = None,
) -> None:
    """Run a model with only a circuit's edges intact: how much of the behaviour is left?

    **Faithfulness** f = (m(C) - m(none)) / (m(all) - m(none)), m being the mean metric over the
    examples with only the edges of C intact and all others ablated; norms are recomputed. It is
    given for the circuits that the ranking's first edges make at each fraction, with a 95 %
    bootstrap interval over the examples.

    **CPR**: the area under f, edges ranked by signed score. **CMD**: the area under |1 - f|, ranked
    by absolute score; 0 is the whole model.

    A circuit of an autoregressive model can be evaluated inside the masked diffusion model made
    from it: give the one's scores and the other's MODEL and EXAMPLES.

    A folder of circuits is evaluated as it is: each at the share of edges that it has, with the
    whole model as the last, and both areas are of the same circuits.

    Example: mechshift evaluate FOLDER prompts.json scores.json --out curve.csv

    Example: mechshift evaluate FOLDER prompts.json importances-of-a-peer.json --out curve.csv
    """
    budget = parse_size(memory_budget)
    from mechshift_lib.cli.files.curves import Questions
    from mechshift_lib.cli.files.examinations import examine_file
    from mechshift_lib.cli.files.memberships import evaluate_circuits

    questions = Questions(
        model_dir=model,
        examples=examples,
        metric=metric,
        ablation=ablation,
        reference=reference,
        attention=attention,
        kv=kv,
        batch_size=batch_size,
        memory_budget=budget,
        device=device,
        dtype=dtype,
        quantization=quantization,
        device_map=parse_device_map(device_map),
        readout=readout,
        mask_token=mask_token,
        revision=revision,
        remote=remote,
        progress=sys.stderr.isatty(),
    )
    if given:
        whole, least = examine_file(questions, circuit, sample=sample, out=out)
        typer.echo(
            f"{whole.n_edges} edges: faithfulness {whole.circuit:.3f}, of the complement "
            f"{whole.complement:.3f}; median loss of an edge {_median(least.loss.tolist()):.3f}"
        )
    elif circuit.is_dir():
        if fractions is not None or by != "both" or selection != "top":
            raise ConfigError(
                "Circuits of a folder are taken as they are: leave out --fractions, --by and "
                "--selection."
            )
        _say_areas(evaluate_circuits(questions, circuit, out=out))
    else:
        rankings = ("signed", "absolute") if by == "both" else (by,)
        _curves(questions, circuit, parse_fractions(fractions), rankings, selection, out)
    typer.echo(f"Wrote {out}")


def _curves(
    questions: Questions,
    circuit: Path,
    fractions: tuple[float, ...] | None,
    rankings: tuple[str, ...],
    selection: str,
    out: Path,
) -> None:
    from mechshift_lib.circuits.evaluation.curve import FRACTIONS
    from mechshift_lib.cli.files.curves import evaluate_file

    curves = evaluate_file(
        questions,
        circuit,
        fractions=FRACTIONS if fractions is None else fractions,
        by=rankings,
        selection=selection,
        out=out,
    )
    _say_areas(curves)


def _say_areas(curves: list[Curve]) -> None:
    from mechshift_lib.cli.files.curves import areas

    for name, area in areas(curves).items():
        interval = f" ({area['low']:.3f} to {area['high']:.3f})"
        known = not math.isnan(area["low"])  # a single example has no interval
        typer.echo(f"{name.upper()} {area['value']:.3f}{interval if known else ''}")


def _median(values: list[float]) -> float:
    from statistics import median

    return median(values)
