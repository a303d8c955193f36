"""Which cue wins: probabilities by hand, over trainings, in words and as a figure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from mechshift_lib.analyses import Study, cues
from mechshift_lib.analyses.words import cues as words
from mechshift_lib.errors import TaskError
from mechshift_lib.models.readout import NextToken, ShiftedMask, question
from mechshift_lib.plots.cues import place, plot_cues, plot_routes
from mechshift_lib.tasks.cues import Conflict
from tests.support.study import make_pair


@dataclass(frozen=True)
class Sure:
    """A model whose probability of token 3 is 3/4 where it is asked, of token 5 1/8, 6 1/8."""

    readout: object
    mask_id: int | None

    def logits(self, ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        out = torch.full((*ids.shape, 10), -torch.inf)
        out[..., [3, 5, 6]] = torch.tensor([0.75, 0.125, 0.125]).log()
        return out


def conflict(**changes: object) -> Conflict:
    values: dict[str, object] = {
        "example": 0, "kind": "target moved", "at": 2, "prompt": (1, 2), "revealed": {0: 4, 1: 4},
        "n_answer": 3, "listed": (3,), "targeted": (5, 6), "text": "",
        "numbers": (0,), "target": 1,
    }  # fmt: skip
    return Conflict(**(values | changes))  # type: ignore[arg-type]


def test_probabilities_of_what_each_cue_names() -> None:
    made = [
        conflict(),
        conflict(example=1, prompt=(1, 2, 2), listed=(5,), targeted=(3,)),
        conflict(kind="from the right", at=0, revealed={2: 4}),
    ]
    for model, n in ((Sure(NextToken(), None), 2), (Sure(ShiftedMask(9), 9), 3)):
        found = cues.probabilities(model, made, 4)  # type: ignore[arg-type]
        assert len(found) == n
        main = found[found.kind == "target moved"]
        assert main.listed.tolist() == pytest.approx([0.75, 0.125])
        assert main.targeted.tolist() == pytest.approx([0.25, 0.75])


def table(mdm: list[float], control: bool = True) -> pd.DataFrame:
    rows = []
    for seed, value in enumerate(mdm):
        listed = {"arm": 0.95, "mdm": value} | ({"continued": 0.94} if control else {})
        for model, p in listed.items():
            row = {"seed": seed, "model": model, "kind": "other target", "at": 4}
            rows.append(row | {"wins": 1.0, "listed": p, "targeted": 0.0, "n": 20 + seed})
            if model == "mdm":
                rows.append(rows[-1] | {"kind": "from the right", "at": 0, "listed": 0.2})
    return pd.DataFrame(rows)


def test_differences_are_over_trainings() -> None:
    found = cues.over_seeds(table([0.74, 0.76, 0.75])).set_index(["kind", "base"])
    row = found.loc[("other target", "arm")]
    assert row.difference == pytest.approx(-0.2)
    assert row.low < row.difference < row.high < 0
    assert row.n == 3
    assert found.loc[("other target", "continued")].difference == pytest.approx(-0.19)
    assert "from the right" not in found.index.get_level_values(0)  # nobody else can be asked
    one = cues.over_seeds(table([0.7]))
    assert np.isnan(one.low).all()


def test_the_finding_says_probabilities_differences_and_trainings() -> None:
    by_seed = table([0.7, 0.8, 0.75])
    found = words.finding(by_seed, cues.over_seeds(by_seed))
    assert "95 % in the ARM (the target's number 0 %)" in found.said
    assert "75 % in the MDM (the target's number 0 %)" in found.said
    assert "means over 3 trainings, n = 20–22" in found.said
    assert found.table is not None
    assert found.table.iloc[0, 2].startswith("-20 [")
    alone = table([0.7], control=False)
    found = words.finding(alone, cues.over_seeds(alone))
    assert "over 1 training, which decides nothing, n = 20" in found.said
    assert "continued" not in found.said
    assert found.table is not None
    assert found.table.iloc[0, 2] == "-25"
    nothing = by_seed[by_seed.kind != "other target"]
    assert "No example" in words.finding(nothing, cues.over_seeds(nothing)).said


def test_the_table_of_differences_has_no_bare_nan() -> None:
    shown = words.differences(cues.over_seeds(table([0.7])))
    assert not shown.astype(str).map(lambda x: x == "nan").any().any()
    assert shown.conflict.tolist() == ["other target, last number"] * 2


def test_the_figure_has_a_dot_for_every_training() -> None:
    fig = plot_cues(table([0.7, 0.8]))
    [ax] = fig.axes
    drawn = sorted(len(line.get_xdata()) for line in ax.lines)
    # Two conflicts: the first asked of three models, the second of the MDM alone.
    assert drawn == [1] * 4 + [2] * 4
    assert [t.get_text() for t in ax.get_yticklabels()] == [
        "other target,\nlast number",
        "from the right,\nfirst number",
    ]


def test_of_four_numbers_the_fourth_is_the_last() -> None:
    four = table([0.7, 0.8, 0.75]).replace({"at": {4: 6}})
    third = four[four.kind == "other target"].assign(kind="number swapped", at=4)
    by_seed = pd.concat([four, third], ignore_index=True)
    over = cues.over_seeds(by_seed)
    found = words.finding(by_seed, over)
    assert "75 % in the MDM" in found.said
    assert set(words.differences(over).conflict) == {
        "other target, last number", "number swapped, third number",
    }  # fmt: skip
    assert [place(at, 6) for at in (0, 2, 4, 6)] == [
        "first number", "second number", "third number", "last number",
    ]  # fmt: skip


def routes_table(mdm: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"seed": seed, "model": model, "cut": cut, "tokens": tokens, "n": 9}
            | {"change": value if tokens == "target" else 0.0}
            for seed, of_mdm in enumerate(mdm)
            for model, value in (("arm", 0.5), ("mdm", of_mdm))
            for cut in cues.CUTS
            for tokens in cues.TOKENS
        ]
    )


def test_routes_are_told_for_the_target_and_over_trainings() -> None:
    by_seed = routes_table([3.0, 5.0])
    over = cues.routes_over_seeds(by_seed).set_index(["cut", "tokens"])
    assert over.loc[("direct", "target")].difference == pytest.approx(3.5)
    assert over.loc[("any", "given numbers")].difference == 0
    found = words.routes(by_seed, cues.routes_over_seeds(by_seed))
    assert "gains +0.5 (ARM) and +4.0 (MDM)" in found.said
    assert "2 trainings, too few for an interval, n = 9 prompts" in found.said
    assert words.routes(by_seed.iloc[:0], over.reset_index()) == words.NONE
    [ax] = plot_routes(by_seed).axes
    assert len(ax.get_yticklabels()) == 6


def test_hiding_tokens_from_the_read_is_exact_in_a_real_model(tmp_path) -> None:
    """Against a run whose mask is written by hand, for an ARM and an MDM."""
    name = make_pair(tmp_path, tasks=("countdown",), budget={"cue_examples": 6})
    study = Study.open(name, "book", str(tmp_path / "results"), "all", tmp_path)
    only = replace(study, pair=study.pair.model_copy(update={"seeds": (0,)}))
    assert cues.obstacle(only) is None  # the first training is number 0, and one is enough
    made = [c for c in cues.conflicts_of(study, 0) if c.kind == cues.DECISIVE][:1]
    [one] = made
    for role in ("arm", "mdm"):
        model = study.model(role, 0)
        found = cues.cut_routes(model, made).set_index(["cut", "tokens"]).change
        asked = question(
            model.readout, model.mask_id, one.prompt, one.n_answer, one.revealed, one.at
        )
        assert asked is not None
        ids, read = asked
        values = []
        for cut in (False, True):
            seen = torch.ones(len(ids), len(ids), dtype=torch.bool)
            seen = seen.tril() if role == "arm" else seen
            seen[read, one.target] &= not cut
            mask = torch.zeros(1, 1, len(ids), len(ids)).masked_fill(~seen, -1e9)
            with torch.no_grad():
                row = model.hf(input_ids=torch.tensor([ids]), attention_mask=mask).logits[0, read]
            values.append(float(row[one.listed[0]] - row[one.targeted[0]]))
        assert found["direct", "target"] == pytest.approx(values[1] - values[0], abs=1e-4)
        assert found["any", "target"] != pytest.approx(found["direct", "target"], abs=1e-6)


def test_a_pair_that_is_not_asked_is_told_why(monkeypatch, tmp_path) -> None:
    name = make_pair(tmp_path, tasks=("ioi", "countdown"), seeds=(0,))
    study = Study.open(name, "book", str(tmp_path / "results"), "all", tmp_path)
    assert cues.obstacle(study) is None
    only = replace(study, pair=study.pair.model_copy(update={"tasks": ("ioi",)}))
    assert cues.obstacle(only) == "no task"

    def split(*_: object) -> None:
        raise TaskError("numbers are split")

    for part, instead, said in (
        ("conflicts", split, "split"),
        ("conflicts", lambda *_: [], "no conflict"),
        ("usable", lambda _: [], "not solved"),
    ):
        monkeypatch.setattr(cues, part, instead)
        assert cues.obstacle(study) == said
    assert set(words.NOT_ASKED) == {"no task", "not solved", "no conflict", "split"}
