"""The command line from file to file: a folder to call it on, and what a refusal looks like."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from typer.testing import CliRunner

from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.cli.files.examples import read_examples
from mechshift_lib.cli.main import app
from mechshift_lib.models.loading import load_folder
from tests.support.tiny import tiny_hf

#: An id whose embedding is NaN in the broken model.
POISON = 39


def call(*arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a call of ``mechshift``."""
    options = {"COLUMNS": "200", "NO_COLOR": "1"}
    result = CliRunner().invoke(app, [str(x) for x in arguments], env=options)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


#: Commands of the circuit engine.
COMMANDS = ("attribute", "evaluate", "patch")


def given_to(command: str, model: Path, examples: Path, scores: Path) -> tuple[object, ...]:
    """How each command is given a model, examples and, if it takes them, scores."""
    if command == "attribute":
        return ("--model", model, "--examples", examples)
    return (model, examples, scores) if command == "evaluate" else (model, examples)


def entry(seed: int, **changes: object) -> dict[str, object]:
    """An entry of an examples file whose inputs differ at position 2."""
    draw = torch.Generator().manual_seed(seed)
    clean = torch.randint(0, POISON, (6,), generator=draw).tolist()
    corrupted = [*clean[:2], (clean[2] + 1 + seed) % POISON, *clean[3:]]
    return {
        "clean": clean,
        "corrupted": corrupted,
        "answer": seed % 7,
        "distractor": 10 + seed % 5,
        **changes,
    }


def make_folder(root: Path) -> Path:
    """A model, a broken one, examples, and the model's scores."""
    hf = tiny_hf()
    hf.save_pretrained(root / "model")
    hf.model.embed_tokens.weight.data[POISON] = torch.nan
    hf.save_pretrained(root / "broken")
    entries = [entry(seed) for seed in range(4)]
    (root / "examples.json").write_text(json.dumps(entries))
    model = load_folder(root / "model")
    attribute(model, read_examples(root / "examples.json")).circuit.to_json(root / "scores.json")
    return root


def assert_refused(result: tuple[int, str, str], *words: str) -> None:
    """Exit code 2 and one sentence that holds the words."""
    code, out, err = result
    assert code == 2, (out, err)
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("mechshift: ")
    assert lines[0].endswith(".")
    assert "Traceback" not in err
    for word in words:
        assert word in lines[0]


#: What is wrong: entries, and words of the sentence that says so.
BAD_EXAMPLES = {
    "unequal lengths": ([entry(0), entry(1, corrupted=[1, 2])], ("Example 1", "same length")),
    "answer equal to its distractor": ([entry(0, distractor=0)], ("equal to its distractor",)),
    "nothing corrupted": ([entry(0), entry(1, corrupted=entry(1)["clean"])], ("Example 1", "same")),
    "answer outside the vocabulary": ([entry(0, answer=400)], ("token id 400",)),
    "position outside the prompt": ([entry(0, position=6)], ("position 6",)),
    "no example": ([], ("is empty",)),
    "no list": (entry(0), ("give a list of entries", ".jsonl")),
    "an unknown field": ([entry(0, wrong=1)], ("[0].wrong", "there is no such field: take it out")),
    "no answer": ([entry(0, answer=[])], ("[0].answer",)),
    "a step that is no number": ([entry(0, step="last")], ("[0].step",)),
    "an example number without end": ([entry(0, example=10**30)], ("[0].example",)),
    "longer than the model takes": ([entry(0, clean=[1] * 40, corrupted=[2] * 40)], ("40 tokens",)),
    "some with example, some without": ([entry(0, example=1), entry(1)], ("1 of 2", "example")),
}


#: Three good entries and one that makes the broken model's metric NaN.
POISONED = [entry(0), entry(1), entry(2, clean=[1, POISON, 3, 4, 5, 6, 7]), entry(3)]
POISONED[2]["corrupted"] = [1, POISON, 4, 4, 5, 6, 7]  # the longest, so the last to be done
