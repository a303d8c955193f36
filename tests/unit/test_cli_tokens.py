"""Prompts as text: JSON, JSON lines and CSV, what is refused, and ``mechshift tokens``."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import mechshift_lib as ms
from mechshift_lib.cli.files.examples import read_examples
from mechshift_lib.cli.files.prompts import Asking
from mechshift_lib.cli.files.rows import read_rows
from mechshift_lib.cli.files.tokenisations import Token, side_by_side, table
from mechshift_lib.config import ROOT
from mechshift_lib.errors import CircuitError, ConfigError, ModelError
from tests.support.command import assert_refused, call, given_to
from tests.support.tiny import tiny_hf

ARM = ROOT / "data" / "models" / "tiny-llama" / "seed0" / "arm"
MDM = ROOT / "data" / "models" / "tiny-llama" / "seed0" / "mdm"

#: A byte-level tokenizer as GPT-2's: a space belongs to the word behind it.
PIECES = ["The", " man", " gave", " Mary", "Mary", " John", " El", "vira", " to", " New", " York"]
VOCABULARY = ["[MASK]", *"ĠTheEmangvMryJohvirtNwYkl78", *(x.replace(" ", "Ġ") for x in PIECES)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with a byte-level tokenizer."""
    root = tmp_path_factory.mktemp("words") / "model"
    names = list(dict.fromkeys(VOCABULARY))
    merges, known = [], set(names)
    for piece in (x.replace(" ", "Ġ") for x in PIECES):
        made = piece[0]
        for letter in piece[1:]:
            merges.append((made, letter))
            made += letter
            known.add(made)
    names += sorted(known - set(names))
    inner = Tokenizer(models.BPE({n: i for i, n in enumerate(names)}, list(dict.fromkeys(merges))))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    words = PreTrainedTokenizerFast(tokenizer_object=inner, mask_token="[MASK]")
    model = tiny_hf("llama")
    model.resize_token_embeddings(len(names))
    model.save_pretrained(root)
    words.save_pretrained(root)
    return root


def row(**changes: object) -> dict[str, object]:
    return {
        "clean": "The man gave to",
        "corrupted": "The man to to",
        "answer": " Mary",
        "distractor": " John",
        **changes,
    }


