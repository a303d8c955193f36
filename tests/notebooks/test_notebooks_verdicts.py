"""One judge: on studies of every outcome, pages say of a claim what was decided and no more."""

import nbformat
import numpy as np
import pandas as pd
import pytest

from mechshift_lib.analyses import (
    Study,
    ablation,
    components,
    neuron_tables,
    neurons,
    page,
    shift,
    verdicts,
)
from mechshift_lib.analyses.words.verdicts import sentence
from mechshift_lib.book.generated import ANSWER, GAPS, GRID, from_verdicts, overview_page
from mechshift_lib.book.questions import question_page
from mechshift_lib.comparison.verdicts import OUTCOMES
from mechshift_lib.config import ANALYSES, ROOT, load_pair
from mechshift_lib.workflow import book_pages
from tests.support.claims import JUDGED, contradictions, judgements
from tests.support.notebooks import read, run, said

TITLES = {"toy": "Toy"}
#: Outcome -> effects of C1 to C4 and C6 against their first yardstick and against the control.
EFFECTS = {
    "reproduced": (0.3, 0.2),
    "not reproduced": (0.2, -0.3),
    "reversed": (-0.3, -0.2),
    "undecided": (0.3, 0.01),
}
#: Pages of all pairs that say verdicts.
OF_ALL = ("verdicts", "outlook")


def made_up(study, outcome, monkeypatch):
    """Have the analyses find what leads to an outcome; tables and columns stay as they are."""
    first, beyond = EFFECTS[outcome]
    cut = ablation.tables(study)
    # Of the MDM; what is `beyond` the control's in the MDM is so no further away, too.
    sizes = {"arm": 0.0, "mdm": first, "continued": first - beyond, "matched": first}
    trainings = [
        {"task": task, "seed": seed, "circuit": circuit, "count": 50, "n": 20}
        | {"size": size + (seed - 2) * (0 if circuit in ("arm", "continued") else 0.02)}
        for task in study.pair.tasks
        for seed in range(5)
        for circuit, size in sizes.items()
    ]
    rows = pd.DataFrame(trainings)
    alike = rows[rows.circuit != "arm"]
    value = 0.5 + alike["size"].where(alike.task == "ioi", 0.0)
    likeness = alike.assign(cosine=value, jaccard=value, read=shift.ALL)
    likeness = pd.concat([likeness, likeness.assign(read="0")])
    depths = pd.concat(
        rows.assign(edges=edges, depth=0.5 - rows["size"]) for edges in (shift.WITH, shift.WITHOUT)
    )

    lost = [
        (task, seed, model, ablated, "random", size + (0 if model == "continued" else jitter))
        for task in ablation.TASKS
        for seed, jitter in enumerate((-0.02, -0.01, 0.0, 0.01, 0.02))
        for model, size in sizes.items()
        for ablated in ("zero", "mean")
    ]
    more = pd.DataFrame(
        lost, columns=["task", "seed", "model", "ablation", "against", "more"]
    ).assign(n=100)
    cut |= {"more": more, "contrasts": ablation.contrasts(more)}
    written = components.tables(study)
    same = written["spread"].iloc[[0]].drop(columns=["task", "seed", "model", "directions"])
    spread = pd.concat(
        same.assign(task=r.task, seed=r.seed, model=r.circuit, directions=directions).assign(
            participation_free=0.5 + r.size_, tokens=0.5 + r.size_
        )
        for r in rows.rename(columns={"size": "size_"}).itertuples()
        for directions in (components.OWN, components.RANDOM)
    )
    written = written | {"spread": spread}
    explained = neuron_tables.judged(neuron_tables.measured(neurons.tables(study))).iloc[[0]]
    explained = pd.concat(
        # Its margin is twice that of the others, and so is everything else.
        explained.assign(seed=r.seed, model=r.circuit, m=9).assign(
            distinct=np.exp(2 * r.size_), relative=np.exp(-2 * r.size_)
        )
        for r in rows[rows.task == "ioi"].rename(columns={"size": "size_"}).itertuples()
    )
    monkeypatch.setattr(neuron_tables, "measured", lambda _: explained)
    monkeypatch.setattr(components, "tables", lambda _: written)
    monkeypatch.setattr(shift, "likeness", lambda _: likeness)
    monkeypatch.setattr(shift, "depths", lambda _: depths)
    monkeypatch.setattr(ablation, "tables", lambda _: cut)


def book_of(monkeypatch, root, outputs, folder):
    """What the pages of a book of the pair say: chapters, verdicts, and the generated pages."""
    monkeypatch.setattr(page, "show", lambda *_: None)  # figures take the time
    pages = {}
    pair = load_pair("toy", root)
    for name in (*JUDGED, *OF_ALL):
        inside = "" if name in OF_ALL else "toy/"
        notebook = run(name, monkeypatch, root, outputs=outputs)
        path = folder / f"{inside}{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, path)
        pages[f"{inside}{name}"] = said(outputs)
        outputs.clear()
        if inside:
            question = question_page(name, [(pair, notebook)])
            # Sentences stand behind the name of the pair that they are about.
            pages[f"toy/question-{name}"] = question.replace(f"**{pair.title}.** ", "")
    pages["toy/overview"] = overview_page(folder, pair, root)
    pages["index"] = from_verdicts(folder, GRID)
    pages["answer"] = from_verdicts(folder, ANSWER)
    pages["limits"] = from_verdicts(folder, GAPS)
    return pages


