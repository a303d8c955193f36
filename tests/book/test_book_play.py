"""The page on which models run, in a real browser: clicks, answers, the address, the keyboard."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from mechshift_lib.analyses.study import EXAMPLES_SEED
from mechshift_lib.config import load_pair
from mechshift_lib.diffusion.samplers import denoise, generate_arm
from mechshift_lib.tasks import pair_task
from tests.book.browser import AXE, FRAME, ask, chromium, complaints, serve
from tests.book.make_play import make_play
from tests.book.play_engine import loaded

pytestmark = pytest.mark.browser
PAIR = "tiny-qwen"
#: Waits for the worker; loading something meanwhile keeps the browser's own clock from running out.
DO = """(async () => {
  const home = d.getElementById("play");
  const ready = async () => {
    for (;;) {
      await fetch("/frame.html", {cache: "no-store"});
      if (home.dataset.failed || home.getAttribute("aria-busy") === "false") return;
    }
  };
  const one = (selector) => home.querySelector(selector);
  const click = async (selector) => { one(selector).click(); await ready(); };
  const put = async (name, value) => {
    const field = one(`[name="${name}"]`);
    field.value = value;
    field.dispatchEvent(new w.Event("input", {bubbles: true}));
    await ready();
  };
  const hash = () => Object.fromEntries(new w.URLSearchParams(w.location.hash.slice(1)));
  const side = (name) => ({
    title: one(`.${name} h2`).textContent,
    answer: one(`.${name} .final .answer`).textContent,
    unchanged: one(`.${name} .final .answer:not(strong)`)?.textContent ?? null,
    canvas: [...home.querySelectorAll(`.${name} .token.place`)].map(cell => cell.textContent),
    shares: [...home.querySelectorAll(`.${name} .share`)].map(cell => Number(cell.dataset.value)),
  });
  const both = () => ({left: side("left"), right: side("right"), hash: hash()});
  await ready();
  BODY
})()"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("play")
    (folder / "frame.html").write_text(FRAME)
    make_play(folder, [PAIR], (0,))
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with serve(folder) as address:
        yield address


def visit(address: str, body: str, *, width: int = 1200, mode: str = "light", **chosen: Any) -> Any:
    """What ``body`` returns on the page with these choices in its address."""
    words = "&".join(f"{name}={quote(str(value))}" for name, value in chosen.items())
    found = ask(address, f"play.html#{words}", DO.replace("BODY", body), width=width, mode=mode)
    assert not isinstance(found, str), found
    return found


def test_both_models_answer_as_the_library_has_it(address: str) -> None:
    arm, mdm = loaded(PAIR, "arm", 0), loaded(PAIR, "mdm", 0)
    one = pair_task(load_pair(PAIR), "countdown").examples(arm.tokenizer, 3, EXAMPLES_SEED)[2]
    (written,) = generate_arm(arm, [one.clean], [5])
    (filled,) = denoise(mdm, [one.clean], [5], order="random", seed=4, steps=3)
    chosen = {"task": "countdown", "example": 3, "order": "random", "seed": 4, "steps": 3}
    body = """const end = both(); const walk = [];
    for (const step of [0, 1, 2]) { await put("step", step); walk.push(side("right").canvas); }
    return {end, walk, hash: hash(), say: one(".say").textContent};"""
    found = visit(address, body, **chosen)
    assert found["end"]["left"]["answer"] == arm.tokenizer.decode(written)
    assert found["end"]["right"]["answer"] == arm.tokenizer.decode(filled.tokens)
    assert found["end"]["left"]["unchanged"] is None
    assert found["hash"] == {"pair": PAIR, "training": "0", "right": "mdm", "step": "2"} | {
        name: str(value) for name, value in chosen.items()
    }
    words = [arm.tokenizer.decode([token]) for token in filled.tokens]
    for step, canvas in enumerate(found["walk"]):
        there = {i for places in filled.order[:step] for i in places}
        assert canvas == [word if i in there else "empty" for i, word in enumerate(words)]
    assert found["say"].startswith(f"ARM: {found['end']['left']['answer']}. MDM: ")


