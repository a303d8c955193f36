/* The circuit explorer: controls, what follows from them, and what is pointed at.

   The page has an empty <div id="explorer">; everything is made here. */
"use strict";

mechshiftExplorer.start = async (home) => {
  const { state, overlap, panel, download, graph: graphOf, Diagram, Chart } = mechshiftExplorer;
  const MOST_DRAWN = 700; // more edges than this are a blot, and slow
  const page = mechshiftExplorer.markup(home);
  const about = await mechshiftExplorer.about();
  if (!about.pairs.length) throw new Error("no circuit is stored yet");
  const graphs = new Map(about.pairs.map((pair) => [pair.name, graphOf(pair.graph)]));
  const label = (name) => about.labels[name] ?? name;

  const over = new Diagram(page.diagrams[0], { onPoint: point, onPick: pick });
  const beside = new Diagram(page.diagrams[1], { onPoint: point, onPick: pick });
  const chart = new Chart(page.chart, (stop) => choose({ k: chosen.pair.stops[stop] }));
  let chosen = null; // of state.complete
  let now = null; // what is loaded for it
  let playing = null;

  /* Choose something; what can't be had with it gives way. */
  function choose(change) {
    const wanted = { ...(chosen ? state.address(chosen) : {}), ...change };
    chosen = state.complete(about, wanted);
    state.write(state.address(chosen));
    page.controls(chosen, label);
    return now?.key === key(chosen) ? show() : load();
  }

  /* Of what is loaded: two choices with the same key differ in what is shown of it only. */
  const key = (one) => [one.pair.name, one.task, one.estimator, one.read, one.training, one.first, one.second, one.step].join(" ");
  const file = (training) => `${chosen.pair.name}/${chosen.task}.${chosen.estimator}.${chosen.read}.${training}`;
  const fetchTraining = (training) => mechshiftExplorer.training(file(training), graphs.get(chosen.pair.name), chosen.pair.stops);

  /* A role's circuit: of this training, or of another one's as ROLE:TRAINING. */
  async function circuit(wanted) {
    const [role, other] = wanted.split(":");
    const training = await fetchTraining(other ?? chosen.training);
    let name = role;
    if (chosen.along && role !== "arm") {
      // The control has no step 0: it starts as the ARM.
      name = training.names.includes(`${role}@${chosen.step}`) ? `${role}@${chosen.step}` : "arm";
    }
    const said = label(role) + (chosen.along && role !== "arm" ? `, step ${chosen.step}` : "") + (other ? `, training ${other}` : "");
    return { training, name, role, said };
  }

  async function load() {
    const mine = key(chosen);
    const moved = () => key(chosen) !== mine; // something else was chosen meanwhile
    const { roles, trainings } = chosen.options;
    page.busy(true);
    try {
      const [first, second] = await Promise.all([circuit(chosen.first), circuit(chosen.second)]);
      const wanted = roles.includes("continued") && ![first.role, second.role].includes("continued");
      const control = wanted ? await circuit("continued") : null;
      if (moved()) return;
      now = { key: mine, first, second, control, graph: graphs.get(chosen.pair.name), others: [] };
      curves();
      colours();
      show();
      page.busy(false);
      // The other trainings come last: they add thin lines, and in how many of them an edge is.
      if (chosen.along || chosen.second.includes(":")) return;
      const others = [];
      for (const training of trainings.filter((one) => one !== chosen.training)) {
        const other = await fetchTraining(training);
        if (moved()) return;
        if ([first.role, second.role].every((name) => other.names.includes(name))) others.push({ training, other });
      }
      now.others = others;
      curves();
      show();
    } catch (error) {
      if (!moved()) page.fail(error);
    }
  }

  /* Every curve of the chart, at every stop. */
  function curves() {
    const { first, second, control, others } = now;
    const stops = chosen.pair.stops;
    const made = [];
    const between = (a, b) => `${a.said} ↔ ${b.said}`;
    const halves = (a, b) => {
      const same = a.training === b.training;
      const rows = same && (a.training.overlap.get(`${a.name}|${b.name}`) ?? a.training.overlap.get(`${b.name}|${a.name}`));
      return rows ? { values: rows[0], low: rows[1], high: rows[2] } : null;
    };
    made.push({ kind: "chance", name: "two random circuits", values: chosen.pair.chance });
    const own = halves(first, first);
    if (own) made.push({ kind: "halves", name: `${first.said} ↔ itself, halves`, ...own });
    const mixed = halves(first, second);
    if (mixed) made.push({ kind: "mixed", name: `${between(first, second)}, halves`, ...mixed });
    if (control) made.push({ kind: "control", name: between(first, control), values: overlap.jaccards(first, control, stops) });
    for (const { training, other } of others) {
      const [a, b] = [chosen.first, chosen.second].map((name) => ({ training: other, name }));
      made.push({ kind: "asked other", name: `training ${training}`, values: overlap.jaccards(a, b, stops) });
    }
    made.push({ kind: "asked", name: between(first, second), values: overlap.jaccards(first, second, stops) });
    now.curves = made;
    // The band of the mixed halves would hide the others: only its line is drawn.
    chart.draw(stops, made.map((one) => (one.kind === "mixed" ? { ...one, low: null } : one)));
  }

  /* Each model keeps its colour; two of one kind need another for the second. */
  function colours() {
    const { first, second } = now;
    const of = (role) => about.colors[role];
    home.style.setProperty("--first-light", of(first.role));
    home.style.setProperty("--second-light", first.role === second.role ? of("mdm-own") ?? of("mdm") : of(second.role));
    home.style.setProperty("--control-light", of("continued") ?? of("arm"));
  }

  /* Everything that follows from the slider. */
  function show() {
    if (now?.key !== key(chosen)) return; // it is being loaded
    const { first, second, graph } = now;
    const count = chosen.pair.stops[chosen.stop];
    const began = performance.now();
    const members = overlap.members(first, second, count);
    const most = (one) => Math.abs(one.training.score(one.name, one.training.top(one.name, 1)[0])) || 1;
    const [strongest, strongestOther] = [most(first), most(second)];
    const weight = (edge, kind) =>
      Math.max(
        kind === "second" ? 0 : Math.abs(first.training.score(first.name, edge)) / strongest,
        kind === "first" ? 0 : Math.abs(second.training.score(second.name, edge)) / strongestOther,
      );
    now.members = members.map((one) => ({ ...one, weight: weight(one.edge, one.kind) }));
    now.kinds = { first: `only in ${first.said}`, both: "shared", second: `only in ${second.said}` };
    const drawn = now.members.slice(0, MOST_DRAWN);
    const counts = Object.fromEntries(Object.keys(now.kinds).map((kind) => [kind, members.filter((one) => one.kind === kind).length]));
    const said = `${count} strongest edges each: ${counts.both} shared, ${counts.first} ${now.kinds.first}, ${counts.second} ${now.kinds.second}`;
    const two = chosen.view === "beside";
    page.two(two, [first.said, second.said]);
    over.place(graph);
    over.draw(two ? drawn.filter(({ kind }) => kind !== "second") : drawn, two ? `${first.said}: ${said}` : said);
    if (two) {
      beside.place(graph);
      beside.draw(drawn.filter(({ kind }) => kind !== "first"), `${second.said}: ${said}`);
    }
    page.legend(now.kinds, counts, members.length - drawn.length);
    chart.mark(chosen.stop);
    page.readout(panel.readout(readings()), count, count / graph.nEdges, first.training.n);
    if (page.table.open) fillTable();
    light();
    home.dataset.took = (performance.now() - began).toFixed(1);
    home.dataset.shown = `${file(chosen.training)} ${count}`;
    const asked = now.curves.at(-1).values[chosen.stop];
    page.say(`${said}. Jaccard index ${panel.number(asked)}.`);
  }

  function readings() {
    const at = (values) => values?.[chosen.stop];
    const main = now.curves.filter(({ kind }) => kind !== "asked other").reverse();
    const rows = main.map((one) => ({ kind: one.kind, name: one.name, value: at(one.values), low: at(one.low), high: at(one.high) }));
    const others = now.curves.filter(({ kind }) => kind === "asked other").map((one) => at(one.values));
    if (others.length) {
      const value = others.reduce((sum, one) => sum + one, 0) / others.length;
      rows.splice(1, 0, { kind: "asked other", name: `the same, ${others.length} other training${others.length > 1 ? "s" : ""}`, value, low: Math.min(...others), high: Math.max(...others) });
    }
    return rows;
  }

  const edgeOf = (target) => (target && !target.node ? now.graph.name(target.edge) : target?.node ?? null);
  /* What a name in the address stands for. */
  const target = (name) => {
    if (!name || !now) return null;
    const edge = now.graph.edge(name);
    if (edge !== undefined) return { edge };
    return now.graph.nodes.some((node) => node.name === name) ? { node: name } : null;
  };

  function pick(wanted) {
    chosen = { ...chosen, pick: edgeOf(wanted) };
    state.write(state.address(chosen));
    light();
    if (wanted && !wanted.node) page.say(aloud(wanted.edge));
  }

  function point(wanted, event) {
    light(wanted);
    page.tip(wanted && !wanted.node ? tipOf(wanted.edge) : "", event);
  }

  /* What stands beside the pointer: the edge, and its rank in either circuit. */
  function tipOf(edge) {
    const ranks = [now.first, now.second].map(({ training, name, said }) => {
      const rank = training.rank(name, edge);
      return `${said}: ${rank < lastRank() ? `rank ${(rank + 1).toLocaleString("en")}` : "weaker than all here"}`;
    });
    return [now.graph.name(edge).replace("->", " → "), ...ranks];
  }

  /* Show what is pointed at, or else what is picked. */
  function light(pointed = null) {
    const wanted = pointed ?? target(chosen.pick);
    over.chosen = beside.chosen = target(chosen.pick);
    over.light(wanted);
    if (chosen.view === "beside") beside.light(wanted);
    if (!wanted) page.picked("", false);
    else if (wanted.node) {
      const touching = now.members.filter(({ edge }) => now.graph.touches(edge, wanted.node));
      page.picked(panel.node(wanted.node, touching.map((one) => ({ ...one, name: now.graph.name(one.edge) })), now.kinds), !pointed);
    } else {
      const shares = now.first.training.shares;
      page.picked(panel.edge(now.graph.name(wanted.edge), models(wanted.edge), lastRank(), shares), !pointed);
    }
  }

  const lastRank = () => chosen.pair.stops.at(-1);

  /* What every model says of an edge. */
  function models(edge) {
    const count = chosen.pair.stops[chosen.stop];
    const { first, second, control } = now;
    const listed = [first, second, ...(control ? [control] : [])];
    if (!chosen.along) {
      for (const name of first.training.names) {
        const there = listed.some((one) => one.training === first.training && one.name === name);
        if (!there) listed.push({ training: first.training, name, role: name, said: label(name) });
      }
    }
    return listed.map(({ training, name, role, said }) => {
      const rank = training.rank(name, edge);
      const everywhere = now.others.length ? [training, ...now.others.map((one) => one.other)].filter((one) => one.names.includes(role)) : [];
      return {
        name: said,
        score: training.score(name, edge),
        rank,
        inside: rank < count,
        halves: training.inclusion(name, edge, chosen.stop),
        trainings: everywhere.length > 1 ? [everywhere.filter((one) => one.rank(role, edge) < count).length, everywhere.length] : null,
      };
    });
  }

  function aloud(edge) {
    const rows = models(edge).slice(0, 2).map((one) => `${one.name}: rank ${one.rank + 1}, ${one.inside ? "in the circuit" : "not in the circuit"}`);
    return `Edge ${now.graph.name(edge).replace("->", " to ")}. ${rows.join(". ")}.`;
  }

  const both = (edge) => [now.first, now.second].map(({ training, name }) => ({ score: training.score(name, edge), rank: training.rank(name, edge) }));

  function fillTable() {
    const rows = now.members.map(({ edge, kind }) => {
      const [first, second] = both(edge);
      return { edge, name: now.graph.name(edge), words: now.kinds[kind], first, second };
    });
    page.table.fill(panel.table(rows, [now.first.said, now.second.said], lastRank()));
  }

  const filename = (ending) => `${file(chosen.training).replace("/", "-")}-${chosen.pair.stops[chosen.stop]}.${ending}`;
  const TAKE = {
    csv: () => {
      const rank = (value) => (Number.isFinite(value) ? value + 1 : "");
      const rows = now.members.map(({ edge, kind }) => [now.graph.name(edge), now.kinds[kind], ...both(edge).flatMap((one) => [one.score, rank(one.rank)])]);
      return [filename("csv"), "text/csv", download.csv(rows, [now.first.said, now.second.said])];
    },
    first: () => circuitFile(now.first),
    second: () => circuitFile(now.second),
    svg: () => [filename("svg"), "image/svg+xml", download.svg(over.svg, over.svg.getAttribute("aria-label"))],
  };
  const circuitFile = ({ training, name }) => [
    filename(`${name.replace("@", "-")}.json`),
    "application/json",
    download.eapig(now.graph, training, name, chosen.pair.stops[chosen.stop]),
  ];

  /* Go through the steps of the training, one after the other. */
  function play() {
    if (playing) {
      clearInterval(playing);
      playing = null;
    } else {
      const steps = chosen.options.steps;
      if (chosen.step === steps.at(-1)) choose({ step: steps[0] });
      playing = setInterval(() => {
        const next = steps[steps.indexOf(chosen.step) + 1];
        if (next === undefined || !chosen.along) play();
        else choose({ step: next });
      }, 900);
    }
    page.playing(Boolean(playing));
  }

  page.listen({
    choose,
    play,
    fillTable,
    pickEdge: (edge) => pick({ edge }),
    take: (what) => download.save(...TAKE[what]()),
  });
  mechshiftExplorer.take = (what) => TAKE[what](); // what a button would save
  addEventListener("hashchange", () => {
    chosen = null;
    choose(state.read());
  });
  new ResizeObserver(() => now && show()).observe(home);
  await choose(state.read());
};

(() => {
  const home = document.getElementById("explorer");
  if (!home) return;
  mechshiftExplorer.start(home).catch((error) => {
    home.innerHTML = `<p class="fail">No circuit can be shown: ${mechshiftExplorer.panel.escape(error.message)}. Say <code>mechshift book</code> to make the files that this page reads.</p>`;
  });
})();
