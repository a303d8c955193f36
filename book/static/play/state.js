/* What is chosen, and the part of the address that says so: a link shows the same to others. */
"use strict";

mechshiftPlay.state = (() => {
  /* The choices that an address makes, as text. */
  const read = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));

  function write(chosen) {
    const words = Object.entries(chosen).filter(([, value]) => value !== null && value !== undefined && value !== "");
    const hash = `#${new URLSearchParams(words)}`;
    if (hash !== location.hash) history.replaceState(null, "", hash);
  }

  /* A wish where it can be had, else the first of what there is. */
  const wish = (list, ...values) => values.find((value) => list.includes(value)) ?? list[0];
  const whole = (value, low, high, otherwise) => (/^\d+$/.test(value ?? "") ? Math.min(high, Math.max(low, Number(value))) : otherwise);
  const listed = (text, known) => [...new Set((text ?? "").split(",").filter(known))];

  /* Prompts that a reader typed. */
  const OWN = "own";
  /* Models that a slider goes over: where the post-training began, on its way, and its end. */
  const STAGES = ["arm", "matched", "mdm"];
  /* Models that only go on from left to right. */
  const LEFT = ["arm", "continued"];

  /* The choices completed: every one of them there, those that were wished where they are. */
  function complete(about, wanted, wiring) {
    const pair = about.pairs.find((one) => one.name === wanted.pair) ?? about.pairs[0];
    const graph = wiring(pair.graph);
    const trainings = Object.keys(pair.trainings);
    const training = wish(trainings, wanted.training);
    const roles = pair.trainings[training];
    const stages = STAGES.filter((role) => roles.includes(role));
    const tasks = [...Object.keys(pair.prompts), OWN];
    const task = wish(tasks, wanted.task);
    const examples = pair.prompts[task] ?? [];
    const number = whole(wanted.example, 1, examples.length, 1);
    const example = examples[number - 1] ?? null;
    const n = example ? example.answer.length : whole(wanted.n, 1, about.longest, 1);
    const steps = whole(wanted.steps, 1, n, n);
    const cues = pair.cues.map((_, i) => String(i + 1));
    return {
      about,
      pair,
      graph,
      options: { trainings, tasks, stages, left: LEFT.filter((role) => roles.includes(role)), count: examples.length, cues },
      training,
      roles,
      left: wish(LEFT.filter((role) => roles.includes(role)), wanted.left),
      right: wish(stages, wanted.right, "mdm"),
      task,
      number,
      example,
      prompt: example?.prompt ?? wanted.prompt ?? "",
      after: example?.after ?? wanted.after ?? "",
      corrupted: example?.corrupted ?? wanted.corrupted ?? "",
      corruptedAfter: example?.corruptedAfter ?? wanted.after ?? "",
      n,
      steps,
      step: whole(wanted.step, 0, n, n),
      order: wish(about.orders, wanted.order),
      seed: whole(wanted.seed, 0, about.seeds - 1, 0),
      cut: wanted.cut === "waiting",
      instead: wish(["zero", "corrupted"], wanted.instead),
      nodes: listed(wanted.nodes, (name) => graph.ablated.has(name)),
      edges: listed(wanted.edges, (name) => graph.edges.has(name)),
      cue: cues.includes(wanted.cue) ? wanted.cue : null,
    };
  }

  /* The address of what is chosen. */
  const address = (chosen) => ({
    pair: chosen.pair.name,
    training: chosen.training,
    task: chosen.task,
    ...(chosen.example
      ? { example: chosen.number }
      : { prompt: chosen.prompt, after: chosen.after, corrupted: chosen.corrupted, n: chosen.n }),
    left: chosen.left === "arm" ? null : chosen.left,
    right: chosen.right,
    order: chosen.order,
    seed: chosen.order === "random" ? chosen.seed : null,
    steps: chosen.steps === chosen.n ? null : chosen.steps,
    step: chosen.step === chosen.n ? null : chosen.step,
    cut: chosen.cut ? "waiting" : null,
    instead: chosen.instead === "zero" ? null : chosen.instead,
    nodes: chosen.nodes.join(","),
    edges: chosen.edges.join(","),
    cue: chosen.cue,
  });

  return { read, write, complete, address, OWN };
})();