def test_a_head_is_ablated_in_both_and_a_link_shows_the_same(address: str) -> None:
    body = """const before = both(); await click('[data-node="a0.h1"]'); const head = both();
    await click('[data-node="m2"]'); const more = both();
    const pressed = one('[data-node="m2"]').getAttribute("aria-pressed");
    await click('[data-do="clear"]');
    return {before, head, more, pressed, after: both()};"""
    found = visit(address, body, task="ioi", example=2)
    assert found["head"]["hash"]["nodes"] == "a0.h1"
    assert found["more"]["hash"]["nodes"] == "a0.h1,m2"
    assert found["pressed"] == "true"
    for side in ("left", "right"):
        shares = [found[when][side]["shares"] for when in ("before", "head", "more")]
        assert len({tuple(share) for share in shares}) == 3
        assert found["more"][side]["unchanged"] == found["before"][side]["answer"]
    assert found["after"] == found["before"]
    again = visit(address, "return both();", task="ioi", example=2, nodes="a0.h1,m2")
    assert again == found["more"]


def test_an_edge_is_cut_by_two_clicks_and_mended_by_one(address: str) -> None:
    body = """const before = both();
    await click('[name="mode"][value="edge"]'); await click('[data-node="input"]');
    const ports = home.querySelectorAll("[data-edge]").length;
    await click('[data-edge="input->a0.h1<v>"]'); const cut = both();
    const lines = home.querySelectorAll(".lines path").length;
    await click('[name="instead"][value="corrupted"]'); const corrupted = both();
    await click('.cuts [data-edge="input->a0.h1<v>"]');
    return {before, cut, corrupted, mended: both(), ports, lines};"""
    found = visit(address, body, task="greater-than")
    assert found["ports"] == 6 * (3 * 4 + 1) + 1
    assert found["lines"] == 1
    assert found["cut"]["hash"]["edges"] == "input->a0.h1<v>"
    assert found["corrupted"]["hash"]["instead"] == "corrupted"
    for side in ("left", "right"):
        shares = [found[when][side]["shares"] for when in ("before", "cut", "corrupted")]
        assert len({tuple(share) for share in shares}) == 3
        assert found["mended"][side]["shares"] == shares[0]
    assert "edges" not in found["mended"]["hash"]


def test_hiding_the_waiting_masks_changes_the_mdm_alone(address: str) -> None:
    body = "const before = both(); await click('[name=\"cut\"]'); return [before, both()];"
    before, after = visit(address, body, task="countdown", order="entropy")
    assert after["hash"]["cut"] == "waiting"
    assert after["left"] == before["left"]
    assert after["right"]["shares"] != before["right"]["shares"]


def test_the_slider_goes_from_the_arm_to_the_mdm(address: str) -> None:
    body = """const found = [];
    for (const stage of [0, 1, 2]) { await put("right", stage); found.push(both()); }
    return found;"""
    found = visit(address, body, task="ioi")
    assert [one["hash"]["right"] for one in found] == ["arm", "matched", "mdm"]
    assert found[0]["right"] == found[0]["left"]
    assert len({tuple(one["right"]["shares"]) for one in found}) == 3


def test_one_cue_is_set_against_another_in_every_model(address: str) -> None:
    body = """const rows = async () => { await ready();
      return [...home.querySelectorAll(".cues tbody tr")].map(row => [row.dataset.role,
        [...row.querySelectorAll(".value")].map(cell => Number(cell.dataset.value))]); };
    const first = await rows();
    const last = [...one('[name="cue"]').options].find(o => o.text.startsWith("from the right"));
    await put("cue", last.value);
    return {first, last: await rows(), hash: hash(), text: one(".cues .question").textContent};"""
    found = visit(address, body, task="countdown", cue=1)
    roles = ["arm", "mdm", "continued", "matched"]
    assert [role for role, _ in found["first"]] == roles
    assert all(0 < sum(shares) <= 1.0001 for _, shares in found["first"])
    asked = dict(found["last"])
    assert asked["arm"] == asked["continued"] == []
    assert len(asked["mdm"]) == len(asked["matched"]) == 2
    assert found["hash"]["cue"] != "1"
    assert "…" in found["text"]


def test_own_words_are_read_and_what_cannot_be_run_is_said(address: str) -> None:
    body = """const say = () => one(".say").textContent, found = [];
    await put("prompt", "Then, Anna and zebra went to the school. Anna gave a ring to");
    found.push(say(), hash().task);
    await click('[name="instead"][value="corrupted"]'); await put("corrupted", "Then");
    found.push(say());
    await put("prompt", "a ".repeat(70)); await click('[name="instead"][value="zero"]');
    found.push(say());
    await put("n", 3); await put("prompt", "Numbers: 4 5 6. Target: 15. Equation:");
    found.push(say(), side("right").canvas.length);
    return found;"""
    unknown, task, lengths, long, fine, places = visit(address, body, task="ioi")
    assert task == "own"
    assert "The models don't know “zebra”." in unknown
    assert "the prompt has 16 tokens and the corrupted one 2" in lengths
    assert "more than the 64 that this model reads: shorten the prompt" in long
    assert fine.startswith("ARM: ")
    assert places == 3


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_no_serious_fault_of_access_where_everything_is_open(
    address: str, folder: Path, axe: Path, mode: str
) -> None:
    shutil.copy(axe, folder / "axe.min.js")
    body = f"""await click('[name="mode"][value="edge"]'); await click('[data-node="a1.h0"]');
    await ready(); return {AXE};"""
    changes = {"nodes": "a0.h1,m2", "edges": "m0->a1.h0<v>,a3.h1->m4", "cue": 1, "step": 2}
    found = visit(address, body, mode=mode, task="countdown", order="random", **changes)
    assert found["rules"] > 15
    assert [fault for fault in found["faults"] if fault[0] in ("serious", "critical")] == []


