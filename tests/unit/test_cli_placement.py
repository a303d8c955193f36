"""``--device-map`` and ``--quantization``: the same commands, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mechshift_lib.choices import Quantization
from mechshift_lib.cli.options import parse_device_map
from tests.support.command import COMMANDS, assert_refused, call, given_to, make_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_folder(tmp_path_factory.mktemp("placed"))
    (root / "map.yaml").write_text('"": cpu\nmodel.layers.1: disk\nlm_head: "disk"\n')
    return root


def given(folder: Path, command: str, model: str = "model") -> tuple[object, ...]:
    return given_to(command, folder / model, folder / "examples.json", folder / "scores.json")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_spread_model_gives_the_same_file(folder: Path, command: str, tmp_path: Path) -> None:
    suffix = ".json" if command == "attribute" else ".csv"
    files = []
    for name, extra in (("plain", ()), ("spread", ("--device-map", folder / "map.yaml"))):
        out = tmp_path / f"{name}{suffix}"
        code, _, err = call(command, *given(folder, command), "--out", out, *extra)
        assert code == 0, err
        files.append(out.read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("bits", ["8-bit", "4-bit"])
def test_scores_in_fewer_bits_are_others(folder: Path, bits: Quantization, tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    code, _, err = call(
        "attribute", *given(folder, "attribute"), "--out", out, "--quantization", bits
    )
    assert code == 0, err
    found, plain = (json.loads(x.read_text()) for x in (out, folder / "scores.json"))
    assert found.keys() == plain.keys()
    assert found != plain


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- model\n", ("holds something else", "'auto' or a file")),
        ("model: [cpu]\n", ("holds something else",)),
        ("modle: cpu\n", ("names 'modle'", "or say 'auto'")),
        ('"": gpu\n', ("Unknown device 'gpu'",)),
        ("model: cpu\n", ("gives no place", "lm_head")),
    ],
)
def test_a_bad_map_is_one_sentence(
    folder: Path, tmp_path: Path, text: str, words: tuple[str, ...]
) -> None:
    (tmp_path / "map.yaml").write_text(text)
    out = tmp_path / "scores.json"
    result = call(
        "attribute",
        *given(folder, "attribute"),
        "--out",
        out,
        "--device-map",
        tmp_path / "map.yaml",
    )
    assert_refused(result, *words)
    assert not out.exists()


def test_a_map_that_is_not_there_and_two_ways_at_once_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    start = ("attribute", *given(folder, "attribute"), "--out", tmp_path / "scores.json")
    assert_refused(call(*start, "--device-map", "no-such-file.yaml"), "no-such-file.yaml")
    assert_refused(
        call(*start, "--device-map", "auto", "--quantization", "4-bit"), "stay on one device"
    )


def test_a_map_may_be_json_and_number_the_gpus(tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text('{"model": 0, "lm_head": "cuda:1"}')
    assert parse_device_map(str(tmp_path / "map.json")) == {"model": 0, "lm_head": "cuda:1"}
    assert parse_device_map("auto") == "auto"
    assert parse_device_map(None) is None
