"""``mechshift attribute`` and ``mechshift evaluate``, from file to file, and what they refuse."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from mechshift_lib import choices
from mechshift_lib.choices import METHODS
from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.circuits.evaluation.faithfulness import faithfulness_curve
from mechshift_lib.circuits.graph.circuit import Circuit
from mechshift_lib.circuits.graph.selection import SELECTIONS
from mechshift_lib.circuits.questions.metrics import METRICS
from mechshift_lib.cli.circuits import parse_fractions, parse_size
from mechshift_lib.cli.files.examples import read_examples
from mechshift_lib.cli.main import app
from mechshift_lib.config import ROOT
from mechshift_lib.errors import ConfigError
from mechshift_lib.models.loading import DTYPES, load_folder
from tests.support.command import (
    BAD_EXAMPLES,
    COMMANDS,
    POISONED,
    assert_refused,
    call,
    entry,
    given_to,
    make_folder,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("files"))


def test_options_are_those_of_the_library() -> None:
    for options, names in (
        (choices.Metric, METRICS),
        (choices.Selection, SELECTIONS),
        (choices.Dtype, DTYPES),
    ):
        assert get_args(options) == tuple(names)


def test_no_option_repeats_names_of_the_library() -> None:
    """A choice is written once, in choices: an enum or a Literal of its own would be a second."""
    for file in sorted((ROOT / "mechshift_lib" / "cli").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.ClassDef) and "Enum" in ast.unparse(node)), file
            if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal":
                assert ast.unparse(node.slice) == "(Ranking, 'both')", (file, ast.unparse(node))


@pytest.mark.parametrize("method", METHODS)
def test_attribute_by_every_method_and_metric(folder: Path, tmp_path: Path, method: str) -> None:
    out, metric = tmp_path / "scores.json", "log-prob"
    code, said, _ = call(
        *("attribute", "--model", folder / "model", "--examples", folder / "examples.json"),
        *("--out", out, "--method", method, "--metric", metric, "--steps", 2),
        *("--points", "right", "--batch-size", 3, "--memory-budget", "1MiB"),
    )
    assert (code, said) == (0, f"Wrote {out}\n")
    model, items = load_folder(folder / "model"), read_examples(folder / "examples.json")
    expected = attribute(model, items, metric=metric, method=method, steps=2, points="right")
    scores = json.loads(out.read_text())
    assert list(scores) == expected.graph.names
    np.testing.assert_allclose(list(scores.values()), expected.scores, atol=2e-6)
    assert np.abs(expected.scores).max() > 1e-4
    assert list(tmp_path.iterdir()) == [out]


def test_attribute_by_position(folder: Path, tmp_path: Path) -> None:
    given = ("attribute", "--model", folder / "model", "--examples", folder / "examples.json")
    for name in ("scores.json", "scores.parquet"):
        assert call(*given, "--by-position", "--out", tmp_path / name)[0] == 0
    whole = json.loads((folder / "scores.json").read_text())
    by_position = json.loads((tmp_path / "scores.json").read_text())
    assert list(by_position) == list(whole)
    lists = np.array(list(by_position.values()))
    assert lists.shape == (len(whole), 6)
    np.testing.assert_allclose(lists.sum(1), list(whole.values()), atol=2e-6)
    assert not lists[:, :2].any()  # causal: nothing differs before position 2
    table = pd.read_parquet(tmp_path / "scores.parquet")
    np.testing.assert_allclose(table[[f"position_{i}" for i in range(6)]], lists, atol=2e-6)
    again = Circuit.from_parquet(tmp_path / "scores.parquet")
    np.testing.assert_allclose(again.scores, list(whole.values()), atol=2e-6)


def evaluate(folder: Path, out: Path, *options: object, circuit: Path | None = None) -> str:
    given = (folder / "model", folder / "examples.json", circuit or folder / "scores.json")
    code, said, err = call("evaluate", *given, "--out", out, *options)
    assert code == 0, err
    assert said.endswith(f"Wrote {out}\n")
    return said


def test_evaluate_writes_the_curves_of_the_library(folder: Path, tmp_path: Path) -> None:
    said = evaluate(folder, tmp_path / "curve.json", "--fractions", "0.1,0.5,1")
    content = json.loads((tmp_path / "curve.json").read_text())
    table = pd.DataFrame(content["points"])
    model, items = load_folder(folder / "model"), read_examples(folder / "examples.json")
    circuit = Circuit.read(folder / "scores.json", attribute(model, items).graph)
    for by in ("signed", "absolute"):
        curve = faithfulness_curve(model, items, circuit, fractions=(0.1, 0.5, 1.0), by=by)
        rows = table[table["by"] == by]
        np.testing.assert_allclose(rows["faithfulness"], curve.faithfulness, atol=1e-4)
        np.testing.assert_allclose(rows["value"], curve.values.mean(1), atol=1e-5)
        assert rows["n_edges"].tolist() == curve.n_edges.tolist()
    f = table[table["by"] == "signed"]["faithfulness"].to_numpy()
    area = 0.4 * (f[0] + f[1]) / 2 + 0.5 * (f[1] + f[2]) / 2
    assert content["cpr"]["value"] == pytest.approx(area)
    assert content["cmd"]["value"] > 0
    assert f"CPR {content['cpr']['value']:.3f} (" in said
    assert "CMD" in said


def test_evaluate_with_one_ranking_as_a_table(folder: Path, tmp_path: Path) -> None:
    options = ("--fractions", "0.2,1", "--by", "absolute", "--selection", "greedy")
    said = evaluate(folder, tmp_path / "curve.csv", *options, "--batch-size", 1)
    evaluate(folder, tmp_path / "curve.parquet", *options)
    csv = pd.read_csv(tmp_path / "curve.csv")
    assert set(csv["by"]) == {"absolute"}
    assert set(csv["selection"]) == {"greedy"}
    pd.testing.assert_frame_equal(
        csv, pd.read_parquet(tmp_path / "curve.parquet"), check_exact=False, atol=1e-4
    )
    assert "CMD" in said
    assert "CPR" not in said
    assert csv["faithfulness"].iloc[-1] == pytest.approx(1, abs=1e-5)


def test_evaluate_with_mean_ablation_and_its_reference(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "reference.json").write_text(json.dumps([entry(seed) for seed in range(9, 12)]))
    tables = []
    for name, options in (
        ("own", ()),
        ("other", ("--reference", tmp_path / "reference.json")),
    ):
        out = tmp_path / f"{name}.csv"
        evaluate(folder, out, "--ablation", "mean", "--fractions", "0.3,1", *options)
        tables.append(pd.read_csv(out))
    assert abs(tables[0]["empty"] - tables[1]["empty"]).max() > 1e-3
    np.testing.assert_allclose(tables[0]["full"], tables[1]["full"], atol=1e-5)


def test_evaluate_with_optimal_ablation(folder: Path, tmp_path: Path) -> None:
    """Constants for no edge intact keep more of the clean run's behaviour than the means do."""
    options = ("--metric", "kl", "--fractions", "0.3", "--by", "signed")
    tables = {}
    for ablation in ("mean", "optimal"):
        out = tmp_path / f"{ablation}.csv"
        evaluate(folder, out, "--ablation", ablation, *options)
        tables[ablation] = pd.read_csv(out)
    for column in ("empty", "value"):  # minus the divergence
        assert (tables["optimal"][column] > 0.9 * tables["mean"][column]).all()
    assert (tables["optimal"]["value"] > tables["optimal"]["empty"]).all()
    np.testing.assert_allclose(tables["optimal"]["full"], 0, atol=1e-6)


