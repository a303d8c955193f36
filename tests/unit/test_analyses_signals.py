"""Name against place at IOI's repeated name: donors by hand, shares, trainings and words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mechshift_lib.analyses import Study, signals
from mechshift_lib.analyses.words import cues as words
from mechshift_lib.errors import TaskError
from mechshift_lib.plots.cues import plot_signals
from mechshift_lib.tasks import Countdown, Ioi
from mechshift_lib.tasks.signals import SIGNALS, interchanges
from mechshift_lib.tasks.tokenizer import build_word_tokenizer
from tests.support.study import make_pair

TOKENIZER = build_word_tokenizer()
EXAMPLES = Ioi().examples(TOKENIZER, 20, 1)


@pytest.mark.parametrize("example", EXAMPLES[:6], ids=lambda e: e.info["order"])
def test_a_donor_changes_one_of_the_two(example) -> None:
    found = {one.signal: one for one in interchanges(TOKENIZER, example, 0)}
    assert set(found) == set(SIGNALS)
    io, subject = (TOKENIZER(f" {example.info[k]}")["input_ids"][-1] for k in ("io", "s"))
    for signal, one in found.items():
        assert one.base == example.clean
        assert one.base[one.at] == subject
        assert one.donor[one.at] == (io if signal == "name" else subject)
        first = {ids: [i for i, t in enumerate(ids[: one.at]) if t == ids[one.at]] for ids in
                 (one.base, one.donor)}  # fmt: skip
        assert len(first[one.base]) == len(first[one.donor]) == 1
        assert (first[one.base] == first[one.donor]) == (signal == "name")


def test_only_ioi_has_a_name_and_a_place() -> None:
    example = Countdown().examples(TOKENIZER, 1, 0)[0]
    with pytest.raises(TaskError, match="told apart in IOI"):
        interchanges(TOKENIZER, example, 0)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    root = tmp_path_factory.mktemp("pair")
    name = make_pair(root, tasks=("ioi",), budget={"signal_examples": 3})
    return Study.open(name, "book", str(root / "results"), "all", root)


def test_replacing_the_word_itself_and_nothing_behind_the_last_layer_switches(study) -> None:
    table = signals.by_seed(study)
    assert set(table.model) == {"arm", "mdm", "continued"}
    assert (table.n == 3).all()
    first, last = table.layer == 0, table.layer == table.layer.max()
    same_word = table[first & (table.signal == "place")].switched
    np.testing.assert_allclose(same_word, 0, atol=1e-5)  # the donor has the same word there
    np.testing.assert_allclose(table[last].switched, 0, atol=1e-5)  # nothing reads it any more
    model = study.model("arm", 0)
    examples = study.examples("ioi", 0)
    for one in interchanges(model.tokenizer, examples[0], 0):
        if one.signal == "name":  # by hand: another word in the prompt, everything else the same
            ids = np.array(one.base)
            ids[one.at] = one.donor[one.at]
            by_hand = measured_by_hand(model, examples[0], tuple(int(i) for i in ids))
            found = signals.measured(model, [(one, examples[0])])
            assert found[found.layer == 0].switched.item() == pytest.approx(by_hand, rel=1e-3)


def measured_by_hand(model, example, other) -> float:
    import torch

    read = model.readout.read_position(len(example.clean))
    both = model.logits(torch.tensor([example.clean, other]))[:, read]
    right, wrong = (ids[0][0] for ids in (example.answers, example.distractors))
    clean, changed = (both[:, right] - both[:, wrong]).tolist()
    return (clean - changed) / (2 * clean)


def table(mdm: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"seed": seed, "model": model, "signal": signal, "layer": layer, "n": 7}
            | {"switched": value * (1 if signal == "name" else 0.5) * layer}
            for seed, of_mdm in enumerate(mdm)
            for model, value in (("arm", 0.2), ("continued", 0.3), ("mdm", of_mdm))
            for signal in SIGNALS
            for layer in (0, 2)
        ]
    )


def test_differences_are_of_the_mean_over_layers_and_over_trainings() -> None:
    found = signals.over_seeds(table([0.4, 0.6, 0.5])).set_index(["signal", "base"])
    row = found.loc[("name", "arm")]
    assert row.difference == pytest.approx(0.3)
    assert 0 < row.low < 0.3 < row.high
    assert row.n == 3
    assert found.loc[("place", "continued")].difference == pytest.approx(0.1)
    assert np.isnan(signals.over_seeds(table([0.4])).low).all()


def test_words_and_figure_say_shares_of_every_model() -> None:
    by_seed = table([0.4, 0.6])
    found = words.signals(by_seed, signals.over_seeds(by_seed))
    assert "another place switches 10 % (ARM), 15 % (continued ARM) and 25 % (MDM)" in found.said
    assert "another name 20 % (ARM)" in found.said
    assert "2 trainings, too few for an interval, n = 7 prompts" in found.said
    fig = plot_signals(by_seed)
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["another name", "another place"]
    assert [len(ax.lines) for ax in fig.axes] == [9, 9]  # two trainings and a mean of three models
