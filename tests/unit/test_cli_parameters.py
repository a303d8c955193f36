"""``--set``: numbers are numbers, and text stays text."""

from __future__ import annotations

import nbformat
import pytest
from typer.testing import CliRunner

from mechshift_lib.cli import parse_parameters
from mechshift_lib.cli.main import app
from mechshift_lib.cli.parameters import RULE
from mechshift_lib.errors import ConfigError
from mechshift_lib.execution.parameters import check_parameters, text_parameters

NOTEBOOK = nbformat.v4.new_notebook(
    cells=[
        nbformat.v4.new_code_cell(
            'pair: str = "tiny-qwen"\nn = 3\nrate = 0.1\nquick = False\nmore = None',
            metadata={"tags": ["parameters"]},
        )
    ]
)


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        *[(x, x) for x in ("no", "1:30", "2026-01-05", "1_000", "010", "0x10", "{x}", "a: b", "")],
        *[(x, x) for x in ("# no comment", "two\nlines", 'say "hi"', "it's", r"C:\new", "NaN")],
        ("12", 12),
        ("-1.5", -1.5),
        ("1e-3", 0.001),
        ("true", True),
        ("null", None),
        ("[1, 2]", [1, 2]),
        ('"12"', "12"),
        ("b=c", "b=c"),
    ],
)
def test_how_a_value_is_read(typed: str, value: object) -> None:
    read = parse_parameters([f"x={typed}"])["x"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "wrong", [["a"], ["a-b=1"], ["a=1", "a=2"], ["a=["], ["a=1e999"], ["a=" + "9" * 5000],
              ["a=[NaN]"], ["a=" + "[" * 100_000], ["a=\udcff"], ['a="1" or "2"']]
)  # fmt: skip
def test_what_cannot_be_read(wrong: list[str]) -> None:
    with pytest.raises(ConfigError, match="--set"):
        parse_parameters(wrong)


def test_where_the_notebook_has_text_everything_stays_text() -> None:
    texts = text_parameters(NOTEBOOK, "n.ipynb")
    assert texts == {"pair"}
    for typed in ("1e5", "on", "null", "[1]", '"x"', "2024-01-01"):
        assert parse_parameters([f"pair={typed}"], texts) == {"pair": typed}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"pair": 3}, "pair takes text, not 3"),
        ({"n": "three"}, "n takes a number, not 'three'"),
        ({"rate": True}, "rate takes a number, not True"),
        ({"quick": 1}, "quick takes true or false, not 1"),
    ],
)
def test_a_value_of_another_kind_than_the_default_is_refused(given: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_parameters(NOTEBOOK, given, "n.ipynb")


def test_values_of_the_kind_of_the_default() -> None:
    check_parameters(
        NOTEBOOK, {"pair": "x", "n": 2.5, "rate": 1, "quick": True, "more": [1]}, "n.ipynb"
    )


def test_help_says_how_values_are_read() -> None:
    said = CliRunner().invoke(app, ["execute", "--help"], env={"COLUMNS": "400"}).stdout
    assert " ".join(RULE.split())[:100] in " ".join(said.replace("│", " ").split())
