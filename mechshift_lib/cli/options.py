"""Options that the commands of the circuit engine share, and how their values are read."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mechshift_lib.choices import KV, Attention, Dtype, Metric, Quantization
from mechshift_lib.config import ReadoutName
from mechshift_lib.errors import ConfigError, shown

if TYPE_CHECKING:
    from mechshift_lib.config import DeviceMap

#: What ``--model`` and MODEL take.
MODEL_HELP = "Any Hugging Face folder, or owner/name of the hub."
EXAMPLES_HELP = (
    'A JSON list of {"clean": PROMPT, "corrupted": PROMPT, "answer": ANSWER, "distractor": '
    'ANSWER, "position": index, "example": number, "step": number}; the last three may be left '
    "out. Or the same as JSON lines (.jsonl) or CSV (.csv, text only). A PROMPT is text, split by "
    "the model's tokenizer, or a list of token ids; both prompts have as many tokens. An ANSWER "
    'is one token, as text or id: begin a word with its space, " Mary". Several tokens are one of '
    'two things: {"in_a_row": " New York"} is read token by token, each after those before it; '
    '{"any_of": [" 7", " 8"]} (or just the list) are alternatives of one token each, whose '
    "probability counts together. In CSV these are the columns answer_in_a_row and answer_any_of "
    "(parted by |), and so for the distractor."
)
#: Rows of a pass, and points of integration, beyond which a number is a slip.
MOST_ROWS = MOST_STEPS = 100_000

#: Options that every command of the engine has.
MetricOption = Annotated[
    Metric,
    typer.Option(
        help="logit-diff: logit of the answer minus logit of the distractor; prob-diff: the same "
        "of probabilities; log-prob: log-probability of the answer; kl: minus the divergence from "
        "the clean run."
    ),
]
AttentionOption = Annotated[
    Attention,
    typer.Option(help="causal: a token sees what is before it; full: everything."),
]
KVOption = Annotated[
    KV,
    typer.Option(
        help="ungrouped: key and value edges for every query head; grouped: for every KV head."
    ),
]
BatchOption = Annotated[
    int,
    typer.Option(help="Examples at once; the results don't depend on it.", min=1, max=MOST_ROWS),
]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory that a batch's intermediate results may take, such as 2GiB or 500MB; by "
        "default they are not chunked.",
    ),
]
ReadoutOption = Annotated[
    ReadoutName,
    typer.Option(
        help="Where the answer to a prompt as text is read. next-token: after the prompt, as an "
        "ARM says it; shifted-mask, mask: in a canvas of the prompt and a mask for each token of "
        "the answer, one position before the mask (Dream, DiffuLLaMA) or at it (LLaDA). Token ids "
        "are read at their `position` whatever this says."
    ),
]
MaskTokenOption = Annotated[
    str | None, typer.Option(help="The mask token, with --readout shifted-mask or mask.")
]
RevisionOption = Annotated[
    str | None,
    typer.Option(
        help="Branch, tag or commit of a model of the hub; by default the newest, and which commit "
        "that is, is said.",
        show_default=False,
    ),
]
DeviceOption = Annotated[str, typer.Option(help="cpu or cuda.")]
DtypeOption = Annotated[
    Dtype,
    typer.Option(help="Precision in which the model runs; scores are summed in float32 always."),
]
QuantizationOption = Annotated[
    Quantization | None,
    typer.Option(
        help="Store the weights of linear modules in 8 or 4 bits (needs bitsandbytes); all else, "
        "and what is computed, stays in --dtype. By default no weights.",
        show_default=False,
    ),
]
DeviceMapOption = Annotated[
    str | None,
    typer.Option(
        metavar="MAP",
        help="Spread the model over devices: auto, or a YAML or JSON file {module: device}, such "
        "as {model: 'cuda:0', model.layers.9: 'cuda:1', lm_head: disk}. By default all of it is on "
        "--device.",
        show_default=False,
    ),
]
RemoteOption = Annotated[
    str | None,
    typer.Option(
        metavar="WHERE",
        help="Run the model's passes where it is served: ndif (needs a key in the variable "
        "NDIF_API_KEY), the address of another host, or local, which only rehearses it here. The "
        "model is one of the hub, as it is published. By default all runs here.",
        show_default=False,
    ),
]
#: Bytes that a file with a device map may have.
_LARGEST_MAP = 2**20


def parse_device_map(text: str | None) -> DeviceMap | None:
    """``"auto"``, or the map in a file: module -> device.

    Raises:
        ConfigError: there is no such file, or it holds something else.
    """
    if text is None:
        return None
    if text == "auto":
        return "auto"
    from pydantic import TypeAdapter, ValidationError

    from mechshift_lib.choices import Place
    from mechshift_lib.documents.files import read_text
    from mechshift_lib.documents.plain_yaml import DocumentError, load

    try:
        return TypeAdapter(dict[str, Place]).validate_python(
            load(read_text(Path(text), "Device map", ConfigError, _LARGEST_MAP))
        )
    except (DocumentError, ValidationError) as error:
        raise ConfigError(
            f"--device-map takes 'auto' or a file that maps modules to devices, such as "
            f"{{model: 'cuda:0', lm_head: cpu}}, but {shown(text)} holds something else."
        ) from error


#: Bytes that no machine has.
_LARGEST = 2**60
_UNITS = {
    "": 1,
    "b": 1,
    **{f"{x}b": 1000**i for i, x in enumerate("kmgt", 1)},
    **{f"{x}ib": 1024**i for i, x in enumerate("kmgt", 1)},
}


def parse_size(text: str | None) -> int | None:
    """``"2GiB"`` → bytes; units of 1000 (kB, MB, GB) or 1024 (KiB, MiB, GiB).

    Raises:
        ConfigError: it isn't a positive number with such a unit.
    """
    if text is None:
        return None
    found = re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([a-zA-Z]*)\s*", text)
    unit = _UNITS.get(found[2].lower()) if found else None
    size = 0 if found is None or unit is None else int(Fraction(found[1]) * unit)
    if not 1 <= size < _LARGEST:
        raise ConfigError(f"--memory-budget takes a size such as 2GiB or 500MB, not {shown(text)}.")
    return size


def parse_fractions(text: str | None) -> tuple[float, ...] | None:
    """``"0.01,0.1,1"`` → shares of edges.

    Raises:
        ConfigError: one of them isn't a number.
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"--fractions takes numbers with commas, such as 0.01,0.1,1, not {shown(text)}."
        ) from error


def parse_names(text: str, option: str) -> tuple[str, ...]:
    """``"a0.h1, m2"`` → the names.

    Raises:
        ConfigError: one of them is empty.
    """
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise ConfigError(f"{option} takes names with commas, such as a0.h1,m2, not {shown(text)}.")
    return names
