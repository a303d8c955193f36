"""Dictionaries of a pair: kept and found again, whose features are, what is said and drawn."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from mechshift_lib.analyses import Study, dictionaries, feature_tables, features
from mechshift_lib.analyses.words import features as words
from mechshift_lib.cli import app
from mechshift_lib.errors import ConfigError
from mechshift_lib.plots.features import plot_lost, plot_relative, plot_whose
from mechshift_lib.semantics.dictionary_measures import KINDS, ONLY
from tests.support.study import make_pair


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkout")
    make_pair(root, seeds=(0,), tasks=("ioi", "countdown"), budget={"dictionary_steps": 4})
    return Study.open("toy", results=str(root / "results"), pool="all", root=root)


def test_the_command_trains_what_is_missing_and_exports(study, monkeypatch, tmp_path):
    monkeypatch.setattr(Study, "open", lambda _name: study)
    trained, real = [], dictionaries.trained
    monkeypatch.setattr(dictionaries, "trained", lambda *a: trained.append(a[1:]) or real(*a))

    def call(*arguments):
        return CliRunner().invoke(app, ["dictionaries", "toy", *arguments])

    only = ["--name", "arm-continued", "--name", "mdm"]
    told = call(*only, "--saelens", str(tmp_path))
    assert told.exit_code == 0, told.output
    assert "2 dictionaries of toy are in data/dictionaries." in told.output
    # Of a crosscoder of the first training, another random start is measured too.
    assert trained == [("mdm", 0), ("arm-continued", 0), ("arm-continued", 0, 1)]
    again = dictionaries.shipped(study, "arm-continued", 0).about["again"]
    assert sum(again["counts"][kind] for kind in KINDS) == again["counts"]["live"]
    assert again["matching"] > again["chance"] > 0
    config = json.loads((tmp_path / "toy/seed0/mdm/cfg.json").read_text())
    assert config["metadata"]["hook_name"] == "model.layers.1"
    assert [path.name for path in (tmp_path / "toy/seed0").iterdir()] == ["mdm"]
    assert call(*only).exit_code == 0
    assert len(trained) == 3
    for wrong, sentence in (
        (["--name", "best"], "Unknown dictionary 'best'"),
        (["--seed", "7"], "seed"),
    ):
        told = call(*wrong)
        assert told.exit_code == 2
        assert sentence in told.output
    monkeypatch.setattr(dictionaries, "LARGEST", 100)
    told = call()
    assert told.exit_code == 2
    assert "too wide" in told.output
    assert features.tables(study) == {}


def test_a_dictionary_is_of_its_weights_and_settings_and_the_same_when_trained_anew(study):
    path = dictionaries.ship(study, "arm", 0)
    kept = dictionaries.dictionary_of(study, "arm", 0)
    assert torch.equal(kept.decoder, dictionaries.shipped(study, "arm", 0).decoder)
    path.unlink()
    assert dictionaries.shipped(study, "arm", 0) is None
    anew = dictionaries.dictionary_of(study, "arm", 0)  # of the store
    for name in dictionaries.TENSORS:
        assert torch.equal(getattr(anew, name), getattr(kept, name)), name
    dictionaries.ship(study, "arm", 0)
    longer = study.pair.budgets["book"].model_copy(update={"dictionary_steps": 5})
    other = replace(study, pair=study.pair.model_copy(update={"budgets": {"book": longer}}))
    assert dictionaries.shipped(other, "arm", 0) is None
    with pytest.raises(ConfigError, match="no dictionary 'arm-matched' of training 0: choose"):
        dictionaries.dictionary_of(study, "arm-matched", 0)


def test_no_text_is_both_trained_on_and_measured_on(study, monkeypatch):
    seen = []
    real = dictionaries.drawn_texts

    def noted(corpus, model, seed, part, texts, others=()):
        for batch in real(corpus, model, seed, part, texts, others):
            if part == "train":
                seen.extend(batch.whole())
            yield batch

    monkeypatch.setattr(dictionaries, "drawn_texts", noted)
    dictionaries.trained(study, "arm", 0)
    measured = {text for batch in dictionaries.held_out(study, 0) for text in batch.whole()}
    assert len(seen) > 60
    assert not measured & set(seen)


def listed(sizes, kind):
    return pd.DataFrame(
        {"feature": range(len(sizes)), "kind": kind, "size": sizes, "confirmed": True}
    )


def test_stand_ins_are_of_the_same_size_and_of_both_models():
    own, shared = KINDS[-1], KINDS[2]
    table = listed(np.r_[np.linspace(1, 2, 40), 1.02, 1.98, 1.5], [shared] * 40 + [own] * 3)
    table.loc[42, "confirmed"] = False
    assert features.chosen(table) == [41, 40]
    for seed in range(5):
        large, small = features.stand_ins(table, [41, 40], np.random.default_rng(seed))
        assert large != small
        assert 30 <= large < 40
        assert 0 <= small < 11
    assert features.stand_ins(table[40:], [41], np.random.default_rng(0)) == []


def counted(name, seed, other, start=0):
    found = dict.fromkeys([*KINDS, "confirmed first", "confirmed second"], 0)
    found |= {KINDS[2]: 200 - other, KINDS[-1]: other, "confirmed second": other // 2}
    return [
        {"name": name, "seed": seed, "start": start, "kind": k, "count": v, "live": 200}
        for k, v in found.items()
    ]


def made(seeds=3):
    size = {"arm-mdm": 20, "arm-mdm-masked": 40, "arm-continued": 4, "arm-matched": 10}
    rows = [counted(n, s, k + 2 * s) for (n, k), s in itertools.product(size.items(), range(seeds))]
    rows.append(counted("arm-mdm", 0, 24, start=1))
    return {"counts": pd.DataFrame(list(itertools.chain(*rows)))}


def test_whose_features_are_by_hand_and_over_trainings():
    table = feature_tables.whose(made())
    first = table[(table.start == 0) & (table.seed == 0)]
    assert first.name.tolist() == list(dictionaries.CROSSCODERS)
    assert first.model.tolist() == ["mdm", "mdm", "continued", "matched"]
    assert first.other.tolist() == pytest.approx([0.1, 0.2, 0.02, 0.05])
    assert first.other_confirmed.tolist() == pytest.approx([0.05, 0.1, 0.01, 0.025])
    assert first.shared.tolist() == pytest.approx([0.9, 0.8, 0.98, 0.95])
    over = feature_tables.over_trainings(table)
    one = over[(over.reading == "other") & (over.base == "arm-continued")].set_index("model")
    assert one.difference["arm-mdm"] == pytest.approx(0.08)
    assert one.low["arm-mdm"] == pytest.approx(0.08)
    assert one.n.tolist() == [3, 3]
    found = words.whose(table, over)
    assert "89 % (ARM and MDM, whole texts)" in found.said
    assert (
        "are 5.5 % on whole texts and 10.5 % with masks; of the continued ARM only, 1.5 % ("
        in found.said
    )
    assert "3 trainings; 200 live features each" in found.said
    assert "no continued-training control" not in found.said
    assert len(found.table) == 12
    few = table[table.name != "arm-continued"]
    assert "no continued-training control" in words.whose(few, over).said
    numbers = {"name": "arm-mdm", "matching": 0.8, "chance": 0.3, "relative": 0.9, "seed": 0}
    second = words.again(pd.DataFrame([numbers]), table)
    assert "mean cosine of 0.80 (random ones: 0.30), and" in second.said
    assert second.table["the other only (%)"].tolist() == ["10.0", "12.0"]
    assert words.again(pd.DataFrame([numbers])[:0], table) is None
    labels = [
        text.get_text() for text in plot_whose(table[table.start == 0]).axes[0].get_yticklabels()
    ]
    assert len(labels) == 6


def test_relative_norms_are_lines_of_every_training():
    rng = np.random.default_rng(0)
    rows = [
        {"name": name, "seed": seed, "relative": x}
        for name in ("arm-mdm", "arm-continued")
        for seed in (0, 1)
        for x in rng.random(50)
    ]
    shown = [ax for ax in plot_relative(pd.DataFrame(rows), ONLY).axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in shown] == ["MDM, whole texts", "continued ARM"]
    for ax in shown:
        stairs = [p for p in ax.patches if hasattr(p, "get_data")]
        assert len(stairs) == 2
        assert sum(stairs[0].get_data().values) == pytest.approx(1)


def test_what_is_lost_is_against_the_whole_and_beside_others():
    rows = [
        {"task": "ioi", "seed": 0, "what": what, "feature": f, "difference": x}
        for what, f, x in (
            ("all", -1, 5.0),
            (features.TOGETHER, -1, 2.0),
            (features.OTHERS, -1, 4.0),
            (features.OTHERS, -1, 4.5),
            (features.ALONE, 7, 4.9),
            (features.OTHER, 8, 5.0),
        )
    ]
    table = pd.DataFrame(rows).assign(features=3, n=24)
    lost = feature_tables.lost(table).set_index("what")
    assert lost.lost.to_dict() == pytest.approx({features.TOGETHER: 3.0, features.OTHERS: 0.75})
    assert (lost.low[features.OTHERS], lost.high[features.OTHERS]) == pytest.approx((0.5, 1.0))
    single = feature_tables.alone(table, 0)
    assert single.ioi.tolist() == pytest.approx([0.1, 0.0])
    told = words.lost(lost.reset_index(), single, ["ioi"])
    assert (
        "in logits, by 3.00 on IOI; without as many others of the same size, by 0.75" in told.said
    )
    assert told.table["whose"].tolist() == ["MDM only", "both models'"]
    [ax] = plot_lost(lost.reset_index()).axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["IOI"]


def test_cards_say_where_a_feature_is_active(study):
    found = features.tables(study)
    cards = feature_tables.cards(found, 0)
    assert cards.relative.is_monotonic_decreasing
    assert set(cards.feature) == set(found["cards"].feature)
    one = cards[cards.contexts != ""].iloc[0]
    assert all("⟦" in context for context in one.contexts.split(" | "))
    assert cards[["ioi", "countdown"]].max().max() > 0
    told = words.cards(cards, 10, 0, ["ioi", "countdown"])
    assert len(told.table) == 10
    assert f"of {len(cards)} live ones" in told.said
    quality = found["quality"]
    assert quality[(quality.name == "arm-mdm") & (quality.model == "mdm")].recovered.isna().all()
    assert "predicted tokens" in words.quality(quality).said
