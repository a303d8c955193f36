/* How models are asked: greedy writing, and a canvas filled step by step, as
   mechshift_lib/diffusion/samplers.py has them; what is changed is changed in every pass.

   `changes`: `{ nodes, edges, corrupted, corruptedAfter, cutWaiting }`. Ablated nodes and cut edges
   carry what they do on the corrupted prompt, which has as many tokens; without one, nothing. */
"use strict";

mechshiftPlay.part((play) => {
  const { softmax, argmax } = play;

  /* Logits of `ids`, with the changes; `others` is the corrupted input, or null. */
  function logits(model, ids, others, { nodes = [], edges = [] }, hidden = []) {
    const keep = [...new Set([...nodes, ...edges.map(([source]) => source)])];
    const instead = others && keep.length ? model.run(others, { keep }).wrote : new Map();
    return model.run(ids, { nodes, edges, instead, hidden }).logits;
  }

  const row = (model, found, position) => found.subarray(position * model.vocabulary, (position + 1) * model.vocabulary);

  /* An ARM's greedy continuation by `n` tokens.

     Gives a step for each: `{ answer, probabilities, revealed }`: the tokens before it, the
     probabilities at the place that is written next (null elsewhere), and that place. */
  play.write = (model, prompt, n, changes = {}) => {
    const [answer, steps] = [[], []];
    for (let i = 0; i < n; i++) {
      const others = changes.corrupted && [...changes.corrupted, ...answer];
      const found = logits(model, [...prompt, ...answer], others, changes);
      const last = row(model, found, prompt.length + i - 1);
      const probabilities = Array(n).fill(null);
      probabilities[i] = softmax(last);
      steps.push({ answer: pad([...answer], n), probabilities, revealed: [i] });
      answer.push(argmax(last));
    }
    return { steps, answer };
  };

  const pad = (answer, n) => [...answer, ...Array(n - answer.length).fill(null)];

  /* How many tokens each step reveals: as even as can be, the first steps one more. */
  play.revealCounts = (n, wanted) => {
    const steps = Math.min(wanted ?? n, n);
    return Array.from({ length: steps }, (_, i) => Math.floor(n / steps) + (i < n % steps ? 1 : 0));
  };

  /* How sure a model is of a place, by the order's name. */
  const SURE = {
    maskgit_plus: (shares) => shares.reduce((a, b) => Math.max(a, b)),
    topk_margin: (shares) => {
      const best = argmax(shares);
      return shares[best] - shares.reduce((most, share, i) => (i === best ? most : Math.max(most, share)), 0);
    },
    entropy: (shares) => shares.reduce((sum, share) => sum + (share ? share * Math.log(share) : 0), 0),
  };

  /* Fill a canvas of the prompt, `n` masks and what follows.

     `order`: one of samplers.ORDERS; `draws`: priorities of the places for `random`; `steps`: as
     many as tokens by default. The mask itself is never chosen, and what is revealed stays. With
     `changes.cutWaiting` no other position sees the masks that wait: all but the one that is asked
     for and the one whose position it is read at. Each place is then asked in a pass of its own. */
  play.denoise = (model, prompt, n, { after = [], order, draws = [], steps: wanted = null }, changes = {}) => {
    const answer = Array(n).fill(null);
    const steps = [];
    const canvas = (before, behind) => [...before, ...answer.map((id) => id ?? model.mask), ...behind];
    for (const count of n ? play.revealCounts(n, wanted) : []) {
      const ids = canvas(prompt, after);
      const others = changes.corrupted && canvas(changes.corrupted, changes.corruptedAfter ?? []);
      const waiting = answer.flatMap((id, i) => (id === null ? [i] : []));
      const whole = changes.cutWaiting ? null : logits(model, ids, others, changes);
      const probabilities = Array(n).fill(null);
      for (const i of waiting) {
        const read = prompt.length + i + model.shift;
        const hidden = waiting.map((j) => prompt.length + j).filter((position) => position !== prompt.length + i && position !== read);
        probabilities[i] = softmax(row(model, whole ?? logits(model, ids, others, changes, hidden), read), model.mask);
      }
      const priority = (i) => (order === "left-to-right" ? -i : order === "random" ? draws[i] : SURE[order](probabilities[i]));
      const ranked = waiting.map((i) => [priority(i), i]).sort(([a, i], [b, j]) => b - a || i - j);
      const revealed = ranked.slice(0, count).map(([, i]) => i).sort((i, j) => i - j);
      steps.push({ answer: [...answer], probabilities, revealed });
      for (const i of revealed) answer[i] = argmax(probabilities[i]);
    }
    return { steps, answer };
  };

  /* Probabilities at one place of an answer of which some tokens are known: what each cue names.

     `asked`: as mechshift_lib.tasks.cues.Conflict: prompt, n, revealed (index -> id), at. Null where
     the model can't be asked so: an ARM that something to the right is revealed to. */
  play.cue = (model, { prompt, n, revealed, at }, changes = {}) => {
    const known = Object.keys(revealed).map(Number);
    let ids = [...prompt, ...Array.from({ length: at }, (_, i) => revealed[i])];
    if (model.mask === null) {
      if (known.some((i) => i > at)) return null;
    } else {
      ids = [...prompt, ...Array.from({ length: n }, (_, i) => revealed[i] ?? model.mask)];
    }
    const read = prompt.length + at + model.shift;
    const waits = (i) => changes.cutWaiting && model.mask !== null && revealed[i] === undefined && i !== at && prompt.length + i !== read;
    const hidden = Array.from({ length: n }, (_, i) => i).filter(waits).map((i) => prompt.length + i);
    return softmax(row(model, logits(model, ids, null, changes, hidden), read));
  };
});
