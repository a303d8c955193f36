"""``mechshift patch``, from file to file, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from mechshift_lib.choices import THROUGH
from mechshift_lib.circuits.patching.activations import patch_nodes
from mechshift_lib.circuits.patching.paths import patch_paths
from mechshift_lib.cli.files import patches as patching_file
from mechshift_lib.cli.files.examples import read_examples
from mechshift_lib.cli.main import app
from mechshift_lib.models.loading import load_folder
from tests.support.command import POISON, POISONED, assert_refused, call, entry, make_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def steps(folder: Path) -> Path:
    """Examples of two lengths, one of them with two denoising steps."""
    longer = {
        "clean": [1, 2, 3, 4, 5, 6, 7, 8],
        "corrupted": [1, 2, 30, 4, 5, 6, 7, 8],
    }
    entries = [
        *(entry(seed, example=seed) for seed in range(3)),
        entry(3, example=3, **longer),
        entry(4, example=3, step=1, position=-2, **longer),
    ]
    (folder / "steps.json").write_text(json.dumps(entries))
    return folder / "steps.json"


def patch(folder: Path, examples: Path, out: Path, *options: object) -> Path:
    code, said, err = call("patch", folder / "model", examples, "--out", out, *options)
    assert (code, said) == (0, f"Wrote {out}\n"), err
    return out


def test_activations_are_those_of_the_library(folder: Path, steps: Path, tmp_path: Path) -> None:
    """In chunks of one example, joined, as all examples of two lengths and two steps at once."""
    model, items = load_folder(folder / "model"), read_examples(steps)
    expected = patch_nodes(model, items, metric="log-prob")
    options = ("--metric", "log-prob", "--batch-size", 1)
    content = json.loads(patch(folder, steps, tmp_path / "p.json", *options).read_text())
    table = pd.DataFrame(content["patches"])
    frame = expected.frame()
    assert set(table["direction"]) == {"denoise"}
    assert set(table["metric"]) == {"log-prob"}
    assert set(frame["step"]) == {0, 1}
    for column in ("site", "layer", "head", "position", "step", "n"):
        ours, theirs = (pd.Series(x[column].astype("object")).tolist() for x in (table, frame))
        assert [None if pd.isna(x) else x for x in ours] == [
            None if pd.isna(x) else x for x in theirs
        ]
    ours = table["value"].astype(float)
    np.testing.assert_allclose(ours, frame["value"].astype(float), atol=1e-4)
    assert ours.abs().max() > 0.1
    clean = (expected.clean[:3].sum() + expected.clean[3:].mean()) / 4
    corrupted = (expected.corrupted[:3].sum() + expected.corrupted[3:].mean()) / 4
    assert content["clean"] == pytest.approx(clean, abs=1e-5)
    assert content["corrupted"] == pytest.approx(corrupted, abs=1e-5)


def test_chosen_sites_at_all_positions_and_steps(folder: Path, steps: Path, tmp_path: Path) -> None:
    options = ("--sites", "head, resid", "--direction", "noise", "--all-positions", "--all-steps")
    table = pd.read_csv(patch(folder, steps, tmp_path / "p.csv", *options))
    again = pd.read_parquet(patch(folder, steps, tmp_path / "p.parquet", *options))
    pd.testing.assert_frame_equal(
        table.astype(again.dtypes.to_dict()), again, check_exact=False, atol=1e-6
    )
    assert table[["position", "step"]].isna().all(axis=None)
    whole = table[(table["site"] == "resid") & (table["layer"] == 0)]
    np.testing.assert_allclose(whole["value"], 1, atol=1e-5)  # the whole input is replaced
    model, items = load_folder(folder / "model"), read_examples(steps)
    expected = patch_nodes(
        model, items, sites=("resid", "head"), direction="noise", by_position=False
    )
    np.testing.assert_allclose(
        table["value"], expected.frame(by_step=False)["value"].astype(float), atol=1e-4
    )


@pytest.mark.parametrize("through", THROUGH)
def test_paths_are_those_of_the_library(
    folder: Path, steps: Path, tmp_path: Path, through: str
) -> None:
    named = ("--senders", "input,a0.h1,m0", "--readers", "a1.h0<q>, a1.h2<v>")
    options = (*named, "--through", through, "--batch-size", 2)
    content = json.loads(patch(folder, steps, tmp_path / "p.json", *options).read_text())
    model, items = load_folder(folder / "model"), read_examples(steps)
    senders, readers = ("input", "a0.h1", "m0"), ("a1.h0<q>", "a1.h2<v>")
    expected = patch_paths(model, items, senders, readers, through=through)
    table = pd.DataFrame(content["paths"])
    assert table["sender"].tolist() == list(senders)
    assert set(table["readers"]) == {"a1.h0<q>+a1.h2<v>"}
    assert set(table["n"]) == {4}
    np.testing.assert_allclose(table["effect"], expected.effect.mean(1), atol=1e-5)
    np.testing.assert_allclose(table["value"], expected.normalised(), atol=1e-4)
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    assert (table["low"] < table["high"]).any()
    assert content["clean"] == pytest.approx(expected.clean.mean(), abs=1e-5)


def test_all_senders_and_senders_together(folder: Path, tmp_path: Path) -> None:
    examples = folder / "examples.json"
    every = ("--senders", "all", "--readers", "m1")
    one_by_one = pd.read_csv(patch(folder, examples, tmp_path / "p.csv", *every))
    assert one_by_one["sender"].tolist()[::4] == ["input", "a0.h3", "a1.h2"]
    assert len(one_by_one) == 1 + 4 + 1 + 4  # input, both layers' heads, the MLP between
    logits = ("--senders", "all", "--readers", "logits", "--together")
    together = pd.read_csv(patch(folder, examples, tmp_path / "t.csv", *logits))
    np.testing.assert_allclose(together["value"], [1], atol=1e-4)  # the corrupted run


def test_one_example_has_shares_without_intervals(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps([entry(0)]))
    options = ("--senders", "input", "--readers", "logits")
    table = pd.read_csv(patch(folder, tmp_path / "one.json", tmp_path / "p.csv", *options))
    assert table["value"].notna().all()
    assert table[["low", "high"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--sites", "resid,neuron"), ("Unknown site 'neuron'", "head")),
        (("--sites", "resid,,mlp"), ("--sites",)),
        (("--senders", "a0.h0"), ("--readers",)),
        (("--senders", "a0.h0", "--readers", ""), ("--readers",)),
        (("--readers", "logits"), ("--readers", "--senders")),
        (("--through", "mlps"), ("--through", "--senders")),
        (("--senders", "a0.h0", "--readers", "m1", "--sites", "mlp"), ("--sites", "--senders")),
        (("--senders", "m0", "--readers", "m1", "--all-positions"), ("--by-position",)),
        (("--out", "patches.xls"), ("'patches.xls'", ".parquet")),
        (("--out", "p.xls", "--senders", "m0", "--readers", "m1"), ("'p.xls'", ".parquet")),
    ],
)
def test_bad_options_are_said_before_the_model_is_read(
    tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    absent = tmp_path / "absent"
    out = () if "--out" in options else ("--out", "p.csv")
    assert_refused(call("patch", absent, absent, *out, *options), *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--senders", "a0.h9", "--readers", "logits"), ("Unknown sender 'a0.h9'", "4 heads")),
        (("--senders", "all", "--readers", "a1.h0"), ("Unknown reader 'a1.h0'",)),
        (("--senders", "m1", "--readers", "m0"), ("writes before",)),
        (("--senders", "m0", "--readers", "m1,logits"), ("alone",)),
    ],
)
def test_unknown_nodes(
    folder: Path, tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    given = (folder / "model", folder / "examples.json", "--out", tmp_path / "p.csv")
    assert_refused(call("patch", *given, *options), *words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("paths", [(), ("--senders", "m0", "--readers", "logits")])
def test_metrics_that_do_not_differ_have_nothing_to_patch(
    folder: Path, tmp_path: Path, paths: tuple[str, ...]
) -> None:
    before = entry(0, position=1)  # read before the corrupted token
    (tmp_path / "x.json").write_text(json.dumps([before] * 2))
    given = (folder / "model", tmp_path / "x.json", "--out", tmp_path / "p.csv")
    assert_refused(call("patch", *given, *paths), "same metric")


@pytest.mark.parametrize("paths", [(), ("--senders", "a0.h1", "--readers", "logits")])
def test_a_nan_keeps_the_table_of_the_examples_before(
    folder: Path, tmp_path: Path, paths: tuple[str, ...]
) -> None:
    (tmp_path / "x.json").write_text(json.dumps(POISONED))
    assert POISON in POISONED[2]["clean"]  # type: ignore[operator]
    out = tmp_path / "p.csv"
    given = ("patch", folder / "broken", tmp_path / "x.json", "--batch-size", 1, *paths)
    assert_refused(call(*given, "--out", out), "NaN", "3 examples", "p.partial.csv")
    assert not out.exists()
    kept = pd.read_csv(tmp_path / "p.partial.csv")
    assert (kept["n"] == 3).all()
    (tmp_path / "good.json").write_text(json.dumps([POISONED[i] for i in (0, 1, 3)]))
    table = pd.read_csv(patch(folder, tmp_path / "good.json", out, *paths))
    np.testing.assert_allclose(kept["value"], table["value"], atol=1e-4)
    assert not (tmp_path / "p.partial.csv").exists()  # the whole is there now


def test_an_interrupt_keeps_what_is_finished_too(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def interrupted(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return patch_nodes(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(patching_file, "patch_nodes", interrupted)
    given = ("patch", folder / "model", folder / "examples.json", "--batch-size", 1)
    result = CliRunner().invoke(app, [*map(str, given), "--out", str(tmp_path / "p.json")])
    assert result.exit_code != 0
    assert "2 examples finished before" in result.stderr
    assert len(json.loads((tmp_path / "p.partial.json").read_text())["patches"]) > 0


def test_help_states_shares_and_signs() -> None:
    text = " ".join(call("patch", "--help")[1].split())
    assert "(patched - base) / (other - base)" in text
    assert "positive = the corrupted path lowers the metric" in text
    for option in ("--sites", "--direction", "--all-positions", "--senders", "--readers"):
        assert option in text
