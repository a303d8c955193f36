/* What the worker answers. */
"use strict";

mechshiftPlay.part((play) => {
  const models = new Map();

  const CALLS = {
    /* Keep a model under its name; `about` is the content of its file. */
    load({ name, about }) {
      models.set(name, new play.Model(about, play.floats(about.data, about.dtype)));
    },
    /* A model's answer, in its own way: `{ steps, answer, took }`, the last ms a step. */
    answer({ name, prompt, n, asked, changes }) {
      const model = models.get(name);
      const began = performance.now();
      const found = model.mask === null ? play.write(model, prompt, n, changes) : play.denoise(model, prompt, n, asked, changes);
      return { ...found, took: (performance.now() - began) / Math.max(1, found.steps.length) };
    },
    /* Probabilities of what each cue names: `{ listed, targeted }`, or null. */
    cue({ name, conflict, changes }) {
      const shares = play.cue(models.get(name), conflict, changes);
      const sum = (ids) => ids.reduce((total, id) => total + shares[id], 0);
      return shares && { listed: sum(conflict.listed), targeted: sum(conflict.targeted) };
    },
    logits({ name, ids, changes }) {
      return models.get(name).run(ids, changes).logits;
    },
  };

  /* Answer a request; the answer is `{ id, value }` or `{ id, error }`. */
  play.serve = ({ id, call, about }) => {
    try {
      return { id, value: CALLS[call](about) };
    } catch (error) {
      return { id, error: error.message };
    }
  };

  play.listen = (scope) => {
    scope.onmessage = ({ data }) => scope.postMessage(play.serve(data));
  };
});
