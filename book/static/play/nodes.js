/* Nodes as buttons: one click ablates a node, or begins an edge that a second one ends. */
"use strict";

mechshiftPlay.nodes = (() => {
  const { escape } = mechshiftPlay;
  const made = new Map();

  /* Names of nodes and edges of a graph, as mechshift_lib/circuits/graph/graph.py has them. */
  function wiring({ layers, heads }) {
    const key = `${layers} ${heads}`;
    if (made.has(key)) return made.get(key);
    const sources = ["input"];
    const edges = new Map(); // name -> [source, reader]
    const readers = new Map(); // source -> names of those that read it
    const read = (reader) => sources.forEach((source) => {
      edges.set(`${source}->${reader}`, [source, reader]);
      readers.set(source, [...(readers.get(source) ?? []), reader]);
    });
    for (let layer = 0; layer < layers; layer++) {
      const own = Array.from({ length: heads }, (_, head) => `a${layer}.h${head}`);
      for (const part of ["q", "k", "v"]) own.forEach((head) => read(`${head}<${part}>`));
      sources.push(...own);
      read(`m${layer}`);
      sources.push(`m${layer}`);
    }
    read("logits");
    const found = { layers, heads, sources, edges, readers, ablated: new Set(sources.slice(1)) };
    made.set(key, found);
    return found;
  }

  const nodeOf = (reader) => reader.replace(/<.>$/, "");
  const partOf = (reader) => /<(.)>$/.exec(reader)?.[1] ?? "reads";
  const shown = (edge) => edge.replace("->", " → ");

  /* The grid: logits on top, layers below, the input at the bottom.

     `from`: the source of an edge that is begun, or null; `mode`: `node` or `edge`. */
  function grid({ graph, nodes, edges, mode, from }) {
    const open = from ? graph.readers.get(from) : [];
    const cell = (name, words) => {
      const off = nodes.includes(name);
      const may = mode === "node" ? graph.ablated.has(name) : name !== "logits";
      const ports = open.filter((reader) => nodeOf(reader) === name).map((reader) => {
        const edge = `${from}->${reader}`;
        return `<button type="button" class="port" data-edge="${escape(edge)}" aria-pressed="${edges.includes(edge)}" aria-label="${edges.includes(edge) ? "Mend" : "Cut"} ${escape(shown(edge))}, ${partOf(reader)}">${partOf(reader)}</button>`;
      });
      const said = words === "MLP" ? `MLP ${name}` : name;
      const say = mode === "node" ? `Ablate ${said}` : `Begin an edge at ${said}`;
      return `<td data-cell="${name}"><button type="button" class="node${off ? " off" : ""}" data-node="${name}" aria-label="${say}" aria-pressed="${mode === "node" ? off : from === name}" ${may ? "" : "disabled"}>${words}</button>${ports.length ? `<span class="ports">${ports.join("")}</span>` : ""}</td>`;
    };
    const rows = [];
    for (let layer = graph.layers - 1; layer >= 0; layer--) {
      const heads = Array.from({ length: graph.heads }, (_, head) => cell(`a${layer}.h${head}`, `h${head}`));
      rows.push(`<tr><th scope="row">${layer}</th>${heads.join("")}${cell(`m${layer}`, "MLP")}</tr>`);
    }
    const wide = (name) => cell(name, name).replace("<td", `<td colspan="${graph.heads + 1}"`);
    return `<table><thead><tr><th scope="col">layer</th><th scope="colgroup" colspan="${graph.heads}">heads</th><th scope="col">MLP</th></tr></thead>
      <tbody><tr><th></th>${wide("logits")}</tr>${rows.join("")}<tr><th></th>${wide("input")}</tr></tbody></table><svg class="lines" aria-hidden="true"></svg>`;
  }

  /* Lines of the edges that are cut, from node to node. */
  function lines(home, edges) {
    const svg = home.querySelector("svg.lines");
    const box = home.getBoundingClientRect();
    svg.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
    const middle = (name) => {
      const cell = home.querySelector(`[data-node="${name}"]`).getBoundingClientRect();
      return [cell.left + cell.width / 2 - box.left, cell.top + cell.height / 2 - box.top];
    };
    svg.innerHTML = edges.map((edge) => {
      const [source, reader] = edge.split("->");
      const [[x, y], [x2, y2]] = [middle(source), middle(nodeOf(reader))];
      // Within a column a line goes around the nodes between.
      const aside = x === x2 ? -32 : 0;
      return `<path d="M${x},${y} C${x + aside},${(y + y2) / 2} ${x2 + aside},${(y + y2) / 2} ${x2},${y2}"/>`;
    }).join("");
  }

  return { wiring, grid, lines, shown };
})();