def test_every_part_is_reached_and_named_by_the_keyboard(address: str) -> None:
    body = """one('[data-node="a3.h2"]').focus(); await click('[data-node="a3.h2"]');
    const kept = d.activeElement.dataset.node;
    const parts = [...home.querySelectorAll("button, input, select, summary")];
    return {kept, unnamed: parts.filter(part => !part.closest("[hidden]") && part.tabIndex >= 0
      && !(part.labels?.length || part.getAttribute("aria-label") || part.textContent.trim()))
      .map(part => part.outerHTML), unreached: parts.filter(part => part.tabIndex < 0).length};"""
    found = visit(address, body)
    assert found == {"kept": "a3.h2", "unnamed": [], "unreached": 0}


def test_nonsense_in_the_address_runs_something_all_the_same(address: str) -> None:
    wrong = {"pair": "no", "training": 9, "task": "<b>", "example": -3, "nodes": "x,a9.h9,input"}
    found = visit(address, "return both();", **wrong, edges="a->b", right="x", order="y", cue=1e9)
    assert found["hash"]["task"] == "ioi"
    assert not {"nodes", "edges", "cue"} & set(found["hash"])
    assert found["left"]["answer"]


def test_the_page_fits_a_phone_and_is_dark_in_the_dark(address: str) -> None:
    body = "return [d.documentElement.scrollWidth, getComputedStyle(one('.note')).color];"
    width, light = visit(address, body, width=390, task="countdown", cue=1)
    assert width <= 390
    _, dark = visit(address, body, width=390, mode="dark")
    assert light != dark


def test_nothing_complains_and_files_are_loaded_when_needed(address: str, folder: Path) -> None:
    assert complaints(address, "play.html") == []
    files = """return w.performance.getEntriesByType("resource").map(one => one.name);"""
    names = [Path(name).name for name in visit(address, files)]
    assert {"arm.0.js", "mdm.0.js"} == {name for name in names if re.match(r".+\.0\.js", name)}
    own = sum(path.stat().st_size for path in (folder / "play").glob("*.*"))
    assert own < 200_000


def test_the_page_runs_from_a_folder_too(folder: Path, tmp_path: Path) -> None:
    """Without a server nothing can be fetched, and no worker be started from a file."""
    wait = """<script>(async () => {
      const home = document.getElementById("play");
      while (home.getAttribute("aria-busy") !== "false") await new Promise((done) => {
        const image = new Image(); // of no picture, so that it only takes its time
        image.onerror = done;
        image.src = `play/parts.js?${Math.random()}`;
      });
    })()</script>"""
    text = (folder / "play.html").read_text(encoding="utf-8")
    page = folder / "opened.html"
    page.write_text(text.replace("</main>", f"</main>{wait}"), encoding="utf-8")
    command = [chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-dev-shm-usage", f"--user-data-dir={tmp_path}"]
    command += ["--virtual-time-budget=20000", "--dump-dom", f"file://{page}#task=ioi"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    said = re.search(r'class="say"[^>]*>([^<]*)<', done.stdout)
    assert said, done.stderr
    assert re.match(r"ARM: \w+\. MDM: \w+\.", unescape(said[1]))


def test_without_models_the_page_says_so(tmp_path: Path) -> None:
    make_play(tmp_path, [])
    (tmp_path / "frame.html").write_text(FRAME)
    js = "d.querySelector('.fail').textContent"
    with serve(tmp_path) as address:
        assert "mechshift book" in ask(address, "play.html", js)
        (tmp_path / "play" / "index.js").unlink()
        assert "isn't there" in ask(address, "play.html", js)


def test_something_is_said_from_the_first_moment(address: str) -> None:
    said = ask(address, "play.html", 'd.querySelector("#play .say").textContent', width=1000)
    assert re.match(r"The models are loading …|ARM: ", said)
