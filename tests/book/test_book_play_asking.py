"""The models in a browser are asked as the library asks: tokens, samplers, cues."""

from __future__ import annotations

from typing import Any

import pytest

from mechshift_lib.analyses.cues import probabilities
from mechshift_lib.analyses.study import RESAMPLING_SEED
from mechshift_lib.config import load_pair
from mechshift_lib.diffusion.samplers import ORDERS, denoise, generate_arm
from mechshift_lib.tasks import pair_task
from mechshift_lib.tasks.cues import KINDS, Conflict, conflicts
from mechshift_lib.tasks.infilling import Infilling
from tests.book.play_engine import PAIRS, Engine, examples, loaded

pytestmark = pytest.mark.browser

#: Texts that no task has: strange words and signs, spaces and digits of all scripts.
ODD = (
    "",
    " ",
    "[MASK]x [BOS] [MASK][MASK] [mask]",
    "12345 1 2,3;x9y",
    "naïve café\u00a0a\u2003b\n\tc\u0085d",
    "\u0663\u0664\u0665 \uff11\uff12 \U0001d7d8",
    "\U0001f642\u200d\ufe0f _ \ufeffa \u200b \x00",
    "John gave\\ a $^*+?.()|{} to",
)


def test_text_becomes_the_tokens_of_the_folders_tokenizer(engine: Engine) -> None:
    pair = engine.entries[0].pair.name
    tokenizer = loaded(pair, "arm", 0).tokenizer
    texts, wanted = list(ODD), [tokenizer(text)["input_ids"] for text in ODD]
    for task in load_pair(pair).tasks:
        for one, shown in zip(
            examples(pair, task, 20), engine.entries[0].prompts[task], strict=True
        ):
            texts += [shown["prompt"], shown["corrupted"]]
            wanted += [list(one.clean), list(one.corrupted)]
    body = "const read = new play.Tokenizer(told.pairs[0].tokenizer);"
    body += "found.push(...asked.map(text => read.prompt(text)));"
    assert engine.run(texts, body) == wanted


@pytest.mark.parametrize("pair", PAIRS)
def test_answers_and_orders_are_those_of_the_librarys_samplers(engine: Engine, pair: str) -> None:
    arm, mdm = loaded(pair, "arm", 0), loaded(pair, "mdm", 0)
    asked: list[dict[str, Any]] = []
    wanted = []
    for one in (*examples(pair, "countdown", 2), *examples(pair, "infilling", 1)):
        n = len(one.answer)
        (written,) = generate_arm(arm, [one.clean], [n])
        asked.append({"role": "arm", "prompt": one.clean, "n": n, "order": "", "seed": 0})
        wanted.append([list(written), [[i] for i in range(n)]])
        if one.task == "infilling":
            one = Infilling().native(one, mdm.tokenizer)
        for order in ORDERS:
            for steps, seed in ((None, 0), (2, 3)):
                (filled,) = denoise(
                    mdm, [one.clean], [n], after=[one.after], order=order, steps=steps, seed=seed
                )
                given = {"role": "mdm", "prompt": one.clean, "after": one.after, "n": n}
                asked.append(given | {"order": order, "steps": steps, "seed": seed})
                wanted.append([list(filled.tokens), [list(step) for step in filled.order]])
    body = """const of = {arm: await model("PAIR/arm.0"), mdm: await model("PAIR/mdm.0")};
    for (const one of asked) {
      const draws = told.draws[one.n][one.seed];
      const {answer, steps} = one.role === "arm" ? play.write(of.arm, one.prompt, one.n)
        : play.denoise(of.mdm, one.prompt, one.n, {...one, draws});
      found.push([answer, steps.map(step => step.revealed)]);
    }""".replace("PAIR", pair)
    found = engine.run(asked, body)
    assert len(found) == 3 * (1 + 2 * len(ORDERS))
    for one, expected, shown in zip(asked, wanted, found, strict=True):
        assert shown == expected, one


@pytest.mark.parametrize("role", ["arm", "mdm"])
def test_cues_have_the_probabilities_of_the_cues_chapter(engine: Engine, role: str) -> None:
    pair = "tiny-qwen"
    model, task = loaded(pair, role, 1), pair_task(load_pair(pair), "countdown")
    made: list[Conflict] = [
        conflict
        for i, example in enumerate(examples(pair, "countdown", 8))
        for conflict in conflicts(task, model.tokenizer, example, i, RESAMPLING_SEED)
        if conflict.kind != "none"
    ]
    table = probabilities(model, made, 16).set_index(["example", "kind", "at"])
    shown = engine.entries[0].cues
    assert {one["kind"] for one in shown} == set(KINDS) - {"none"}
    body = f"""const about = await play.file("{pair}/{role}.1");
    const request = (call, rest) => play.serve({{id: 0, call, about: {{name: "x", ...rest}}}});
    request("load", {{about}});
    for (const conflict of asked) found.push(request("cue", {{conflict, changes: {{}}}}).value);"""
    found = engine.run(shown, body)
    asked = 0
    for one, shares in zip(shown, found, strict=True):
        place = one["example"], one["kind"], one["at"]
        if place not in table.index:
            assert shares is None
            continue
        expected = table.loc[place]
        assert shares["listed"] == pytest.approx(expected.listed, abs=1e-5)
        assert shares["targeted"] == pytest.approx(expected.targeted, abs=1e-5)
        asked += 1
    assert asked == len(table) > 20


def test_where_no_worker_can_be_started_the_page_computes_itself(engine: Engine) -> None:
    model = loaded("tiny-qwen", "mdm", 0)
    (one,) = examples("tiny-qwen", "countdown", 1)
    (filled,) = denoise(model, [one.clean], [len(one.answer)])
    body = """w.Worker = undefined;
    await play.load(asked.name);
    found.push((await play.ask("answer", asked)).answer);
    await play.ask("answer", {...asked, prompt: Array(99).fill(5)})
      .catch(error => found.push(error.message));"""
    asked = {"name": "tiny-qwen/mdm.0", "prompt": one.clean, "n": 5, "changes": {}}
    answer, error = engine.run(asked | {"asked": {"order": "left-to-right"}}, body)
    assert tuple(answer) == filled.tokens
    assert error.startswith("104 tokens are more than the 64")
