/* What is said in words and numbers: the readout, what is picked, and the table of edges. */
"use strict";

mechshiftExplorer.panel = (() => {
  const escape = (text) => String(text).replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);
  const number = (value) => (Number.isFinite(value) ? value.toFixed(2).replace("-", "−") : "–");
  const percent = (value) => (Number.isFinite(value) ? `${Math.round(100 * value)} %` : "–");
  const score = (value) => (Number.isFinite(value) ? value.toPrecision(2).replace("-", "−") : "–");
  const place = (rank, last) => (rank < last ? (rank + 1).toLocaleString("en") : `above ${last.toLocaleString("en")}`);
  const shown = (edge) => escape(edge).replace("-&#62;", " → ").replace("->", " → ");

  /* The numbers at the slider, each with the mark of its curve. */
  function readout(rows) {
    const cells = rows.map(
      ({ kind, name, value, low, high }) => `<tr><td><span class="swatch ${kind}"></span></td><th scope="row">${escape(name)}</th>
        <td class="value" data-kind="${kind}" data-value="${value}">${number(value)}</td>
        <td class="range">${low === undefined ? "" : `${number(low)} to ${number(high)}`}</td></tr>`,
    );
    return `<table><tbody>${cells.join("")}</tbody></table>`;
  }

  /* What the models say of one edge.

     `models`: `{ name, score, rank, inside, halves, trainings }`, the last null or [in, of]. */
  function edge(name, models, last, shares) {
    const rows = models.map(
      (one) => `<tr class="${one.inside ? "inside" : ""}"><th scope="row">${escape(one.name)}</th>
        <td>${score(one.score)}</td><td>${one.inside ? "✓ " : ""}${place(one.rank, last)}</td>
        <td>${percent(one.halves)}</td><td>${one.trainings ? `${one.trainings[0]} of ${one.trainings[1]}` : "–"}</td></tr>`,
    );
    return `<h3>${shown(name)}</h3><table><thead><tr><th>model</th><th>score</th><th>rank</th>
      <th>halves</th><th>trainings</th></tr></thead><tbody>${rows.join("")}</tbody></table>
      <p class="note">Score: ${shares ? "share of the effect that is lost when the edge is corrupted" : "in units of the metric"}.
      ✓: in the circuit. Halves, trainings: in how many of their circuits of this size it is. Heads of different trainings
      have nothing in common but their place.</p>`;
  }

  /* The edges of a node that are shown, as a list of buttons. */
  function node(name, edges, kinds) {
    const items = edges.map(
      ({ edge: id, name: text, kind }) => `<li><button type="button" data-edge="${id}"><span class="swatch ${kind}"></span>${shown(text)}</button></li>`,
    );
    const counts = Object.entries(kinds).map(([kind, words]) => `${edges.filter((one) => one.kind === kind).length} ${words}`);
    return `<h3>${escape(name)}</h3><p>${edges.length ? counts.join(", ") : "No edge of it is in either circuit."}</p><ul>${items.join("")}</ul>`;
  }

  /* The edges as a table: `{ edge, name, words, first, second }`, the latter two score and rank. */
  function table(rows, names, last) {
    const cells = rows.map(
      ({ edge: id, name, words, first, second }) => `<tr><th scope="row"><button type="button" data-edge="${id}">${shown(name)}</button></th><td>${escape(words)}</td>
        <td>${score(first.score)}</td><td>${place(first.rank, last)}</td><td>${score(second.score)}</td><td>${place(second.rank, last)}</td></tr>`,
    );
    return `<table><thead><tr><th>edge</th><th>in</th>${names.map((one) => `<th>${escape(one)}: score</th><th>rank</th>`).join("")}</tr></thead>
      <tbody>${cells.join("")}</tbody></table>`;
  }

  return { readout, edge, node, table, escape, number };
})();
