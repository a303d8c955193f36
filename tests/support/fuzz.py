"""What anyone could hand over: strategies for pair files, examples, circuits, values, arguments."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mechshift_lib import workflow
from mechshift_lib.circuits.graph.circuit import Circuit
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.questions.items import check_corrupted, check_items
from mechshift_lib.cli.files.examples import read_examples
from mechshift_lib.cli.files.rows import read_rows
from mechshift_lib.cli.main import app
from mechshift_lib.cli.parameters import parse_parameters
from mechshift_lib.config import ROOT, load_pair
from mechshift_lib.diffusion.recipe import recipe_of
from mechshift_lib.errors import LONGEST, MechshiftError
from mechshift_lib.exchange.reading import read_circuit
from mechshift_lib.exchange.writing import peer_content
from mechshift_lib.execution.parameters import check_parameters
from mechshift_lib.tasks import pair_task
from tests.support.command import entry

PAIR = yaml.safe_load((ROOT / "data" / "pairs" / "tiny-qwen.yaml").read_text(encoding="utf-8"))
GRAPH = Graph(2, 4, 2)
NOTEBOOK = nbformat.v4.new_notebook(
    cells=[
        nbformat.v4.new_code_cell(
            'pair = "x"\nn = 3\nquick = False', metadata={"tags": ["parameters"]}
        )
    ]
)

#: Values that a field may have by mistake, or by malice.
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from(
        [10**9, -(10**9), 2**63, 10**30, 10**400, 0.5, 1e308, float("inf"), float("nan")]
    ),
    st.text(max_size=8),
    st.sampled_from(
        ["", "\0", "x" * 300, "x" * 5000, "{seed}", "../..", "1e5", "no", "\u202e", "ü"]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def deep(opening: str, closing: str) -> st.SearchStrategy[bytes]:
    """Something nested from a few to a hundred thousand deep, closed or not."""
    depth = st.sampled_from([3, 300, 900, 3000, 100_000])
    return st.tuples(depth, st.booleans()).map(
        lambda x: (opening * x[0] + (closing * x[0] if x[1] else "")).encode()
    )


def bombs() -> st.SearchStrategy[bytes]:
    """Aliases that stand for tens of thousands to billions of values, or for themselves."""

    def lines(depth: int) -> bytes:
        made = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        made += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, depth)]
        return "\n".join(made).encode()

    return st.sampled_from([4, 8, 12]).map(lines) | st.sampled_from([b"a: &a [*a]", b"&a {a: *a}"])


@st.composite
def changed(draw: st.DrawFn, whole: Any, values: st.SearchStrategy[Any] = VALUES) -> Any:
    """A copy of ``whole`` in which one part, at any depth, is another value, gone or new."""
    copy = json.loads(json.dumps(whole))
    place: Any = copy
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return copy
        key = draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
            place = place[key]
            continue
        if isinstance(place, dict) and draw(st.integers(0, 5)) == 0:
            del place[key]
        elif isinstance(place, dict) and draw(st.integers(0, 5)) == 0:
            place[draw(st.text(max_size=5))] = draw(values)
        else:
            place[key] = draw(values)
        return copy


def _as_yaml(value: Any) -> bytes:
    return yaml.safe_dump(value, allow_unicode=True, sort_keys=False).encode(
        "utf-8", "surrogatepass"
    )


#: Contents of ``data/pairs/fuzzed.yaml``.
PAIR_FILES = st.one_of(
    changed({**PAIR, "name": "fuzzed"}).map(_as_yaml),
    st.binary(max_size=40),
    st.text(max_size=60).map(lambda x: x.encode("utf-8", "surrogatepass")),
    st.sampled_from(["!!int x", "!!bool maybe", "!!timestamp x", "2024-13-45", "? []"]).map(
        lambda x: f"name: {x}".encode()
    ),
    deep("[", "]"),
    deep("{a: ", "}"),
    bombs(),
)  # fmt: skip
#: An entry in words.
_WORDS = {"clean": "a b", "corrupted": "a c", "answer": {"in_a_row": " d"}, "distractor": [" e"]}
#: Contents of an examples file.
EXAMPLES_FILES = st.one_of(
    changed([entry(0), entry(1, example=1), entry(2)]).map(lambda x: json.dumps(x).encode()),
    changed([_WORDS]).map(lambda x: json.dumps(x).encode()),
    changed([_WORDS, _WORDS]).map(lambda x: "\n".join(map(json.dumps, x)).encode()),
    st.text(st.sampled_from('a,"|\n1 \r\0'), max_size=30).map(
        lambda x: f"clean,corrupted,answer,distractor_any_of,position\n{x}".encode()
    ),
    VALUES.map(lambda x: json.dumps(x).encode()),
    st.binary(max_size=40),
    deep("[", "]"),
    deep('[{"clean": ', "}]"),
    st.just(b"1" * 5000),
)
_SCORES = dict.fromkeys(GRAPH.names[:3], 1.0)
_PEER = peer_content(Circuit.from_scores(_SCORES, GRAPH), "mib", d_model=8)
#: Contents of a circuit's JSON file.
CIRCUIT_FILES = st.one_of(
    changed(_SCORES).map(lambda x: json.dumps(x).encode()),
    changed(_PEER).map(lambda x: json.dumps(x).encode()),
    VALUES.map(lambda x: json.dumps(x).encode()),
    st.binary(max_size=40),
    deep('{"m0->logits": ', "}"),
)
#: What a circuit's parquet file says of its graph.
GRAPHS = (
    changed(
        {"n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "kv": "ungrouped", "parallel": False},
        st.sampled_from([100_000, 2**31, 0, -1, 2.5]) | VALUES,
    )
    | VALUES
)

#: Arguments that every command may be given, whatever it expects.
TEXTS = st.one_of(
    st.sampled_from(
        [
            *("", " ", "0", "-1", "7", "1e999", "9" * 40, "nan", "x" * 300, "x" * 5000, "ü"),
            *("\udcff", "a\nb", "/dev/null", "/dev/null/x.json", "/dev/zero", ".", "/", "[", "--"),
            *("null", "-x", "a,b", ",", "1e5", "on", "0x10", "2024-01-01", "cuda", "xla", "meta"),
            *("999999TiB", "folder.json", "dangling.json", "circle.json", "x.csv", "x.json"),
            *("x.parquet", "x.zip"),
        ]
    ),
    st.text(st.characters(exclude_characters="\0"), max_size=10),
)
_SHARED = ("--metric", "--attention", "--kv", "--device", "--dtype", "--batch-size", "--out")
#: Options of each command, and how many arguments it takes.
COMMANDS: dict[tuple[str, ...], tuple[int, tuple[str, ...]]] = {
    ("run",): (1, ("--analysis", "--budget", "--jobs")),
    ("train",): (1, ("--seed",)),
    ("attribute",): (
        0,
        ("--model", "--examples", "--method", "--steps", "--points", "--memory-budget", *_SHARED),
    ),
    ("evaluate",): (
        3,
        ("--fractions", "--by", "--selection", "--sample", "--ablation", "--reference",
         "--memory-budget", *_SHARED),
    ),
    ("patch",): (
        2, ("--sites", "--direction", "--senders", "--readers", "--through", *_SHARED)
    ),
    ("export-circuit",): (3, ("--out", "--seed", "--budget")),
    ("execute",): (2, ("--set",)),
    ("results", "list"): (0, ("--kind", "--results")),
    ("results", "show"): (1, ("--rows", "--results")),
    ("results", "verify"): (0, ("--results",)),
    ("results", "export"): (1, ("--results",)),
    ("fork",): (1, ("--arm", "--mdm", "--continued", "--like", "--title", "--chapter")),
    ("unfork",): (1, ()),
}  # fmt: skip


@st.composite
def calls(draw: st.DrawFn) -> list[str]:
    """A command with any arguments and some of its options."""
    command = draw(st.sampled_from(list(COMMANDS)))
    n, options = COMMANDS[command]
    made = [*command, *draw(st.lists(TEXTS, min_size=n, max_size=n))]
    for option in draw(st.lists(st.sampled_from(options), unique=True)) if options else ():
        made += [option, draw(TEXTS)]
    return made


def assert_done_or_refused(arguments: list[str]) -> None:
    """A call succeeds, or ends with exit code 2 and one sentence."""
    options = {"COLUMNS": "200", "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"}
    result = CliRunner().invoke(app, arguments, env=options)
    if not isinstance(result.exception, SystemExit | None):
        raise AssertionError(f"mechshift {arguments}: a traceback") from result.exception
    assert result.exit_code in (0, 2), (arguments, result.stderr)
    assert "Traceback" not in result.stdout + result.stderr
    said = result.stderr.strip()
    if result.exit_code == 2 and not said.startswith("Usage:"):
        sentence = said.splitlines()[-1]
        assert sentence.startswith("mechshift: "), (arguments, said)
        assert len(sentence) <= LONGEST


def _pair(content: bytes, folder: Path) -> None:
    """Everything that a pair's file decides before a model is opened."""
    path = folder / "data" / "pairs" / "fuzzed.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    pair = load_pair("fuzzed", folder)
    for task in pair.tasks:
        pair_task(pair, task)
    for role in pair.roles:
        pair.model(role)
    recipe_of(pair)