def test_evaluate_a_given_circuit(folder: Path, tmp_path: Path) -> None:
    scores = json.loads((folder / "scores.json").read_text())
    strongest = sorted(scores, key=lambda name: -abs(scores[name]))[:30]
    (tmp_path / "circuit.json").write_text(json.dumps(dict.fromkeys(strongest, 1)))
    given = ("--given", "--sample", 4)
    said = evaluate(folder, tmp_path / "out.json", *given, circuit=tmp_path / "circuit.json")
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["n_edges"] == 30
    assert said.startswith("30 edges: faithfulness ")
    assert set(content["loss_by_edge"]) <= set(strongest)
    assert len(content["loss_by_edge"]) == 4
    assert len(content["subsets"]) == 10


def test_one_example_has_areas_without_intervals(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps([entry(0)]))
    out = tmp_path / "curve.json"
    given = (folder / "model", tmp_path / "one.json", folder / "scores.json", "--out", out)
    code, said, _ = call("evaluate", *given, "--fractions", "0.5,1")
    assert code == 0
    assert " to " not in said
    content = json.loads(out.read_text())
    assert (content["cpr"]["low"], content["points"][0]["low"]) == (None, None)
    assert f"CPR {content['cpr']['value']:.3f}\n" in said


def test_examples_whose_metrics_do_not_differ_have_nothing_to_keep(
    folder: Path, tmp_path: Path
) -> None:
    before = entry(0, position=1)  # read before the corrupted token
    (tmp_path / "x.json").write_text(json.dumps([before] * 2))
    given = (folder / "model", tmp_path / "x.json", folder / "scores.json")
    assert_refused(call("evaluate", *given, "--out", tmp_path / "c.csv"), "same metric")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("case", BAD_EXAMPLES)
