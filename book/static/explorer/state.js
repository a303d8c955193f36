/* What is chosen, and the part of the address that says so: a link shows the same to others. */
"use strict";

mechshiftExplorer.state = (() => {
  /* The choices that an address makes, as text. */
  const read = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));

  function write(chosen) {
    const words = Object.entries(chosen).filter(([, value]) => value !== null && value !== undefined && value !== "");
    const hash = `#${new URLSearchParams(words)}`;
    if (hash !== location.hash) history.replaceState(null, "", hash);
  }

  const has = (list, value) => list.includes(value);
  const unique = (list) => [...new Set(list)];
  /* A wish where it can be had, else the first of what there is. */
  const wish = (list, ...values) => values.find((value) => has(list, value)) ?? list[0];

  /* The choices completed: every one of them there, those that were wished where they are.

     Circuits are `ROLE` or `ROLE:TRAINING`; a trajectory's are of the step that is chosen. */
  function complete(about, wanted) {
    const pair = about.pairs.find((one) => one.name === wanted.pair) ?? about.pairs[0];
    const tasks = unique(pair.sources.map((one) => one.task));
    const task = wish(tasks, wanted.task);
    const ofTask = pair.sources.filter((one) => one.task === task);
    const estimators = unique(ofTask.map((one) => one.estimator));
    const estimator = wish(estimators, wanted.estimator);
    const sources = ofTask.filter((one) => one.estimator === estimator);
    const reads = sources.map((one) => one.read);
    const read = wish(reads, wanted.read);
    const source = sources.find((one) => one.read === read);
    const trainings = Object.keys(source.trainings);
    const training = wish(trainings, wanted.training);
    const roleOf = (name) => name.split("@")[0];
    const names = source.trainings[training];
    const along = names.some((name) => name.includes("@"));
    const roles = unique(names.map(roleOf));
    const steps = unique(names.flatMap((name) => name.split("@").slice(1)).map(Number)).sort((a, b) => a - b);
    const others = trainings
      .filter((one) => one !== training && !along)
      .flatMap((one) => unique(source.trainings[one].map(roleOf)).map((role) => `${role}:${one}`));
    const circuits = [...roles, ...others];
    const first = wish(roles, wanted.a, "arm");
    const second = wish(circuits.filter((one) => one !== first), wanted.b, "mdm");
    // The chapters' 5 % of all edges; of a large graph fewer, as more can't be seen.
    const fallback = pair.stops.findIndex((count) => count >= Math.min(Math.round(0.05 * pair.stops.at(-1)), 100));
    // The stop nearest to a size that was wished.
    const away = pair.stops.map((count) => Math.abs(count - Number(wanted.k)));
    const stop = Number(wanted.k) > 0 ? away.indexOf(Math.min(...away)) : -1;
    return {
      pairs: about.pairs,
      pair,
      options: { tasks, estimators, reads, trainings, roles, circuits, steps },
      source,
      task,
      estimator,
      read,
      training,
      along,
      first,
      second,
      step: along ? wish(steps, Number(wanted.step ?? NaN), steps.at(-1)) : null,
      stop: stop < 0 ? fallback : stop,
      view: wish(["over", "beside"], wanted.view),
      pick: wanted.pick ?? null,
    };
  }

  /* The address of what is chosen. */
  const address = (chosen) => ({
    pair: chosen.pair.name,
    task: chosen.task,
    training: chosen.training,
    read: chosen.options.reads.length > 1 ? chosen.read : null,
    estimator: chosen.estimator,
    step: chosen.step,
    a: chosen.first,
    b: chosen.second,
    k: chosen.pair.stops[chosen.stop],
    view: chosen.view === "over" ? null : chosen.view,
    pick: chosen.pick,
  });

  return { read, write, complete, address };
})();
