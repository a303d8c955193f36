"""YAML keeps text as text, is bounded, and is written so that every reader agrees."""

from __future__ import annotations

import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mechshift_lib.documents.plain_yaml import DocumentError, dump, load, reads_as_text

#: Unquoted texts that YAML 1.1 takes for switches, dates, times and numbers.
TEXTS = "no on off yes 2024-01-01 0x10 1:30 1_000 010 0b11 2001-12-14t21:59:43.10-05:00".split()


@pytest.mark.parametrize("text", TEXTS)
def test_text_stays_text(text: str) -> None:
    assert load(f"x: {text}") == {"x": text}
    assert yaml.safe_load(f"x: {text}") != {"x": text}  # what this is for


def test_numbers_and_switches() -> None:
    read = load("[1, -2, 1e-3, 2.0e-3, .5, .inf, true, False, null, ~, '1', \"no\", 1.5.2]")
    assert read == [
        1,
        -2,
        0.001,
        0.002,
        0.5,
        float("inf"),
        True,
        False,
        None,
        None,
        "1",
        "no",
        "1.5.2",
    ]
    assert load("") is None
    assert load("base: &b {x: 1}\nmore: {<<: *b, y: [*b]}") == {
        "base": {"x": 1},
        "more": {"x": 1, "y": [{"x": 1}]},
    }


def bomb(depth: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, depth)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &a [*a]", "stands for itself"),
        ("a: &a {b: {c: *a}}", "stands for itself"),
        (bomb(12), "more than 100000 values"),
        ("[" * 5000, "nested too deeply"),
        ("a: [1", "expected"),
        ("!!timestamp x", "tag"),
        ("!!python/object/apply:os.system ['true']", "tag"),
        ("!!int x", "invalid literal"),
        ("!!bool maybe", "maybe"),
        ("? [1]\n: 2", "unhashable"),
        ("x: " + "1" * 5000, "digits"),
        ("a\x00b", "special characters"),
        ("--- a\n--- b", "single document"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    began = time.process_time()  # of the processor: others may be at work beside it
    with pytest.raises(DocumentError, match=words):
        load(text)
    assert time.process_time() - began < 20


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from([*TEXTS, "1e5", "nan"]))
def test_whatever_is_written_is_read_alike_by_both_readers(text: str) -> None:
    written = dump({"x": text})
    assert load(written) == {"x": text}
    assert yaml.safe_load(written) == {"x": text}


@pytest.mark.parametrize("name", [*TEXTS[:4], "1.5", "7", "2026-01-05", "1e3", "nan", "null", ""])
def test_names_that_some_reader_takes_for_something_else(name: str) -> None:
    assert not reads_as_text(name)


@pytest.mark.parametrize("name", ["tiny-qwen", "pair-1.5", "1-2", "1.5.2", "smollm2-135m"])
def test_names_that_all_readers_keep(name: str) -> None:
    assert reads_as_text(name)
