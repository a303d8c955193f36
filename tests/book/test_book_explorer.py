"""The circuit explorer in a real browser: its numbers, files, address, keyboard and sizes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mechshift_lib.analyses.overlap import compare_scores
from mechshift_lib.analyses.scores import assembled, clear_reads
from mechshift_lib.analyses.study import RESAMPLING_SEED
from mechshift_lib.comparison.overlap import jaccard, top_edges
from mechshift_lib.explorer.curves import COUNTED, stops
from mechshift_lib.explorer.sources import Circuits, _measured, reading
from tests.book.browser import FRAME, ask, complaints, serve
from tests.book.make_explorer import make_explorer

pytestmark = pytest.mark.browser
PAIR, TASK, SEED = "tiny-llama", "ioi", 1
#: The largest file that is loaded at first, in bytes.
LARGEST = 400_000
#: Moves the slider to a size and gives what then stands in the readout, by kind.
AT = """(k) => {
  const field = d.querySelector('[name=stop]');
  const stops = STOPS;
  field.value = stops.indexOf(k);
  field.dispatchEvent(new Event('input', { bubbles: true }));
  const cells = [...d.querySelectorAll('.readout .value')];
  return Object.fromEntries(cells.map(cell => [cell.dataset.kind, Number(cell.dataset.value)]));
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("explorer")


@pytest.fixture(scope="module")
def circuits(folder: Path) -> list[Circuits]:
    (folder / "frame.html").write_text(FRAME)
    exact = {(TASK, SEED), (TASK, 2), (TASK, 0)}
    return make_explorer(
        folder,
        PAIR,
        lambda one: (
            (one.estimator == "exact" and (one.task, one.seed) in exact)
            or (one.estimator != "exact" and one.task == TASK and one.seed == 0)
        ),
    )


@pytest.fixture(scope="module")
def address(folder: Path, circuits: list[Circuits]) -> Iterator[str]:
    with serve(folder) as address:
        yield address


def of(circuits: list[Circuits], seed: int, estimator: str = "exact") -> dict[str, np.ndarray]:
    """Mean scores of a training's circuits by name."""
    one = next(c for c in circuits if c.seed == seed and c.estimator == estimator)
    return {name: s.mean(axis=0) for name, s in zip(one.names, one.scores, strict=True)}


def page(**chosen: object) -> str:
    words = {"pair": PAIR, "task": TASK, "training": SEED} | chosen
    return "explore.html#" + "&".join(f"{name}={value}" for name, value in words.items())


def readings(address: str, counts: list[int], **chosen: object) -> list[dict[str, float]]:
    """What stands in the readout at each size, by kind."""
    at = AT.replace("STOPS", json.dumps(stops(1108, 1108)))
    found: list[dict[str, float]] = ask(address, page(**chosen), f"{counts}.map({at})", width=1200)
    return found


def test_the_numbers_at_the_slider_are_those_of_the_chapters(address: str) -> None:
    study = reading(PAIR, results="nowhere")
    own = {name: _measured(study, TASK, name, SEED) for name in ("arm", "mdm", "continued")}
    clear = clear_reads([one.items for one in own.values()])
    scores = {name: assembled(name, one, clear) for name, one in own.items()}
    table = compare_scores(scores, draws=2, seed=RESAMPLING_SEED)["edges"]
    counts = sorted(set(table["count"]))
    kinds = {
        "asked": "arm-mdm",
        "control": "arm-continued",
        "halves": "arm-halves",
        "mixed": "arm-mdm-halves",
    }
    for count, shown in zip(counts, readings(address, counts), strict=True):
        rows = table[table["count"] == count].set_index("comparison")
        for kind, comparison in kinds.items():
            assert shown[kind] == pytest.approx(rows.jaccard[comparison], abs=1e-6), (count, kind)
        assert shown["chance"] == pytest.approx(rows.chance["arm-mdm"], abs=1e-6)


def test_any_two_models_can_be_compared_in_any_training(
    address: str, circuits: list[Circuits]
) -> None:
    counts = [1, 20, 55, 1108]
    for a, b in (("continued", "matched"), ("arm", "arm:2"), ("mdm", "continued:0")):
        role, _, seed = b.partition(":")
        first, second = of(circuits, SEED)[a], of(circuits, int(seed or SEED))[role]
        for count, shown in zip(counts, readings(address, counts, a=a, b=b), strict=True):
            wanted = jaccard(top_edges(first, count), top_edges(second, count))
            assert shown["asked"] == pytest.approx(float(wanted), abs=1e-6), (a, b, count)


def test_the_other_trainings_are_averaged(address: str, circuits: list[Circuits]) -> None:
    values = [
        float(jaccard(top_edges(one["arm"], 55), top_edges(one["mdm"], 55)))
        for one in (of(circuits, 0), of(circuits, 2))
    ]
    (shown,) = readings(address, [55])
    assert shown["asked other"] == pytest.approx(np.mean(values), abs=1e-6)


@pytest.mark.parametrize("step", [0, 400, 4000])
def test_a_step_of_the_training_is_the_trajectorys(
    address: str, circuits: list[Circuits], step: int
) -> None:
    along = of(circuits, 0, "eap-ig-5")
    (shown,) = readings(address, [55], training=0, estimator="eap-ig-5", step=step)
    wanted = jaccard(top_edges(along["arm"], 55), top_edges(along[f"mdm@{step}"], 55))
    assert shown["asked"] == pytest.approx(float(wanted), abs=1e-6)


def test_playing_goes_from_step_to_step(
    address: str, folder: Path, circuits: list[Circuits]
) -> None:
    steps = [name.split("@")[1] for name in of(circuits, 0, "eap-ig-5") if name.startswith("mdm@")]
    play = "setTimeout(() => document.querySelector('[data-do=play]').click(), 500)"
    text = (folder / "explore.html").read_text(encoding="utf-8")
    (folder / "playing.html").write_text(f"{text}<script>{play}</script>", encoding="utf-8")
    chosen = page(training=0, estimator="eap-ig-5", step=0).replace("explore", "playing")
    js = (
        "[new w.URLSearchParams(w.location.hash.slice(1)).get('step'), "
        "d.querySelector('[data-do=play]').getAttribute('aria-pressed')]"
    )
    step, pressed = ask(address, chosen, js, width=1200)
    assert step in steps[1:4]
    assert pressed == "true"


def test_what_is_saved_is_the_circuit(address: str, circuits: list[Circuits]) -> None:
    js = "['first', 'csv', 'svg'].map(what => w.mechshiftExplorer.take(what))"
    (name, _, text), (_, _, csv), (_, _, svg) = ask(address, page(k=55), js, width=1200)
    one = next(c for c in circuits if c.seed == SEED)
    graph, scores = one.graph, of(circuits, SEED)
    content = json.loads(text)
    assert name == f"{PAIR}-{TASK}.exact.all.{SEED}-55.arm.json"
    assert content["cfg"] == {"n_layers": 6, "n_heads": 4, "parallel_attn_mlp": False}
    assert list(content["edges"]) == graph.names
    inside = [edge["in_graph"] for edge in content["edges"].values()]
    np.testing.assert_array_equal(inside, top_edges(scores["arm"], 55))
    saved = np.array([edge["score"] for edge in content["edges"].values()], dtype=np.float32)
    np.testing.assert_array_equal(saved, scores["arm"])
    assert list(content["nodes"]) == graph.nodes
    rows = [line.split(",") for line in csv.strip().split("\n")]
    assert rows[0] == ["edge", "in", "ARM score", "ARM rank", "MDM score", "MDM rank"]
    union = top_edges(scores["arm"], 55) | top_edges(scores["mdm"], 55)
    assert {row[0] for row in rows[1:]} == set(np.array(graph.names)[union])
    assert re.match(r'<svg [^>]*xmlns="http://www.w3.org/2000/svg"', svg)
    assert svg.count("<path") >= union.sum()


def test_an_edge_says_what_each_model_says_of_it(address: str, circuits: list[Circuits]) -> None:
    one = next(c for c in circuits if c.seed == SEED)
    scores = of(circuits, SEED)
    edge = int(np.argmax(np.abs(scores["mdm"])))
    name = one.graph.names[edge]
    js = (
        "[[...d.querySelectorAll('.picked tbody tr')].map(row => [...row.cells].map(c => "
        "c.textContent)), d.querySelectorAll('.node.on').length]"
    )
    rows, ends = ask(address, page(k=55, pick=name.replace(">", "%3E")), js, width=1200)
    shown = {row[0]: row[1:] for row in rows}
    rank = int(np.sum(np.abs(scores["arm"]) > np.abs(scores["arm"][edge]))) + 1
    assert shown["MDM"][1] == "✓ 1"
    assert shown["ARM"][1] == ("✓ " if rank <= 55 else "") + f"{rank:,}"
    assert float(shown["MDM"][0].replace("−", "-")) == pytest.approx(scores["mdm"][edge], rel=0.06)
    half = [
        s[rows].mean(axis=0)
        for s in one.scores[1:2]
        for split in one.splits[:COUNTED]
        for rows in split
    ]
    share = np.mean([top_edges(h, 55)[edge] for h in half])
    assert shown["MDM"][2] == f"{int(100 * share + 0.5)} %"
    there = sum(bool(top_edges(of(circuits, seed)["mdm"], 55)[edge]) for seed in (0, 1, 2))
    assert shown["MDM"][3] == f"{there} of 3"
    assert ends == 2


def test_the_keyboard_goes_from_edge_to_edge_and_the_address_says_which(
    address: str, circuits: list[Circuits]
) -> None:
    one = next(c for c in circuits if c.seed == SEED)
    js = """(() => {
      const svg = d.querySelector('.diagram svg');
      const press = key => svg.dispatchEvent(new w.KeyboardEvent('keydown', {key, bubbles: true}));
      const found = [];
      for (const key of ['ArrowDown', 'ArrowDown', 'ArrowUp', 'End', 'Escape']) {
        press(key);
        found.push([new w.URLSearchParams(w.location.hash.slice(1)).get('pick'),
                    d.querySelector('.say').textContent]);
      }
      return found;
    })()"""
    found: list[Any] = ask(address, page(k=20), js, width=1200)
    picks = [pick for pick, _ in found]
    first = {one.graph.names[int(np.argmax(np.abs(of(circuits, SEED)[m])))] for m in ("arm", "mdm")}
    assert picks[0] in first
    assert picks[0] == picks[2] != picks[1]
    assert picks[3] not in picks[:3]
    assert picks[4] is None
    assert "rank 1" in found[0][1]


def test_edges_stand_in_a_table_too(address: str, circuits: list[Circuits]) -> None:
    scores = of(circuits, SEED)
    union = top_edges(scores["arm"], 55) | top_edges(scores["mdm"], 55)
    js = (
        "(() => { const box = d.querySelector('details.table'); box.open = true; "
        "box.dispatchEvent(new Event('toggle')); "
        "return box.querySelectorAll('tbody tr').length })()"
    )
    assert ask(address, page(k=55), js, width=1200) == union.sum()


def test_nonsense_in_the_address_shows_something_all_the_same(address: str) -> None:
    js = "[d.querySelectorAll('.edges path').length > 0, d.getElementById('explorer').dataset]"
    wrong = {"pair": "no", "task": "no", "training": 99, "a": "<b>", "b": "arm:77", "k": -3}
    shown, data = ask(address, page(**wrong, step="x", view="y", pick="z"), js, width=1200)
    assert shown is True
    assert "failed" not in data


def test_the_page_fits_a_phone_and_is_dark_in_the_dark(address: str) -> None:
    js = (
        "[d.documentElement.scrollWidth, d.querySelectorAll('.edges path').length, "
        "getComputedStyle(d.querySelector('.edges path.first')).stroke]"
    )
    width, edges, light = ask(address, page(), js, width=390)
    assert width <= 390
    assert edges > 55
    _, _, dark = ask(address, page(), js, width=390, mode="dark")
    assert light != dark


def test_every_field_has_a_name(address: str) -> None:
    js = (
        "[...d.querySelectorAll('#explorer input, #explorer select')]"
        ".map(field => [...field.labels].map(label => label.textContent.trim()).join(' '))"
    )
    names = ask(address, page(), js, width=1200)
    assert len(names) > 8
    assert all(names)


def test_two_diagrams_stand_beside_each_other(address: str, circuits: list[Circuits]) -> None:
    del circuits
    js = (
        "[...d.querySelectorAll('.diagram')].map(one => one.querySelectorAll('.edges path').length)"
    )
    assert ask(address, page(k=55, view="beside"), js, width=1400) == [55, 55]
    over, none = ask(address, page(k=55), js, width=1400)
    assert over > 55
    assert none == 0


def test_nothing_large_is_loaded_and_nothing_complains(
    address: str, folder: Path, circuits: list[Circuits]
) -> None:
    assert complaints(address, "explore.html") == []
    files = [path for path in (folder / "explorer").rglob("*") if path.is_file()]
    own = sum(path.stat().st_size for path in files if path.parent.name == "explorer")
    largest = max(path.stat().st_size for path in files if path.parent.name == PAIR)
    assert len(circuits) > 2
    assert own < 100_000
    assert largest < LARGEST


def test_without_circuits_the_page_says_so(tmp_path: Path) -> None:
    make_explorer(tmp_path, PAIR, lambda _: False)
    (tmp_path / "frame.html").write_text(FRAME)
    js = "d.querySelector('.fail').textContent"
    with serve(tmp_path) as address:
        assert "mechshift book" in ask(address, "explore.html", js)
        (tmp_path / "explorer" / "index.js").unlink()
        assert "isn't there" in ask(address, "explore.html", js)
