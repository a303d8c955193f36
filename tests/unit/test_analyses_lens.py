"""Depths by hand, mask states, shipped lenses, and what is said and drawn of them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from mechshift_lib.analyses import Study, lens, lens_tables, lenses
from mechshift_lib.analyses.words import lens as words
from mechshift_lib.cli import app
from mechshift_lib.errors import ModelError
from mechshift_lib.models.readout import ShiftedMask
from mechshift_lib.plots.lens import plot_depth, plot_emergence, plot_grid, plot_quality, plot_steps
from mechshift_lib.results.store import Store
from mechshift_lib.tasks import Example
from tests.support.study import make_pair
from tests.unit.test_semantics_lens import tiny


def test_depths_of_an_answer_by_hand():
    rank = np.array([[3, 0, 1, 0, 0], [0, 0, 0, 0, 0], [5, 4, 3, 2, 1], [9, 8, 7, 6, 0]])
    share = np.array(
        [[0, 0.3, 0.1, 0.4, 0.6], [0.1, 0.2, 0.3, 0.4, 0.9], [0, 0, 0, 0.1, 0.2], [0, 0, 0, 0, 1]]
    )
    found = lens_tables.emergence(rank, share)
    np.testing.assert_array_equal(found["first"], [0.25, 0, np.nan, 1])
    np.testing.assert_array_equal(found["settled"], [0.75, 0, np.nan, 1])
    np.testing.assert_array_equal(found["half"], [0.25, 1, 0.75, 1])
    np.testing.assert_array_equal(found["reached"], [1, 1, 0, 1])


def asked(scored=(0, 2)):
    wrong = tuple(8 if i in scored else 5 + i for i in range(3))
    return Example(
        "countdown", (1, 2), (1, 3), (5, 6, 7), wrong, ((5,), (6,), (7,)), ((8,), (8,), (8,))
    )


def test_an_mdm_is_asked_for_every_token_under_every_mask_state():
    model = tiny("qwen2", "full", ShiftedMask(39))
    items, tokens = lens.questions(model, [asked()], [0])
    assert tokens == [(0, 2), (2,), (2,)]
    assert [item.clean for item in items] == [
        (1, 2, 39, 39, 39),
        (1, 2, 5, 39, 39),
        (1, 2, 5, 6, 39),
    ]
    assert [item.reads for item in items] == [(1, 3), (3,), (3,)]
    assert [item.answers for item in items] == [((5,), (7,)), ((7,),), ((7,),)]
    items, tokens = lens.questions(tiny(), [asked()], [0])
    assert tokens == [(0, 2)]
    assert items[0].clean == (1, 2, 5, 6)
    assert items[0].reads == (1, 3)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkout")
    make_pair(root, seeds=(0,), tasks=("ioi", "countdown"))
    return Study.open("toy", results=str(root / "results"), pool="all", root=root)


def test_the_next_token_at_the_output_is_what_the_model_says_of_it(study):
    for role in ("arm", "mdm"):
        table = lens.readings(study, "countdown", role, 0)
        output = table[(table.layer == table.n_layers) & (table["read"] == "tuned")]
        model = study.model(role, 0)
        examples = study.examples("countdown", 0)
        for one in output[output.step == output.token].itertuples():
            example = examples[one.example]
            rest = len(example.answer) - one.token
            masks = () if model.mask_id is None else (model.mask_id,) * rest
            ids = example.clean + example.answer[: one.token] + masks
            place = len(example.clean) + one.token - 1
            p = model.logits(torch.tensor([ids]))[0, place].softmax(-1)
            assert one.probability == pytest.approx(float(p[example.answer[one.token]]), abs=1e-5)
        assert (table.step == table.token).all() == (role == "arm")


def test_tables_average_tokens_then_examples(study):
    table = lens.readings(study, "countdown", "arm", 0)
    layers = lens_tables.by_layer(study)
    one = layers[(layers.task == "countdown") & (layers.model == "arm")]
    one = one[(one["read"] == "tuned") & (one.layer == 1)].iloc[0]
    own = table[(table["read"] == "tuned") & (table.layer == 1)]
    means = [part.probability.mean() for _, part in own.groupby("example")]
    assert one.probability == pytest.approx(np.mean(means))
    assert one.low <= one.probability <= one.high
    assert one.n == len(means)
    assert one.depth == 0.5
    depths = lens_tables.depths(study)
    assert set(depths.task) == {"ioi", "countdown"}
    assert (depths.half.between(0, 1)).all()
    steps = lens_tables.steps(study)
    assert set(steps.task) == {"countdown"}
    assert (steps.step <= steps.token).all()


def test_a_lens_that_ships_is_used_as_long_as_it_is_of_these_weights(study, tmp_path, monkeypatch):
    assert lenses.shipped(study, "arm", 0) is None
    stored = lenses.lens_of(study, "arm", 0)
    path = lenses.ship(study, "arm", 0)
    assert path == study.root / "data" / "lenses" / "toy" / "seed0" / "arm.safetensors"
    monkeypatch.setattr(lenses, "train_lens", None)  # nothing is trained again
    fresh = replace(study, store=Store(tmp_path))
    kept = lenses.lens_of(fresh, "arm", 0)
    assert torch.equal(kept.weight, stored.weight)
    assert torch.equal(kept.bias, stored.bias)
    assert kept.about["made"]["seed"] == 0
    for name, other in (("model", "0"), ("settings", {}), ("texts", {}), ("role", "mdm")):
        real = lenses.identity(study, "arm", 0)
        monkeypatch.setattr(
            lenses, "identity", lambda *_, real=real, name=name, other=other: real | {name: other}
        )
        assert lenses.shipped(study, "arm", 0) is None
        monkeypatch.undo()
    whole = path.read_bytes()
    path.write_bytes(whole[:60])
    with pytest.raises(ModelError, match="damaged"):
        lenses.shipped(study, "arm", 0)
    path.write_bytes(whole)
    monkeypatch.setattr(lenses, "LARGEST", 100)
    assert lenses.lens_of(fresh, "continued", 0) is None
    assert "too large" in words.lenses(lens_tables.quality(study).iloc[:0]).said


def test_the_command_trains_what_is_missing(study, monkeypatch):
    monkeypatch.setattr(Study, "open", lambda _name: study)
    trained = []
    real = lenses.ship
    monkeypatch.setattr(lenses, "ship", lambda *a: trained.append(a[1]) or real(*a))
    told = CliRunner().invoke(app, ["lens", "toy", "--model", "mdm"])
    assert told.exit_code == 0, told.output
    assert "1 lenses of toy are in data/lenses." in told.output
    assert CliRunner().invoke(app, ["lens", "toy", "--model", "mdm"]).exit_code == 0
    assert trained == ["mdm"]
    assert CliRunner().invoke(app, ["lens", "toy", "--model", "mdm", "--again"]).exit_code == 0
    assert trained == ["mdm", "mdm"]
    for wrong, sentence in ((["--model", "best"], "Unknown model"), (["--seed", "7"], "seed")):
        told = CliRunner().invoke(app, ["lens", "toy", *wrong])
        assert told.exit_code == 2
        assert sentence in told.output
    monkeypatch.setattr(lenses, "LARGEST", 100)
    told = CliRunner().invoke(app, ["lens", "toy"])
    assert told.exit_code == 2
    assert "too large" in told.output


def depths_table(mdm, reads=("tuned", "logit")):
    return pd.DataFrame(
        [
            {"task": "ioi", "seed": seed, "model": model, "read": read, "reached": 0.9, "n": 60}
            | {f"{e}{end}": value for e in lens_tables.EMERGENCES for end in ("", "_low", "_high")}
            for seed, of_mdm in enumerate(mdm)
            for model, value in (("arm", 0.5), ("mdm", of_mdm))
            for read in reads
        ]
    )


def test_depths_are_compared_over_trainings_and_told():
    table = depths_table([0.6, 0.7, 0.65])
    over = lens_tables.over_seeds(table)
    assert set(zip(over.model, over.base, strict=True)) == {("mdm", "arm")}
    assert over.difference.tolist() == pytest.approx([0.15] * 6)
    assert over["read"].tolist() == ["tuned"] * 3 + ["logit"] * 3
    assert (over.low > 0).all()
    assert np.isnan(lens_tables.over_seeds(depths_table([0.6])).low).all()
    said = words.differences(over).said
    assert "+0.15 (MDM − ARM, tuned lens) and +0.15 (MDM − ARM, logit lens)" in said
    assert "3 trainings" in said
    own = table[table["read"] == "tuned"]
    found = words.emergence(own)
    assert "0.50 on IOI in the ARM; 0.65 on IOI in the MDM" in found.said
    assert len(found.table) == 6
    [ax] = plot_emergence(own).axes
    assert len(ax.get_yticklabels()) == 2


def test_the_grid_prints_tokens_and_frames_right_ones():
    rows = [
        {"model": m, "layer": k, "position": p, "input": f"in{p}", "token": f"t{k}{p}"}
        | {"read": "tuned", "probability": 0.5}
        | {"wanted": "yes" if p == 7 else "", "right": (k, p) == (2, 7)}
        for m in ("arm", "mdm") for k in range(4) for p in (6, 7)
    ]  # fmt: skip
    fig = plot_grid(pd.DataFrame(rows), "ioi")
    for ax in fig.axes:
        assert {t.get_text() for t in ax.texts} == {f"t{k}{p}" for k in range(4) for p in (6, 7)}
        assert [t.get_text() for t in ax.get_xticklabels()] == ["in6", "in7"]
        [frame] = ax.patches
        assert (frame.get_x() + 0.48, frame.get_y() + 0.46) == pytest.approx((1, 2))
    said = words.grid(pd.DataFrame(rows), "ioi").said
    assert "from layer 2 at 1 of 1 answer positions of the ARM and from layer 2" in said


def test_curves_are_drawn_for_every_training_and_their_mean():
    rows = [
        {"task": "ioi", "seed": s, "model": m, "read": "tuned", "layer": k, "depth": k / 2, "n": 50}
        | {"probability": 0.1 * k + s, "distractor": 0.1, "rank": 2.0, "entropy": 1.0}
        for s in (0, 1) for m in ("arm", "mdm") for k in range(3)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    [ax] = plot_depth(table, "probability").axes
    assert len(ax.lines) == 2 * 2 * 3  # two models; answer and distractor; two trainings, a mean
    means = [line.get_ydata() for line in ax.lines if line.get_linewidth() > 1]
    assert any(np.allclose(y, [0.5, 0.6, 0.7]) for y in means)
    assert "of 0.70 in the ARM and 0.70 in the MDM (means over tasks" in words.output(table).said
    assert (
        "is 0.60 (ARM, tuned lens) and 0.60 (MDM, tuned lens)"
        in words.reads(table.assign(top=table.probability)).said
    )
    assert "is 1.00 in the ARM and 1.00 in the MDM" in words.halfway(table, "entropy").said
    two = pd.concat([table, table.assign(task="countdown", rank=9.0)])
    assert "number 9 in the ARM and 9 in the MDM (means over 2" in words.halfway(two, "rank").said
    kl = table.assign(kl=1.0, used=True)
    assert plot_quality(kl).axes[0].get_yscale() == "log"


def test_mask_states_are_cells_with_their_numbers():
    table = pd.DataFrame(
        [
            {"task": "countdown", "token": t, "step": s, "layer": k, "n": 50, "trainings": 2}
            | {"probability": 0.1 * (s + 1) + 0.05 * t + 0.01 * k}
            for t in (0, 2) for s in range(t + 1) for k in range(2)
        ]
    )  # fmt: skip
    one, two = plot_steps(table, "countdown").axes
    assert {t.get_text() for t in one.texts} == {"10", "11"}
    assert {t.get_text() for t in two.texts} == {"20", "21", "30", "31", "40", "41"}
    said = words.steps(table, "countdown").said
    assert "token 3 a probability of 0.21, with all before it written 0.41" in said
