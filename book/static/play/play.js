/* Models in the page: what is chosen, what is computed for it, and what is shown of that.

   The page has an empty <div id="play">; everything is made here. */
"use strict";

mechshiftPlay.start = async (home) => {
  const { state, nodes, panel, Tokenizer } = mechshiftPlay;
  const page = mechshiftPlay.markup(home);
  const about = await mechshiftPlay.about();
  if (!about.pairs.length) throw new Error("no small model is here");
  const tokenizers = new Map(about.pairs.map((pair) => [pair.name, new Tokenizer(pair.tokenizer)]));
  const label = (name) => about.labels[name] ?? name;
  let chosen = null; // of state.complete
  let now = null; // what was computed for it
  let computing = null; // key of what is being computed
  let mode = "node"; // what a click on a node does
  let from = null; // the source of an edge that is begun
  let playing = null;

  /* Choose something; what can't be had with it gives way. */
  function choose(change) {
    const wanted = { ...(chosen ? state.address(chosen) : {}), ...change };
    if (wanted.task !== state.OWN) for (const name of ["prompt", "after", "corrupted", "n"]) delete wanted[name];
    // Another prompt is shown to its end, in as many steps as it has tokens.
    if (chosen && ["task", "example", "n"].some((name) => name in change)) for (const name of ["step", "steps"]) delete wanted[name];
    chosen = state.complete(about, wanted, nodes.wiring);
    state.write(state.address(chosen));
    page.controls(chosen, label);
    changes();
    return now?.key === key() ? show() : compute();
  }

  /* Of what is computed: two choices with the same key differ in what is shown of it only. */
  const key = () => JSON.stringify({ ...state.address(chosen), step: null });
  const file = (role) => `${chosen.pair.name}/${role}.${chosen.training}`;
  const tokenizer = () => tokenizers.get(chosen.pair.name);

  /* What is asked and changed, as tokens. */
  function question() {
    const read = tokenizer();
    const found = { prompt: read.prompt(chosen.prompt), after: read.answer(chosen.after) };
    const wanted = { nodes: chosen.nodes, edges: chosen.edges.map((edge) => chosen.graph.edges.get(edge)), cutWaiting: chosen.cut };
    if (chosen.instead === "corrupted") {
      wanted.corrupted = read.prompt(chosen.corrupted);
      wanted.corruptedAfter = read.answer(chosen.corruptedAfter);
      if (wanted.corrupted.length !== found.prompt.length) {
        throw new Error(`the prompt has ${found.prompt.length} tokens and the corrupted one ${wanted.corrupted.length}: make them as long, or let zero stand in`);
      }
    }
    return { ...found, changes: wanted };
  }

  /* Ask a model: its answer with the changes, and without where there are any. */
  async function answered(role, { prompt, after, changes: wanted }, moved) {
    const name = file(role);
    await mechshiftPlay.load(name);
    const asked = { after, order: chosen.order, steps: chosen.steps, draws: about.draws[chosen.n][chosen.seed] };
    const ask = (changes) => mechshiftPlay.ask("answer", { name, prompt, n: chosen.n, asked, changes });
    const changed = chosen.nodes.length || chosen.edges.length || (chosen.cut && chosen.pair.masks[role] !== null);
    if (moved()) return null;
    const found = await ask(changed ? wanted : {});
    return { role, found, intact: changed && !moved() ? await ask({}) : null };
  }

  async function compute() {
    const mine = (computing = key());
    const moved = () => computing !== mine; // something else was chosen meanwhile
    page.busy(true);
    try {
      const asked = question();
      const left = await answered(chosen.left, asked, moved);
      const right = moved() ? null : await answered(chosen.right, asked, moved);
      if (moved()) return;
      now = { key: mine, asked, left, right };
      show();
      await cue(asked.changes, moved);
      if (!moved()) page.busy(false);
    } catch (error) {
      if (!moved()) page.fail(error);
    }
  }

  /* What every model of the training makes of a prompt on which two cues disagree. */
  async function cue({ nodes: ablated, edges, cutWaiting }, moved) {
    if (chosen.cue === null) return;
    const conflict = chosen.pair.cues[chosen.cue - 1];
    const rows = [];
    for (const role of chosen.roles) {
      const name = file(role);
      await mechshiftPlay.load(name);
      if (moved()) return;
      const shares = await mechshiftPlay.ask("cue", { name, conflict, changes: { nodes: ablated, edges, cutWaiting } });
      rows.push({ role, name: label(role), shares });
    }
    if (!moved()) page.cue(panel.cue(conflict, rows, tokenizer()));
  }

  /* Everything that follows from what was computed, at the step that is chosen. */
  function show() {
    if (now?.key !== key()) return; // it is being computed
    const said = ["left", "right"].map((side) => section(side, now[side]));
    const strange = [...new Set([chosen.prompt, chosen.after].flatMap((text) => tokenizer().strange(text)))];
    if (strange.length) said.push(`The models don't know ${strange.map((word) => `“${word}”`).join(", ")}`);
    page.say(`${said.join(". ")}.`);
    home.dataset.shown = now.key;
    home.dataset.took = Math.max(now.left.found.took, now.right.found.took).toFixed(1);
  }

  function section(side, { role, found, intact }) {
    const [step, { prompt, after }] = [chosen.step, now.asked];
    const writes = chosen.pair.masks[role] === null;
    const here = found.steps[step];
    const how = writes ? "Writes from left to right and sees nothing to its right." : `Fills a canvas, first ${page.order(chosen.order)}; every token sees all.`;
    page.model(side, {
      title: label(role),
      how: writes && after.length ? `${how} What stands behind the answer is hidden from it.` : how,
      canvas: panel.canvas({ prompt, after, answer: here?.answer ?? found.answer, now: here?.revealed ?? [], blind: writes }, tokenizer()),
      final: panel.answers(found, intact, chosen.example, tokenizer()),
      places: panel.places(found, step, chosen.example, tokenizer()),
      took: `${found.took.toFixed(0)} ms a step`,
      color: about.colors[role],
    });
    return `${label(role)}: ${panel.words(found.answer, tokenizer())}`;
  }

  /* The grid of nodes and the edges that are cut. */
  function changes() {
    const hint = mode === "node" ? "Ablated nodes write something else for everyone." : from ? `${from} → …: choose who doesn't read it any more.` : "Choose the node that writes.";
    page.changes(nodes.grid({ ...chosen, mode, from }), chosen.edges, mode, hint);
    nodes.lines(page.find(".grid"), chosen.edges);
  }

  const toggled = (list, name) => (list.includes(name) ? list.filter((one) => one !== name) : [...list, name]).join(",");

  /* Go through the steps, one after the other. */
  function play() {
    if (playing) {
      clearInterval(playing);
      playing = null;
    } else {
      if (chosen.step === chosen.n) choose({ step: "0" });
      playing = setInterval(() => {
        if (chosen.step < chosen.n) choose({ step: String(chosen.step + 1) });
        if (chosen.step === chosen.n && playing) play();
      }, 900);
    }
    page.playing(Boolean(playing));
  }

  page.listen({
    choose,
    play,
    mode(wanted) {
      [mode, from] = [wanted, null];
      changes();
    },
    node(name) {
      if (mode === "node") choose({ nodes: toggled(chosen.nodes, name) });
      else {
        from = from === name ? null : name;
        changes();
      }
    },
    edge: (name) => choose({ edges: toggled(chosen.edges, name) }),
    clear() {
      from = null;
      choose({ nodes: "", edges: "", cut: null });
    },
    cues: (wanted) => wanted !== chosen.cue && choose({ cue: wanted }),
  });
  addEventListener("hashchange", () => {
    chosen = null;
    choose(state.read());
  });
  new ResizeObserver(() => chosen && nodes.lines(page.find(".grid"), chosen.edges)).observe(home);
  await choose(state.read());
};

(() => {
  const home = document.getElementById("play");
  if (!home) return;
  mechshiftPlay.start(home).catch((error) => {
    home.innerHTML = `<p class="fail">No model can be run: ${mechshiftPlay.escape(error.message)}. Say <code>mechshift book</code> to make the files that this page reads.</p>`;
  });
})();
