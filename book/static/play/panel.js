/* What the models say: their canvas, probabilities place by place, answers, cues. */
"use strict";

mechshiftPlay.escape = (text) => String(text).replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);

mechshiftPlay.panel = (() => {
  const { escape } = mechshiftPlay;
  const BEST = 3; // likeliest tokens that are named
  const percent = (value) => (value === null ? "–" : value > 0.9995 ? "100 %" : `${(100 * value).toFixed(1)} %`);
  /* Whether right and wrong answer have the same token at a place. */
  const same = (example, i) => String(example.right[i]) === String(example.wrong[i]);
  const sum = (shares, ids) => ids.reduce((total, id) => total + shares[id], 0);

  /* The text that a model has before it at a step: `{ prompt, answer, after, now }`, ids, null where
     a place is empty; `now`: places that are filled next. */
  function canvas({ prompt, answer, after, now, blind }, tokenizer) {
    const token = (id, kind) => `<span class="token ${kind}">${escape(tokenizer.word(id))}</span>`;
    const place = (id, i) => {
      const kind = `place${now.includes(i) ? " now" : ""}${id === null ? " empty" : ""}`;
      const said = id === null ? '<span class="visually-hidden">empty</span>' : escape(tokenizer.word(id));
      return `<span class="token ${kind}">${said}</span>`;
    };
    const behind = after.map((id) => token(id, blind ? "unseen" : ""));
    return [...prompt.map((id) => token(id, "")), ...answer.map(place), ...behind].join(" ");
  }

  /* One row a place: what the model holds likely there, and how likely right and wrong tokens are. */
  function places(found, step, example, tokenizer) {
    const rows = found.answer.map((_, i) => {
      let shares = null;
      for (let at = Math.min(step, found.steps.length - 1); at >= 0 && !shares; at--) shares = found.steps[at].probabilities[i];
      const best = shares ? Array.from(shares.keys()).sort((a, b) => shares[b] - shares[a]).slice(0, BEST) : [];
      const words = best.map((id) => `<span class="guess" style="--share:${shares[id].toFixed(3)}">${escape(tokenizer.word(id))} <small>${percent(shares[id])}</small></span>`);
      const own = example
        ? `<td class="share" data-value="${shares ? sum(shares, example.right[i]) : ""}">${percent(shares && sum(shares, example.right[i]))}</td><td>${same(example, i) ? "–" : percent(shares && sum(shares, example.wrong[i]))}</td>`
        : "";
      return `<tr><th scope="row">${i + 1}</th>${own}<td class="guesses">${words.join(" ") || "not asked yet"}</td></tr>`;
    });
    const heads = example ? '<th scope="col">right</th><th scope="col">wrong</th>' : "";
    return `<table><thead><tr><th scope="col">place</th>${heads}<th scope="col">likeliest</th></tr></thead><tbody>${rows.join("")}</tbody></table>`;
  }

  const words = (ids, tokenizer) => ids.map((id) => tokenizer.word(id)).join(" ");

  /* The whole answer, beside that of the model as it is, and the example's. */
  function answers(found, intact, example, tokenizer) {
    const text = words(found.answer, tokenizer);
    const own = example ? example.answer.every((_, i) => example.right[i].includes(found.answer[i])) : null;
    const mark = own === null ? "" : own ? " <span class='good'>✓ as in the example</span>" : " <span class='bad'>✗ not as in the example</span>";
    const before = intact ? `<br>Unchanged: <span class="answer">${escape(words(intact.answer, tokenizer))}</span>` : "";
    return `Answer: <strong class="answer">${escape(text)}</strong>${mark}${before}`;
  }

  /* Probabilities of what elimination and what the target names, by model. */
  function cue(conflict, rows, tokenizer) {
    const bar = (value, kind) => `<td class="value" data-kind="${kind}" data-value="${value ?? ""}"><span class="bar ${kind}" style="--share:${(value ?? 0).toFixed(3)}"></span>${percent(value)}</td>`;
    const cells = rows.map(({ role, name, shares }) => `<tr data-role="${role}"><th scope="row">${escape(name)}</th>${
      shares ? bar(shares.listed, "listed") + bar(shares.targeted, "targeted") : '<td colspan="2">can’t be asked: it doesn’t see what stands to its right</td>'
    }</tr>`);
    const named = (ids) => ids.map((id) => escape(tokenizer.word(id))).join(" or ");
    return `<p class="question">${escape(conflict.text)}</p><table><thead><tr><th scope="col">model</th>
      <th scope="col">what is left: ${named(conflict.listed)}</th><th scope="col">what the target needs: ${named(conflict.targeted)}</th></tr></thead><tbody>${cells.join("")}</tbody></table>`;
  }

  return { canvas, places, answers, cue, words };
})();
