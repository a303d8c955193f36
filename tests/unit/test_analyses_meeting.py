"""Place and meaning: by hand, of a model with itself, in words and figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mechshift_lib.analyses import Study, feature_tables, features, meeting
from mechshift_lib.analyses.scores import scores
from mechshift_lib.analyses.words import meeting as words
from mechshift_lib.plots.alt import alt_text
from mechshift_lib.plots.meeting import plot_components, plot_depth, plot_kept
from mechshift_lib.semantics.components import Unembedding, logits_of, written
from tests.support.study import make_pair

NAMES = ("a0.h0", "a0.h1", "m0", "a1.h0", "a1.h1", "m1")


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Study:
    root = tmp_path_factory.mktemp("meeting")
    name = make_pair(root, tasks=("ioi", "countdown"))
    return Study.open(name, "book", str(root / "results"), "all", root)


def by_hand() -> pd.DataFrame:
    """Two components at three positions; at the first all of the place goes over."""
    rows = []
    for position, own, other, cosine in (
        (0, (0.75, 0.25), (0.0, 1.0), (1.0, -1.0)),
        (1, (0.5, 0.5), (0.5, 0.5), (1.0, 0.5)),
        (2, (0.5, 0.5), (0.1, 0.9), (0.0, 0.0)),
    ):
        for i, name in enumerate(("a0.h0", "m0")):
            about = {"task": "countdown", "seed": 0, "model": "mdm", "component": name, "n": 9}
            numbers = {"own": own[i], "place": other[i], "meaning": cosine[i], "others": 0.1}
            rows.append(about | {"position": position, "kind": "x", "layer": 0} | numbers)
    return pd.DataFrame(rows)


def test_what_is_kept_is_weighed_by_place_and_positions_weigh_the_same():
    found = meeting.kept(by_hand()).set_index("part")
    first, later = found.loc[meeting.FIRST], found.loc[meeting.LATER]
    assert first.place == pytest.approx(0.25)
    assert first.meaning == pytest.approx(0.75 - 0.25)
    assert later.place == pytest.approx((1.0 + 0.6) / 2)
    assert later.meaning == pytest.approx((0.75 + 0.0) / 2)
    assert first.others == pytest.approx(0.1)
    shown = meeting.shown(by_hand(), 0)
    assert shown.left.tolist() == [0.0, 1.0]  # who does more than before has all of its place


@pytest.mark.parametrize(
    ("value", "depth"),
    [([0, 0, 1, 1, 1], 0.375), ([0, 1, 1, 1, 1], 0.125), ([0, 0.25, 0.5, 0.75, 1], 0.5)],
)
def test_half_of_the_way_is_found_between_layers(value, depth):
    at = np.linspace(0, 1, 5)
    assert meeting.half_way(at, np.array(value, dtype=float)) == pytest.approx(depth)
    # What falls passes its middle, too.
    assert meeting.half_way(at, 1 - np.array(value, dtype=float)) == pytest.approx(depth)


def test_places_of_a_circuit_sum_to_one_at_every_read(toy: Study):
    found = scores(toy, "countdown", "mdm", 1)
    shares = meeting.place(found)
    assert shares.shape == (len(found.reads), 6)
    np.testing.assert_allclose(shares.sum(1), 1)
    # Literally: each edge counts for whoever writes and whoever reads it.
    total = dict.fromkeys(found.edges.components, 0.0)
    size = np.abs(np.nanmean(found.by_read[0], axis=0, dtype=float))
    for name, value in zip(found.edges.names, size, strict=True):
        source, reader = name.split("->")
        for end in (source, reader.split("<")[0]):
            if end in total:
                total[end] += value
    literal = np.array([total[c] for c in found.edges.components])
    np.testing.assert_allclose(shares[0], literal / literal.sum())


def test_parts_stand_by_position_in_the_order_of_examples(toy: Study):
    model, examples = toy.model("mdm", 0), toy.examples("countdown", 0)
    items = [item for i in (2, 0) for item in model.readout.items(examples[i], i)]
    starts = {i: model.readout.read_position(len(examples[i].clean)) for i in (0, 2)}
    unembedding = Unembedding.of(model)
    found = meeting.parts(model, items, starts, unembedding, batch_size=2)
    assert len(found) > 1
    seen: dict[int, list[int]] = {}  # not every example has a read at every position
    for item in items:
        for read in item.reads:
            seen.setdefault(read - starts[item.example], []).append(item.example)
    assert {position: len(one) for position, one in found.items()} == {
        position: len(one) for position, one in seen.items()
    }
    for item in items:
        own = written(model, [item], unembedding)
        for read, one in zip(item.reads, own.parts, strict=True):
            position = read - starts[item.example]
            place = sorted(seen[position]).index(item.example)
            kept = found[position][place]
            torch.testing.assert_close(kept, one[1:-1], atol=1e-5, rtol=1e-4)


def test_the_table_says_what_each_component_writes_and_where_it_is(toy: Study):
    table = meeting.of_training(toy, "ioi", 0)
    assert list(dict.fromkeys(table.model)) == ["mdm", "continued"]
    assert table.component.tolist() == 2 * list(NAMES)
    assert table.meaning.between(-1.0001, 1.0001).all()
    # Less noise on the weights leaves more of everything.
    kept = meeting.kept(table.assign(task="ioi", seed=0)).set_index("model")
    assert kept.meaning["continued"] > kept.meaning["mdm"]
    # One component's cosine, from logits: the same prompt, asked of both models.
    rows = []
    for role in ("arm", "mdm"):
        model, unembedding = toy.model(role, 0), None
        unembedding = Unembedding.of(model)
        logits = []
        for i, example in enumerate(toy.examples("ioi", 0)[: toy.budget.circuit_examples]):
            [item] = model.readout.items(example, i)
            found = logits_of(written(model, [item], unembedding).parts, unembedding)[0, 3]
            logits.append(found - found.mean())
        rows.append(torch.cat(logits))
    cosine = float(rows[0] @ rows[1] / rows[0].norm() / rows[1].norm())
    own = table[(table.model == "mdm") & (table.component == NAMES[2])]
    assert own.meaning.item() == pytest.approx(cosine, abs=1e-4)


def test_a_model_keeps_all_of_its_own_place_and_meaning(toy: Study, monkeypatch):
    monkeypatch.setattr(meeting, "COMPARED", ("arm",))
    kept = meeting.kept(meeting.of_training(toy, "countdown", 1).assign(task="countdown", seed=1))
    assert kept.place.tolist() == pytest.approx([1.0] * len(kept))
    assert kept.meaning.tolist() == pytest.approx([1.0] * len(kept))
    assert (kept.others.abs() < 0.9).all()


def test_what_is_said_and_drawn(toy: Study):
    depth = meeting.by_depth(toy)
    assert set(depth.instrument) == set(meeting.INSTRUMENTS)
    assert set(depth.model) == {"arm", "mdm", "continued"}
    for name in ("circuit", "writing"):
        ends = depth[depth.instrument == name].groupby(["task", "seed", "model"]).value
        np.testing.assert_allclose(ends.first(), 0)
        np.testing.assert_allclose(ends.last(), 1)
    table = meeting.tables(toy)
    kept, over = meeting.kept(table), meeting.over_trainings(meeting.kept(table))
    assert set(over.part) == {meeting.FIRST, meeting.LATER}
    said = [
        words.depth(meeting.halves(depth)),
        words.place(kept, meeting.FIRST),
        words.meaning(kept, over, meeting.FIRST),
    ]
    for finding in said:
        assert "{" not in finding.said
        assert "nan" not in finding.said.lower()
        assert "IOI" in finding.said
        assert "Countdown" in finding.said
    mean = kept[(kept.part == meeting.FIRST) & (kept.model == "mdm") & (kept.task == "ioi")]
    assert f"{100 * mean.place.mean():.0f} % on IOI" in said[1].said
    assert f"{mean.meaning.mean():.2f} on IOI" in said[2].said
    assert f"{mean.others.mean():.2f} on IOI" in said[2].said
    whose = feature_tables.whose(features.tables(toy))
    told = words.features(whose).said
    shared = whose[(whose.start == 0) & (whose.name == "arm-continued")].shared.mean()
    assert f"{100 * shared:.0f} % by ARM and control" in told
    figures = [plot_depth(depth), plot_components(meeting.shown(table, 0)), plot_kept(kept)]
    assert len({alt_text(figure, "") for figure in figures}) == 3


def test_a_pair_that_solves_nothing_has_nothing_to_compare(tmp_path: Path):
    name = make_pair(tmp_path, tasks=("ioi",), seeds=(0,))
    study = Study.open(name, "book", str(tmp_path / "results"), "common-correct", tmp_path)
    assert meeting.asked(study) == []