def _examples(content: bytes, folder: Path) -> None:
    for name in ("x.csv", "x.jsonl"):
        (folder / name).write_bytes(content)
        with suppress(MechshiftError):
            read_rows(folder / name)
    (folder / "x.json").write_bytes(content)
    items = read_examples(folder / "x.json")
    check_corrupted(items)
    check_items(items, SimpleNamespace(max_positions=32, vocab_size=40))


def _circuit(content: bytes, folder: Path) -> None:
    (folder / "x.json").write_bytes(content)
    read_circuit(folder / "x.json", GRAPH)


def _graph(about: object, folder: Path) -> None:
    """A parquet file of one edge that says ``about`` of its graph."""
    table = pa.table({"edge": ["m0->logits"], "score": np.ones(1, np.float32)})
    about_file = table.replace_schema_metadata({"mechshift.graph": json.dumps(about)})
    pq.write_table(about_file, folder / "x.parquet")
    Circuit.from_parquet(folder / "x.parquet")


def _parameter(text: str, _: Path) -> None:
    for name in ("pair", "n", "quick"):
        parameters = parse_parameters([f"{name}={text}"], {"pair"})
        assert name != "pair" or parameters["pair"] == text
        check_parameters(NOTEBOOK, parameters, "n.ipynb")


def _arguments(arguments: list[str], folder: Path) -> None:
    """A call of the command in a folder that has something in the way where files are expected."""
    if not (folder / "folder.json").exists():
        (folder / "folder.json").mkdir()
        (folder / "dangling.json").symlink_to("nowhere")
        (folder / "circle.json").symlink_to("circle.json")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        # What a good call would start takes hours: here it is the asking that counts.
        patched.setattr(workflow, "run_child", lambda *_, **__: SimpleNamespace(returncode=0))
        patched.setattr(workflow, "alone", lambda *_: nullcontext(()))
        assert_done_or_refused(arguments)


#: Kinds of what is handed over, and what is done with one of them in a folder of its own.
KINDS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any, Path], None]]] = {
    "pair files": (PAIR_FILES, _pair),
    "examples files": (EXAMPLES_FILES, _examples),
    "circuit files": (CIRCUIT_FILES, _circuit),
    "graphs of circuit files": (GRAPHS, _graph),
    "parameters": (TEXTS, _parameter),
    "arguments": (calls(), _arguments),
}


def hunt(kind: str, folder: Path, bounds: settings) -> None:
    """Try a kind as often as ``bounds`` say; fails at the first traceback."""
    values, check = KINDS[kind]

    @bounds
    @given(values)
    def one(value: Any) -> None:
        with suppress(MechshiftError):
            check(value, folder)

    one()