def test_bad_examples(folder: Path, tmp_path: Path, command: str, case: str) -> None:
    entries, words = BAD_EXAMPLES[case]
    examples, out = tmp_path / "bad.json", tmp_path / "out.json"
    examples.write_text(json.dumps(entries))
    given = given_to(command, folder / "model", examples, folder / "scores.json")
    assert_refused(call(command, *given, "--out", out), *words)
    assert not out.exists()


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"a0.h0->a0.h1<q>": 1.0}, ("Unknown edge 'a0.h0->a0.h1<q>'", "2 layers of 4 heads")),
        ({"m7->logits": 1.0}, ("Unknown edge 'm7->logits'",)),
        ({"m0->logits": "strong"}, ("'strong'", "number")),
        ({"m0->logits": float("nan")}, ("nan", "finite")),
        ({"m0->logits": 1e60}, ("1e+60", "finite")),
        (["m0->logits"], ("object",)),
    ],
)
def test_a_circuit_with_unknown_edges_or_nodes(
    folder: Path, tmp_path: Path, named: object, words: tuple[str, ...]
) -> None:
    (tmp_path / "c.json").write_text(json.dumps(named))
    given = (folder / "model", folder / "examples.json", tmp_path / "c.json")
    assert_refused(call("evaluate", *given, "--out", tmp_path / "out.csv"), *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--out", "curve.xls"), ("'curve.xls'", ".parquet")),
        (("--out", "c.csv", "--fractions", "0.1;1"), ("--fractions", "0.1;1")),
        (("--out", "c.csv", "--fractions", "0.5,0.1"), ("ascend",)),
        (("--out", "c.csv", "--fractions", "1,2"), ("from 0 to 1",)),
        (("--out", "c.csv", "--memory-budget", "much"), ("--memory-budget", "2GiB")),
        (("--out", "c.csv", "--memory-budget", "9" * 400 + "TiB"), ("--memory-budget", "2GiB")),
        (("--out", "c.csv", "--memory-budget", "999999999TiB"), ("--memory-budget", "2GiB")),
        (("--out", "c.csv", "--batch-size", "9" * 30), ("--batch-size",)),
        (("--out", "/dev/null/c.csv"), ("is a file, not a folder",)),
        (("--out", "x" * 300 + ".csv"), ("too long",)),
        (("--out", "c.csv", "--given"), ("'c.csv'", ".json")),
    ],
)
def test_bad_options_are_said_before_the_model_is_read(
    tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    absent = tmp_path / "absent"
    assert_refused(call("evaluate", absent, absent, "c.json", *options), *words)


def test_examples_of_two_lengths_by_position(folder: Path, tmp_path: Path) -> None:
    longer = entry(1, clean=[1] * 8, corrupted=[2] * 8)
    (tmp_path / "x.json").write_text(json.dumps([entry(0), longer]))
    given = ("attribute", "--model", folder / "model", "--examples", tmp_path / "x.json")
    assert_refused(
        call(*given, "--by-position", "--out", tmp_path / "o.json"), "one length", "6", "8"
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_architecture(folder: Path, tmp_path: Path, command: str) -> None:
    config = {"model_type": "bert", "architectures": ["BertForMaskedLM"]}
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text(json.dumps(config))
    (tmp_path / "bert" / "model.safetensors").write_bytes(b"")
    given = given_to(command, tmp_path / "bert", folder / "examples.json", folder / "scores.json")
    refused = call(command, *given, "--out", tmp_path / "o.json")
    assert_refused(refused, "Architecture 'bert' is unknown")


@pytest.mark.parametrize("command", COMMANDS)
def test_attention_other_than_declared(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """A checkpoint that stays causal whatever its config says is refused when full is declared."""
    from transformers import Qwen2ForCausalLM

    inner = Qwen2ForCausalLM.forward
    monkeypatch.setattr(
        Qwen2ForCausalLM,
        "forward",
        lambda self, *a, **k: inner(self, *a, **{**k, "is_causal": True}),
    )
    given = given_to(command, folder / "model", folder / "examples.json", folder / "scores.json")
    refused = call(command, *given, "--attention", "full", "--out", tmp_path / "o.json")
    assert_refused(refused, "'full' is declared", "causal")


@pytest.mark.parametrize(
    "device", ["banana", "cuda:7", "meta", "xla", "hpu", "fpga", "", "x" * 999]
)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_device_that_there_is_not(
    folder: Path, tmp_path: Path, command: str, device: str
) -> None:
    given = given_to(command, folder / "model", folder / "examples.json", folder / "scores.json")
    refused = call(command, *given, "--out", tmp_path / "o.json", "--device", device)
    assert_refused(refused, device[:20], "use ")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("command", COMMANDS)
def test_the_precision_of_a_run(folder: Path, tmp_path: Path, command: str, dtype: str) -> None:
    """The numbers of half precision are near those of float32, and not the same."""
    given = given_to(command, folder / "model", folder / "examples.json", folder / "scores.json")
    suffix, column = (
        (".json", "")
        if command == "attribute"
        else (".csv", "faithfulness" if command == "evaluate" else "value")
    )
    found = []
    for name in ("float32", dtype):
        out = tmp_path / f"{name}{suffix}"
        assert call(command, *given, "--out", out, "--dtype", name)[0] == 0
        if suffix == ".json":
            found.append(np.array(list(json.loads(out.read_text()).values())))
        else:
            found.append(pd.read_csv(out)[column].to_numpy())
    assert 0 < np.abs(found[0] - found[1]).max() < 0.2
    assert np.corrcoef(*found)[0, 1] > 0.99


@pytest.mark.parametrize("command", COMMANDS)
def test_what_cannot_be_read_or_written(folder: Path, tmp_path: Path, command: str) -> None:
    examples, scores = folder / "examples.json", folder / "scores.json"
    (tmp_path / "torn.json").write_text("[{")
    for model, given_examples, out, words in (
        (tmp_path / "absent", examples, tmp_path / "o.json", ("absent",)),
        (
            folder / "model",
            tmp_path / "none.json",
            tmp_path / "o.json",
            ("none.json", "Can't read"),
        ),
        (folder / "model", tmp_path / "torn.json", tmp_path / "o.json", ("not valid JSON",)),
        (folder / "model", examples, tmp_path / "torn.json" / "o.json", ("Can't write",)),
    ):
        given = given_to(command, model, given_examples, scores)
        assert_refused(call(command, *given, "--out", out), *words)


def test_a_nan_keeps_the_scores_of_the_examples_before(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(POISONED))
    given = ("attribute", "--model", folder / "broken", "--examples", tmp_path / "x.json")
    out = tmp_path / "scores.json"
    refused = call(*given, "--out", out, "--batch-size", 1)
    assert_refused(refused, "NaN", "3 examples", "scores.partial.json")
    assert not out.exists()
    kept = json.loads((tmp_path / "scores.partial.json").read_text())
    (tmp_path / "good.json").write_text(json.dumps([POISONED[i] for i in (0, 1, 3)]))
    given = ("attribute", "--model", folder / "model", "--examples", tmp_path / "good.json")
    assert call(*given, "--out", out)[0] == 0
    np.testing.assert_allclose(
        list(kept.values()), list(json.loads(out.read_text()).values()), atol=2e-6
    )
    assert not (tmp_path / "scores.partial.json").exists()  # the whole is there now


def test_a_nan_keeps_the_curve_of_the_examples_before(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(POISONED))
    given = (folder / "broken", tmp_path / "x.json", folder / "scores.json")
    options = ("--out", tmp_path / "c.csv", "--batch-size", 1, "--fractions", "0.5,1")
    assert_refused(call("evaluate", *given, *options), "NaN", "3 examples", "c.partial.csv")
    kept = pd.read_csv(tmp_path / "c.partial.csv")
    assert (kept["n"] == 3).all()
    assert np.isfinite(kept["faithfulness"]).all()
    assert not (tmp_path / "c.csv").exists()


def test_a_nan_keeps_the_examination_of_the_examples_before(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(POISONED))
    (tmp_path / "good.json").write_text(json.dumps([POISONED[i] for i in (0, 1, 3)]))
    edges = ("input->m0", "m0->logits", "a0.h1->m1", "m1->logits")
    (tmp_path / "c.json").write_text(json.dumps(dict.fromkeys(edges, 1)))
    given = ("evaluate", folder / "broken", tmp_path / "x.json", tmp_path / "c.json", "--given")
    refused = call(*given, "--out", tmp_path / "o.json", "--batch-size", 1)
    assert_refused(refused, "NaN", "3 examples", "o.partial.json")
    kept = json.loads((tmp_path / "o.partial.json").read_text())
    assert not (tmp_path / "o.json").exists()
    given = ("evaluate", folder / "model", tmp_path / "good.json", tmp_path / "c.json", "--given")
    assert call(*given, "--out", tmp_path / "o.json")[0] == 0
    whole = json.loads((tmp_path / "o.json").read_text())
    assert list(kept["loss_by_edge"]) == list(whole["loss_by_edge"])
    assert len(kept["loss_by_edge"]) == 4
    for name in edges:
        assert kept["loss_by_edge"][name] == pytest.approx(whole["loss_by_edge"][name], abs=1e-4)
    assert kept["faithfulness"] == pytest.approx(whole["faithfulness"], abs=1e-4)
    assert not (tmp_path / "o.partial.json").exists()  # the whole is there now


def test_an_interrupt_keeps_what_is_finished_too(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mechshift_lib.cli.files import examples as examples_file

    calls: list[int] = []

    def interrupted(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return attribute(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(examples_file, "attribute", interrupted)
    given = ("attribute", "--model", folder / "model", "--examples", folder / "examples.json")
    options = ("--out", str(tmp_path / "scores.json"), "--batch-size", "1")
    result = CliRunner().invoke(app, [*map(str, given), *options])
    assert result.exit_code != 0
    assert "2 examples finished before" in result.stderr
    assert (tmp_path / "scores.partial.json").exists()


def test_help_of_evaluate_states_faithfulness_and_areas() -> None:
    text = " ".join(call("evaluate", "--help")[1].split())
    assert "f = (m(C) - m(none)) / (m(all) - m(none))" in text
    assert "ranked by signed score" in text
    for option in ("--fractions", "--by", "--ablation", "--given", "--selection", "--out"):
        assert option in text


def test_sizes() -> None:
    assert parse_size(None) is None
    assert parse_size("1024") == 1024
    assert parse_size("2GiB") == 2 * 1024**3
    assert parse_size("1.5 MB") == 1_500_000
    for wrong in ("", "GiB", "-1GB", "3 apples", "0"):
        with pytest.raises(ConfigError, match="--memory-budget"):
            parse_size(wrong)


def test_fractions() -> None:
    assert parse_fractions(None) is None
    assert parse_fractions("0.1, 1") == (0.1, 1.0)
    with pytest.raises(ConfigError, match="--fractions"):
        parse_fractions("0.1,,1")