@pytest.fixture
def study(whole, monkeypatch):
    """The pair with everything; the page of verdicts takes all of its examples too."""
    opened = Study.open

    def with_all(pair, budget, results, pool="all", root=whole):
        return opened(pair, budget, results, pool, root)

    monkeypatch.setattr(Study, "open", with_all)
    return Study.open("toy", "book", str(whole / "results"))


@pytest.mark.parametrize("outcome", EFFECTS)
def test_no_two_pages_say_different_things(outcome, study, whole, shown, monkeypatch, tmp_path):
    made_up(study, outcome, monkeypatch)
    decided = verdicts.judged(study)
    found = {v.outcome for v in decided if v.claim in ("C1", "C2", "C3", "C4", "C6")}
    assert found == {outcome}
    pages = book_of(monkeypatch, whole, shown, tmp_path)
    assert contradictions(pages, decided, TITLES) == []
    for name, claims in JUDGED.items():
        for claim in claims:
            for verdict in verdicts.of(study, claim):
                assert sentence(verdict) in pages[f"toy/{name}"].splitlines()
                assert sentence(verdict) in pages["toy/overview"].splitlines()
                assert sentence(verdict) in pages[f"toy/question-{name}"].splitlines()
    assert outcome in pages["index"]
    for verdict in decided:
        assert f"| {sentence(verdict)} |" in pages["outlook"]
    planted = {
        "toy/circuits": "**C1 is reproduced on this pair.**",
        "toy/overview": sentence(decided[0]).replace(outcome, "not measured"),
        "index": pages["index"].replace(f"{outcome}</span>", "not measured</span>", 1),
        "toy/figure": "A dot plot that supports C2",
    }
    assert {line.split(":")[0] for line in contradictions(planted, decided, TITLES)} == set(planted)


def test_a_pair_that_can_t_be_asked_is_told_the_same_everywhere(
    least, shown, monkeypatch, tmp_path
):
    study = Study.open("toy", "book", str(least / "results"), "all", root=least)
    decided = verdicts.judged(study)
    # What components write is asked of any task; one training decides nothing.
    outcomes = {v.claim: v.outcome for v in decided}
    assert outcomes.pop("C3") == "undecided"
    assert set(outcomes.values()) == {"doesn't apply"}
    pages = book_of(monkeypatch, least, shown, tmp_path)
    for name in (*OF_ALL, "index", "answer", "limits"):  # of the pool that both solve
        del pages[name]
    assert contradictions(pages, decided, TITLES) == []


def test_every_outcome_was_seen():
    assert set(EFFECTS) | {"doesn't apply", "not measured"} == set(OUTCOMES)


def test_without_a_control_nothing_is_reproduced(study, monkeypatch):
    made_up(study, "reproduced", monkeypatch)
    found, cut = (shift.likeness(study), shift.depths(study)), ablation.tables(study)
    more = cut["more"]
    alike, depths = (rows[~rows.circuit.isin(["continued", "matched"])] for rows in found)
    monkeypatch.setattr(shift, "likeness", lambda _: alike)
    monkeypatch.setattr(shift, "depths", lambda _: depths)
    more = more[~more.model.isin(["continued", "matched"])]
    monkeypatch.setattr(ablation, "tables", lambda _: cut | {"more": more})
    spread = components.tables(study)["spread"]
    alone = {"spread": spread[spread.model.isin(["arm", "mdm"])]}
    monkeypatch.setattr(components, "tables", lambda _: alone)
    explained = neuron_tables.measured(None)
    explained = explained[explained.model.isin(["arm", "mdm"])]
    monkeypatch.setattr(neuron_tables, "measured", lambda _: explained)
    for claim in ("C1", "C2", "C3", "C4", "C6"):
        for verdict in verdicts.of(study, claim):
            assert verdict.outcome == "undecided"
            assert "control" in verdict.missing or "continued" in verdict.missing
            assert "Missing: the continued ARM" in sentence(verdict)


def test_a_circuit_without_room_for_a_shift_isn_t_asked_for_one(study, monkeypatch):
    made_up(study, "reversed", monkeypatch)
    low = shift.depths(study).assign(depth=0.001)
    monkeypatch.setattr(shift, "depths", lambda _: low)
    assert {v.outcome for v in verdicts.of(study, "C2")} == {"doesn't apply"}


def test_a_pair_without_the_chapter_is_not_measured(study, monkeypatch):
    less = study.pair.model_copy(update={"analyses": ["behaviour", "circuits"]})
    other = Study(less, study.budget_name, study.store, study.pool, study.device, study.root)
    assert [v.outcome for v in verdicts.of(other, "C6")] == ["not measured"]


def hand_written():
    """Hand-written Markdown: pages of the book, and cells of notebooks."""
    pages = {str(path): path.read_text("utf-8") for path in (ROOT / "book").glob("*.md")}
    pages |= {str(path): path.read_text("utf-8") for path in (ROOT / "book/methods").glob("*.md")}
    for name in (*ANALYSES, *book_pages()):
        cells = [cell.source for cell in read(name).cells if cell.cell_type == "markdown"]
        pages[name] = "\n\n".join(cells)
    return pages


def test_hand_written_text_says_of_no_claim_how_it_fares():
    assert judgements(hand_written()) == []
    planted = {"a": "It was seen that C3 holds here.", "b": "| C6 | not reproduced |", "c": "C2: ✓"}
    assert [line.split(":")[0] for line in judgements(planted)] == ["a", "b", "c"]
