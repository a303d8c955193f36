"""What heads look at: of a real model, over trainings, in words and figures."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from mechshift_lib.analyses import Study, attention, attention_tables
from mechshift_lib.analyses.attention import PROMPT, READS, Look, Looks
from mechshift_lib.analyses.words import attention as words
from mechshift_lib.analyses.words.formatting import MISSING
from mechshift_lib.circuits.tracing.patterns import attention_patterns
from mechshift_lib.models.readout import Item
from mechshift_lib.plots.alt import alt_text
from mechshift_lib.plots.attention import plot_classes, plot_heads, plot_moved, plot_waiting
from mechshift_lib.semantics.attention import CLASSES, Told
from tests.support.study import make_pair

#: A MASK is 9; the read is the last 5, whose answer is 6.
IDS = (0, 5, 6, 7, 5, 9)


def looks(patterns: list[list[list[float]]], examples: int = attention.FEWEST) -> Looks:
    """Reads of one layer whose heads have these patterns, the same in every example."""
    told = Told(IDS, mask_id=9, decisive=(3,))
    made = {}
    for example, (position, pattern) in itertools.product(range(examples), enumerate(patterns)):
        length = len(pattern[0])
        classes = told.classes(4, (6,), (7,))[:, :length]
        seen = np.arange(length) < length
        ids = np.array(IDS[:length])
        made[position, example] = Look(example, 4, ids, np.array([pattern]), classes, seen)
    return Looks(made, list(made.values()))


ONE = [[0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0.2] * 5]
#: The first two heads have changed places and the first looks half at the MASK.
OTHER = [[0, 0, 0, 0.5, 0, 0.5], [0, 0, 1, 0, 0, 0], [0.2] * 5 + [0]]


def test_shares_of_classes_by_hand() -> None:
    table = looks([ONE]).heads()
    wide = table[table.queries == READS].pivot(index="head", columns="looked", values="mass")
    assert wide["answer"].tolist() == pytest.approx([1, 0, 0.2])
    assert wide["induction"].tolist() == pytest.approx([1, 0, 0.2])
    assert wide["previous"].tolist() == pytest.approx([0, 1, 0.2])
    assert wide["mask"].isna().all()
    alone = table[table.queries == READS].pivot(index="head", columns="looked", values="part")
    assert alone.sum(axis=1).tolist() == pytest.approx([1, 1, 1])
    assert alone["induction"].tolist() == [0, 0, 0]  # it is the answer first
    even = table[table.looked == "answer"].uniform
    assert even.tolist() == pytest.approx([0.2] * len(even))
    # A class that too few examples have has no share.
    assert looks([ONE], attention.FEWEST - 1).heads().mass.isna().all()


def test_a_head_has_kept_its_place_or_not() -> None:
    table = attention.compare(looks([ONE]), looks([OTHER]))
    assert table.whole.tolist() == pytest.approx([1, 1, 0])
    assert table.shared.tolist() == pytest.approx([1, 1, 0])
    assert table.nearest.tolist() == pytest.approx([0, 0, 0.8])  # another head of the ARM
    assert table.between.tolist() == pytest.approx([0.9, 0.9, 0.8])
    assert table.classes.tolist() == pytest.approx([1, 1, 0])
    assert table.n.tolist() == [attention.FEWEST] * 3
    found = attention_tables.distances(table.assign(task="ioi", seed=0, model="mdm")).iloc[0]
    assert found.kept == pytest.approx(1 / 3)
    assert found.chance == pytest.approx(1 / 3)
    same = attention.compare(looks([ONE]), looks([ONE]))
    assert same.whole.tolist() == same.shared.tolist() == same.classes.tolist() == [0, 0, 0]
    # Where both may look, it has stayed: only the MASK was added.
    half = [[x / 2 for x in row] + [0.5] for row in ONE]
    added = attention.compare(looks([ONE]), looks([half]))
    assert added.whole.tolist() == pytest.approx([0.5] * 3)
    assert added.shared.tolist() == pytest.approx([0] * 3)


def test_one_head_a_layer_has_no_others() -> None:
    table = attention.compare(looks([ONE[:1]]), looks([OTHER[:1]]))
    assert table.nearest.isna().all()
    found = attention_tables.distances(table.assign(task="ioi", seed=0, model="mdm")).iloc[0]
    assert np.isnan(found.kept)


def test_the_token_that_gets_most_is_named() -> None:
    class Model:
        class tokenizer:  # noqa: N801
            decode = staticmethod(lambda ids: f" t{ids[0]}")

    found = looks([ONE]).tokens(Model)  # type: ignore[arg-type]
    assert found.token.tolist() == ["t6", "t7", "t5"]  # 5 stands twice in the input
    assert found.share.tolist() == pytest.approx([1, 1, 0.4])


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Study:
    root = tmp_path_factory.mktemp("attention")
    name = make_pair(root, tasks=("ioi", "countdown"))
    return Study.open(name, "book", str(root / "results"), "all", root)


@pytest.fixture(scope="module")
def made(toy: Study) -> dict[str, pd.DataFrame]:
    return attention.tables(toy)


def test_tables_of_a_training_are_what_its_runs_say(toy: Study, made) -> None:
    heads = made["heads"]
    assert set(heads.model) == {"arm", "mdm", "continued"}
    parts = heads.groupby(["seed", "task", "model", "queries", "layer", "head"]).part.sum()
    assert parts.to_numpy() == pytest.approx(1)
    arm = heads[heads.model == "arm"]
    assert arm[arm.looked.isin(["right", "mask", "next", "later copy"])].mass.isna().all()
    assert (heads[(heads.model == "mdm") & (heads.looked == "right")].mass > 0).all()

    # Literally: what the previous token gets where IOI's answer is read, example by example.
    for role in ("arm", "mdm"):
        model, wanted = toy.model(role, 1), []
        for example in toy.examples("ioi", 1)[: toy.budget.circuit_examples]:
            [item] = model.readout.items(example, 0)
            pattern = attention_patterns(model, model_ids(item))[0]
            wanted.append(pattern[:, :, item.reads[0], item.reads[0] - 1].numpy())
        own = heads.query("model == @role and seed == 1 and task == 'ioi' and queries == 'reads'")
        found = own[own.looked == "previous"].mass.to_numpy()
        assert found == pytest.approx(np.mean(wanted, axis=0).ravel(), abs=1e-5)


def model_ids(item: Item) -> torch.Tensor:
    return torch.tensor([item.clean])


def test_batch_size_makes_no_difference(toy: Study) -> None:
    model, examples = toy.model("mdm", 0), toy.examples("countdown", 0)
    together, apart = (attention.look(model, examples, [0, 1, 2], n) for n in (16, 1))
    pd.testing.assert_frame_equal(together.heads(), apart.heads(), rtol=1e-4, atol=1e-5)
    pd.testing.assert_frame_equal(together.steps(), apart.steps(), rtol=1e-4, atol=1e-5)
    assert (attention.compare(together, apart).whole < 1e-4).all()


def test_masks_get_less_as_the_canvas_fills(made) -> None:
    found = attention_tables.waiting(made["steps"])
    assert set(found.model) == {"mdm"}
    assert set(found.task) == {"countdown"}  # IOI has one answer token
    even = found[found.seed == 0].sort_values("position").uniform
    assert even.is_monotonic_decreasing
    assert attention_tables.waiting(made["steps"][made["steps"].task == "ioi"]).empty


def test_words_and_figures_are_of_the_tables(made) -> None:
    shares = attention_tables.over_heads(made["heads"])
    assert list(dict.fromkeys(shares.looked)) == [x for x in CLASSES if x in set(shares.looked)]
    changes = attention_tables.changes(shares)
    row = changes.query("looked == 'right' and queries == 'prompt' and model == 'mdm'")
    mean = shares.query("looked == 'right' and queries == 'prompt' and model == 'mdm'").mass.mean()
    assert row.difference.tolist() == pytest.approx([mean] * len(row))  # the others see nothing
    said = words.classes(shares, attention_tables.shown(changes))
    assert f"{100 * mean:.0f} % of an MDM head's attention goes to the right" in said.said
    assert "2 trainings" in said.said
    assert len(said.table) == len(attention_tables.SHOWN) - (
        0 if "answer" in set(shares.looked) else 1
    )

    grid = attention_tables.shown_grid(made["heads"], 0)
    moved = attention_tables.distances(made["moved"])
    turned = attention_tables.turned(made, 0)
    assert turned.whole.is_monotonic_decreasing
    assert turned.control.notna().all()
    waiting = attention_tables.waiting(made["steps"])
    findings = [
        words.grid(grid, 0),
        words.moved(moved, attention_tables.over_trainings(moved)),
        words.kept(moved),
        words.turned(turned, 0, 3),
        words.waiting(waiting),
    ]
    assert all(MISSING not in f.said.replace("–", "-", f.said.count("n = ")) for f in findings)
    assert len(findings[3].table) == 3
    assert turned["head"][0] in findings[3].said
    figures = [
        plot_classes(shares),
        plot_heads(grid, 0),
        plot_moved(moved),
        plot_waiting(waiting),
    ]
    texts = [alt_text(figure) for figure in figures]
    assert len(set(texts)) == len(texts)
    # A map is of the table: the cell of layer 1, head 0 in the MDM's map of what is right.
    shown = grid.query("looked == 'right' and model == 'mdm' and layer == 1 and head == 0").mass
    [image] = [
        ax.images[0]
        for ax in figures[1].axes
        if ax.images and ax.get_title(loc="left") == "right, MDM"
    ]
    assert np.asarray(image.get_array())[1, 0] == pytest.approx(shown.item())


def test_a_pair_without_control_or_with_one_training_says_less(made) -> None:
    frames = {
        name: table[(table.seed == 0) & (table.model != "continued")]
        for name, table in made.items()
    }
    moved = attention_tables.distances(frames["moved"])
    finding = words.moved(moved, attention_tables.over_trainings(moved))
    assert f"into the control's, {MISSING}" in finding.said
    assert finding.table is None
    turned = words.turned(attention_tables.turned(frames, 0), 0, 3)
    assert f"(in the control {MISSING})" in turned.said
    shares = attention_tables.over_heads(frames["heads"])
    assert "one training" not in words.classes(shares, attention_tables.changes(shares)).said
    assert (
        "1 training, which decides nothing;"
        in words.classes(shares, attention_tables.changes(shares)).said
    )
    assert PROMPT in set(shares.queries)
