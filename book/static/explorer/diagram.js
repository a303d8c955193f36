/* The diagram of two circuits: edges of both pale, edges of one strong. */
"use strict";

mechshiftExplorer.Diagram = class {
  /* `onPoint` and `onPick` get { edge } or { node } or null: what is under the pointer, what was
     clicked. */
  constructor(holder, { onPoint, onPick }) {
    Object.assign(this, { holder, onPoint, onPick, shown: [], pointed: null });
    holder.innerHTML = `<svg tabindex="0" role="application" aria-roledescription="circuit diagram">
      <g class="rows"></g><g class="edges"></g><g class="nodes"></g><g class="hot"></g></svg>`;
    this.svg = holder.firstElementChild;
    this.layers = Object.fromEntries(["rows", "edges", "nodes", "hot"].map((c) => [c, this.svg.querySelector(`.${c}`)]));
    this.svg.addEventListener("pointermove", (event) => this.point(this.under(event), event));
    this.svg.addEventListener("pointerleave", () => this.point(null));
    this.svg.addEventListener("click", (event) => this.onPick(this.under(event)));
    this.svg.addEventListener("keydown", (event) => this.key(event));
  }

  /* Lay a graph out anew, at the width that there is. */
  place(graph) {
    const available = Math.max(280, this.holder.clientWidth);
    if (this.graph === graph && this.available === available) return;
    this.graph = graph;
    this.available = available;
    this.layout = mechshiftExplorer.layout(graph, available);
    const { width, height, places, left, up, dense, box, PORTS } = this.layout;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("height", height);
    this.svg.classList.toggle("dense", dense);
    let rows = `<text class="axis start" x="4" y="${up(graph.layers - 1) - box.height - (dense ? 8 : 16)}">layer</text>`;
    for (let layer = 0; layer < graph.layers; layer++) {
      rows += `<text class="axis" x="${left - 18}" y="${up(layer) + 4}">${layer}</text>`;
    }
    this.layers.rows.innerHTML = rows;
    let nodes = "";
    for (const node of graph.nodes) {
      const { x, y, width: w, height: h } = places.get(node.name);
      const round = node.kind === "mlp" ? 2 : node.kind === "head" ? h / 2 : 6;
      nodes += `<g class="node ${node.kind}" data-node="${node.name}"><rect x="${x - w / 2}" y="${y - h / 2}" width="${w}" height="${h}" rx="${round}"></rect>`;
      nodes += `<text x="${x}" y="${y}">${node.name}</text>`;
      if (node.kind === "head") {
        for (const part of ["q", "k", "v"]) {
          const at = x + PORTS[part] * w;
          nodes += `<circle class="port" cx="${at}" cy="${y + h / 2}" r="${dense ? 1.6 : 2.4}"></circle>`;
          if (!dense) nodes += `<text class="part" x="${at + 3.4}" y="${y + h / 2 + 9}">${part}</text>`;
        }
      }
      nodes += "</g>";
    }
    this.layers.nodes.innerHTML = nodes;
  }

  /* Draw edges: `{ edge, kind, weight, faint }`, kind first, second or both, weight 0 to 1. */
  draw(edges, label) {
    this.shown = edges;
    this.svg.setAttribute("aria-label", label);
    const strongLast = [...edges].sort((a, b) => (b.kind === "both") - (a.kind === "both") || a.weight - b.weight);
    this.layers.edges.innerHTML = strongLast
      .map(({ edge, kind, weight }) => {
        const thick = (0.7 + 3.1 * Math.sqrt(weight)).toFixed(2);
        return `<path class="${kind}" d="${this.layout.path(edge).d}" stroke-width="${thick}"></path>`;
      })
      .join("");
    const kinds = new Map();
    for (const { edge, kind } of edges) {
      for (const node of [this.graph.source(edge).name, ...this.graph.endsAt(edge)]) {
        kinds.set(node, kinds.has(node) && kinds.get(node) !== kind ? "both" : kind);
      }
    }
    for (const node of this.layers.nodes.children) {
      const kind = kinds.get(node.dataset.node);
      for (const one of ["first", "second", "both"]) node.classList.toggle(one, one === kind);
    }
  }

  /* Show what is pointed at or picked. */
  light(target) {
    const key = target && (target.node ?? target.edge);
    const lit = !target ? [] : target.node ? this.shown.filter(({ edge }) => this.graph.touches(edge, target.node)) : [target];
    this.svg.classList.toggle("lit", key !== null && lit.length > 0);
    const kinds = new Map(this.shown.map(({ edge, kind }) => [edge, kind]));
    this.layers.hot.innerHTML = lit.map(({ edge }) => `<path class="${kinds.get(edge) ?? ""}" d="${this.layout.path(edge).d}"></path>`).join("");
    const ends = new Set(lit.flatMap(({ edge }) => [this.graph.source(edge).name, ...this.graph.endsAt(edge)]));
    if (target?.node) ends.add(target.node);
    for (const node of this.layers.nodes.children) node.classList.toggle("on", ends.has(node.dataset.node));
  }

  point(target, event) {
    const key = target && (target.node ?? target.edge);
    if (key === this.pointed) return;
    this.pointed = key;
    this.onPoint(target, event);
  }

  /* The node under the pointer, or else the nearest edge within a few pixels. */
  under(event) {
    const node = event.target.closest?.(".node");
    if (node) return { node: node.dataset.node };
    const box = this.svg.getBoundingClientRect();
    const scale = this.layout.width / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    let [best, nearest] = [null, 9 * Math.max(1, scale)];
    for (const { edge, kind } of this.shown) {
      // Where several meet, one that differs is what is looked for.
      const away = mechshiftExplorer.layout.distance(this.layout.path(edge).along, x, y) + (kind === "both" ? 2 : 0);
      if (away < nearest) [best, nearest] = [{ edge }, away];
    }
    return best;
  }

  /* Arrow keys go from edge to edge, the strongest first. */
  key(event) {
    const ordered = this.shown;
    const at = ordered.findIndex(({ edge }) => edge === this.chosen?.edge);
    const next = {
      ArrowDown: at + 1,
      ArrowRight: at + 1,
      ArrowUp: at < 0 ? 0 : at - 1,
      ArrowLeft: at < 0 ? 0 : at - 1,
      Home: 0,
      End: ordered.length - 1,
    }[event.key];
    if (event.key === "Escape") this.onPick(null);
    else if (next === undefined || !ordered.length) return;
    else this.onPick({ edge: ordered[Math.max(0, Math.min(ordered.length - 1, next))].edge });
    event.preventDefault();
  }
};