def write(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text(json.dumps(rows))
    return path


def ids(folder: Path, text: str) -> tuple[int, ...]:
    return tuple(Asking(folder).tokenizer(text, add_special_tokens=False)["input_ids"])


def test_text_is_asked_as_its_ids_are(folder: Path, tmp_path: Path) -> None:
    [item] = read_examples(write(tmp_path / "x.json", row()), Asking(folder))
    as_ids = row(
        **{side: list(ids(folder, str(row()[side]))) for side in ("clean", "corrupted")},
        answer=ids(folder, " Mary")[0],
        distractor=ids(folder, " John")[0],
    )
    assert read_examples(write(tmp_path / "ids.json", as_ids)) == [item]
    assert len(item.clean) == 4
    assert item.reads == (3,)


def test_the_three_forms_of_a_file_say_the_same(folder: Path, tmp_path: Path) -> None:
    rows = [
        row(example=4, answer={"any_of": [" Mary", "Mary"]}),
        row(example=4, answer={"in_a_row": " New York"}, distractor={"in_a_row": " Elvira"}),
        row(example=5, position=-2, step=3),
    ]
    write(tmp_path / "x.json", *rows)
    (tmp_path / "x.jsonl").write_text("\n\n".join(map(json.dumps, rows)) + "\n")
    columns = [
        *("clean", "corrupted", "answer", "answer_any_of", "answer_in_a_row"),
        *("distractor", "distractor_in_a_row", "position", "example", "step"),
    ]
    prompts = [rows[0]["clean"], rows[0]["corrupted"]]
    with (tmp_path / "x.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(columns)
        out.writerow([*prompts, "", " Mary|Mary", "", " John", "", "", 4, ""])
        out.writerow([*prompts, "", "", " New York", "", " Elvira", "", 4, ""])
        out.writerow([*prompts, " Mary", "", "", " John", "", -2, 5, 3])
    found = [read_examples(tmp_path / f"x.{x}", Asking(folder)) for x in ("json", "jsonl", "csv")]
    assert found[0] == found[1] == found[2]
    several, in_a_row, at_position = found[0]
    assert set(several.answers[0]) == {*ids(folder, " Mary"), *ids(folder, "Mary")}
    assert in_a_row.reads == (3, 4)  # teacher forcing: " New" is part of the input
    assert in_a_row.clean[4:] == in_a_row.corrupted[4:] == ids(folder, " New")
    assert [a[0] for a in in_a_row.answers] == list(ids(folder, " New York"))
    assert (at_position.reads, at_position.step, at_position.example) == ((2,), 3, 5)


def test_an_mdm_is_asked_in_a_canvas_step_by_step(folder: Path, tmp_path: Path) -> None:
    several = row(answer={"in_a_row": " New York"}, distractor={"in_a_row": " Elvira"})
    path = write(tmp_path / "x.json", several)
    mask = Asking(folder).tokenizer.mask_token_id
    for readout, reads in (("mask", (4, 5)), ("shifted-mask", (3, 4))):
        asking = Asking(folder, readout, "[MASK]", "full")  # type: ignore[arg-type]
        first, second = read_examples(path, asking)
        assert (first.reads, second.reads) == ((reads[0],), (reads[1],))
        assert (first.step, second.step, first.example) == (0, 1, 0)
        assert first.clean[4:] == (mask, mask)
        assert second.clean[4:] == (ids(folder, " New")[0], mask)


def test_alternatives_may_overlap(folder: Path, tmp_path: Path) -> None:
    rows = [
        row(answer=[" Mary", " John"], distractor=[" John"]),
        row(distractor=[" Mary", " John"]),
    ]
    items = read_examples(write(tmp_path / "x.json", *rows), Asking(folder))
    assert [len(item.reads) for item in items] == [1, 1]
    assert len(items[0].answers[0]) == len(items[1].distractors[0]) == 2


def test_the_librarys_own_words_are_asked_alike(tmp_path: Path) -> None:
    model = ms.load_model(ms.load_pair("tiny-llama").model("arm"))
    asked = ms.ask_text(model, "The cat and the", "The dog and the", " red", " blue")
    words = {"clean": "The cat and the", "corrupted": "The dog and the"}
    path = write(tmp_path / "x.json", row(**words, answer=" red", distractor=" blue"))
    assert read_examples(path, Asking(ARM)) == asked


REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "several tokens": (
        {"answer": " Elvira"},
        ("list[0].answer", "2 tokens, ' El' 'vira'", '{"in_a_row": " Elvira"}', "answer_in_a_row"),
    ),
    "in a row against one": ({"answer": {"in_a_row": " New York"}}, ("both be in_a_row",)),
    "in a row at a position": (
        {
            "answer": {"in_a_row": " New York"},
            "distractor": {"in_a_row": " Elvira"},
            "position": 1,
        },
        (".position", "leave it out"),
    ),
    "the same answer": ({"distractor": " Mary"}, ("equal to its distractor",)),
    "merged": (
        {"clean": "The man ", "corrupted": "The gave ", "answer": "Mary", "distractor": "vira"},
        ("merges", "end the prompt without a space"),
    ),
    "a position": ({"position": 9}, (".position", "9 is none of the prompt's 4 tokens")),
    "an empty text": ({"clean": ""}, ("list[0].clean",)),
    "an unknown object": ({"answer": {"all_of": [1]}}, ("list[0].answer", "any_of", "all_of")),
    "a list in a row of texts": ({"answer": {"in_a_row": [" New", " York"]}}, ("one text",)),
    "no list of alternatives": ({"answer": {"any_of": " New"}}, ("takes a list",)),
    "a number": ({"answer": 1.5}, ("list[0].answer", "1.5")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_texts_that_cannot_be_asked(folder: Path, tmp_path: Path, case: str) -> None:
    changes, words = REFUSED[case]
    path = write(tmp_path / "x.json", row(**changes))
    with pytest.raises(CircuitError) as caught:
        read_examples(path, Asking(folder))
    assert all(word in str(caught.value) for word in words), caught.value
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("command", ["attribute", "evaluate", "patch"])
def test_unequal_lengths_are_shown_under_each_other(
    folder: Path, tmp_path: Path, command: str
) -> None:
    longer = row(clean="The man gave Mary to", corrupted="The man gave Elvira to")
    given = given_to(
        command, folder, write(tmp_path / "x.json", row(), longer), tmp_path / "s.json"
    )
    code, out, err = call(command, *given, "--out", tmp_path / "o.json")
    assert (code, out) == (2, "")
    sentence, clean, corrupted = err.rstrip("\n").split("\n")
    for said in ("list[1]", "5 clean and 6 corrupted", "token 4", "' Mary'", "' El' 'vira'"):
        assert said in sentence
    assert sentence.endswith(".")
    assert clean == "  clean     'The' ' man' ' gave' ' Mary'        ' to'"
    assert corrupted == "  corrupted 'The' ' man' ' gave' ' El'   'vira' ' to'"


def test_a_word_without_its_space_gets_a_hint(folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    rows = [
        row(answer="Mary"),
        row(answer="Mary"),
        row(answer="7", clean="The 7", corrupted="The 8"),
    ]
    read_examples(write(tmp_path / "x.json", *rows), Asking(folder, hint=said.append))
    [hint] = said
    assert "list[0].answer" in hint
    assert "'Mary' follows the prompt without a space" in hint
    assert "' Mary'" in hint
    assert "(1 more like this)" in hint
    read_examples(write(tmp_path / "x.json", row()), Asking(folder, hint=said.append))
    assert len(said) == 1
    twice = row(clean="The man ", corrupted="The gave ")
    read_examples(write(tmp_path / "x.json", twice), Asking(folder, hint=said.append))
    assert "leave out that of the prompt" in said[1]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.csv", "clean,corrupted,answer\na,b\n", ("line 2 has 2 cells", "quotes")),
        ("x.csv", "clean,corrupt\n", ("'corrupt'", "distractor_any_of")),
        ("x.csv", "", ("column ''",)),
        ("x.csv", 'clean\n"a\n', ("not valid CSV",)),
        ("x.csv", "clean,answer,answer_in_a_row\na,b,c\n", ("two cells for its answer",)),
        ("x.csv", "clean,position\na,last\n", ("line 2.position", "'last'", "whole number")),
        ("x.csv", "clean,corrupted,answer\na,b,c\n", ("line 2.distractor",)),
        ("x.jsonl", '{"clean": "a"}\n{\n', ("line 2", "not valid JSON")),
        ("x.jsonl", "\n", ("is empty",)),
        ("x.json", '{"clean": 1}\n{"clean": 2}', ("not valid JSON", ".jsonl")),
    ],
)
def test_files_of_another_form(
    tmp_path: Path, name: str, content: str, words: tuple[str, ...]
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(CircuitError) as caught:
        read_rows(tmp_path / name)
    assert all(word in str(caught.value) for word in words), caught.value


def test_what_a_readout_needs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--mask-token"):
        Asking(tmp_path, "mask", None, "full")
    with pytest.raises(ConfigError, match="--attention full"):
        Asking(tmp_path, "mask", "[MASK]", "causal")
    with pytest.raises(ConfigError, match="--readout"):
        Asking(tmp_path, "next-token", "[MASK]")
    with pytest.raises(ModelError, match="no mask token 'x'"):
        _ = Asking(ARM, "mask", "x", "full").reader
    with pytest.raises(ModelError, match="no tokenizer"):
        _ = Asking(tmp_path).tokenizer
    with pytest.raises(ModelError, match="doesn't exist"):
        _ = Asking(tmp_path / "absent").tokenizer
    path = write(tmp_path / "x.json", row())
    with pytest.raises(CircuitError, match=r"list\[0\]\.clean: text needs"):
        read_examples(path)


def test_tokens_of_texts(folder: Path) -> None:
    code, out, _ = call("tokens", folder, "The man", "The Mary man")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0][:2] == ["position", "id"]
    assert lines[1][0] == "0"
    assert lines[1][1] == lines[1][3] == str(ids(folder, "The")[0])
    assert [("differs" in line) for line in lines[1:]] == [False, True, False]
    _, one, _ = call("tokens", folder, " Mary")
    assert one.splitlines()[1].split(maxsplit=2) == ["0", str(ids(folder, " Mary")[0]), "' Mary'"]


def test_tokens_of_an_examples_file(folder: Path, tmp_path: Path) -> None:
    longer = row(corrupted="The man Elvira to", answer={"in_a_row": " New York"})
    path = write(tmp_path / "x.json", row(answer=[" Mary", "Mary"]), longer)
    code, out, _ = call("tokens", folder, "--examples", path)
    assert code == 0
    mary, bare = ids(folder, " Mary")[0], ids(folder, "Mary")[0]
    assert f"answer: ' Mary' ({mary}) or 'Mary' ({bare})" in out
    assert re.search(r"answer: ' New' \(\d+\) ' York' \(\d+\)\n", out)
    assert "list[1]: 4 clean and 5 corrupted tokens" in out
    assert out.endswith("unequal lengths: list[1].\n")
    assert "list[1]" not in call("tokens", folder, "--examples", path, "--entry", 0)[1]
    assert_refused(call("tokens", folder, "--examples", path, "--entry", 2), "0 to 1")
    assert_refused(call("tokens", folder), "--examples FILE")
    assert_refused(call("tokens", folder, "x", "--examples", path), "either")
    assert_refused(call("tokens", folder, "x", "--entry", 1), "--entry")


def test_long_texts_are_cut_to_where_they_differ() -> None:
    many = [Token(i, f"'w{i}'") for i in range(200)]
    other = [*many[:100], Token(999, "'new'"), *many[100:]]
    lines = side_by_side(("clean", "corrupted"), many, other)
    assert max(map(len, lines)) <= 102
    assert lines[0].split() == [
        "clean",
        "…",
        "'w97'",
        "'w98'",
        "'w99'",
        "'w100'",
        "'w101'",
        "'w102'",
        "…",
    ]
    assert lines[1].split()[5] == "'new'"
    assert len(table(("a", "b"), (many, other))) == 202


def commands_of(page: str) -> list[list[str]]:
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.S)
    lines = [line.partition("  #")[0] for block in blocks for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("mechshift ")]


ENGINE = ("attribute", "evaluate", "patch", "tokens", "convert")


def test_the_pages_commands_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command of the engine on the page, in its order, on the page's own examples files."""
    text = (ROOT / "book" / "reproduce.md").read_text(encoding="utf-8")
    for kind, name in (("json", "prompts.json"), ("text", "prompts.csv")):
        [content] = re.findall(rf"```{kind}\n(.*?)```", text, flags=re.S)
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FOLDER").symlink_to(ARM)
    (tmp_path / "MDM").symlink_to(MDM)
    commands = [x for x in commands_of("book/reproduce.md") if x[0] in ENGINE]
    assert {command[0] for command in commands} == set(ENGINE)
    for command in commands:
        if any("/" in part for part in command):
            continue  # a model of the hub, which no test fetches
        code, _, err = call(*command)
        assert code == 0, (command, err)
