/* Where nodes and edges are drawn: layers from the bottom up, heads beside each other, each layer's
   MLP to the right of its heads and half a row above them, because it reads them. */
"use strict";

mechshiftExplorer.layout = (graph, available) => {
  const columns = graph.heads + 1;
  const dense = graph.layers > 12;
  const left = 34; // room for the layers' numbers
  const column = Math.max(dense ? 50 : 62, (available - left - 8) / columns);
  const width = left + column * columns + 8;
  const row = dense ? 46 : 92;
  const box = { width: Math.min(dense ? 42 : 62, column * 0.62), height: dense ? 15 : 24 };
  const bar = 26;
  const bottom = 14 + bar + row * 0.75 + row * (graph.layers - 1) + box.height + row * 0.62;
  const height = bottom + bar + 14;

  const across = (index) => left + column * (index + 0.5);
  const up = (layer) => bottom - row * 0.62 - box.height / 2 - row * layer;
  const places = new Map();
  for (const node of graph.nodes) {
    if (node.kind === "input" || node.kind === "logits") {
      const y = node.kind === "input" ? bottom + bar / 2 : 14 + bar / 2;
      places.set(node.name, { x: left + (column * columns) / 2, y, width: column * columns - 12, height: bar });
    } else {
      const mlp = node.kind === "mlp";
      const y = up(node.layer) - (mlp && !graph.parallel ? row * 0.5 : 0);
      places.set(node.name, { x: across(mlp ? graph.heads : node.head), y, ...box });
    }
  }

  const PORTS = { q: -0.3, k: 0, v: 0.3, "": 0 };
  /* Where an edge enters its reader; a shared key or value between the heads of its group. */
  function port(reader) {
    if (!reader.heads) {
      const place = places.get(reader.name);
      return { x: place.x, y: place.y + place.height / 2 };
    }
    const own = reader.heads.map((h) => places.get(`a${reader.layer}.h${h}`));
    const x = own.reduce((sum, place) => sum + place.x, 0) / own.length;
    return { x: x + PORTS[reader.part] * box.width, y: own[0].y + box.height / 2 };
  }

  /* Points of a path from a source up to a reader. A long way goes through the gutter beside the
     reader's column, so that it never crosses a node; edges are spread over the gutter. */
  function points(edge) {
    const [source, reader] = [graph.source(edge), graph.reader(edge)];
    const from = places.get(source.name);
    const end = port(reader);
    const start = { x: from.x, y: from.y - from.height / 2 };
    const lane = ((edge * 7919) % 13) / 13 - 0.5;
    if (reader.kind === "logits") end.x = start.x + (source.kind === "input" ? 0 : lane * 10);
    const far = start.y - end.y > row * (source.kind === "input" ? 1.1 : 1.25);
    let side = Math.sign(start.x - end.x) || (edge % 2 ? 1 : -1);
    if (source.kind === "input") side = edge % 2 ? 1 : -1;
    if (end.x + side * column * 0.5 > width - 8) side = -1;
    if (end.x + side * column * 0.5 < left) side = 1;
    const middle = reader.kind === "logits" ? end.x : port({ ...reader, part: "" }).x;
    const gutter = middle + side * column * 0.5 + lane * Math.max(6, column * 0.5 - box.width * 0.5);
    if (source.kind === "input") start.x = far ? gutter : end.x + lane * 8;
    if (reader.kind === "logits" && far) end.x = gutter;
    return { start, end, gutter: far ? gutter : null };
  }

  const paths = new Map();
  /* An edge's path, as SVG has it, and points along it for finding what the pointer is near. */
  function path(edge) {
    if (!paths.has(edge)) paths.set(edge, drawn(points(edge)));
    return paths.get(edge);
  }

  function drawn({ start, end, gutter }) {
    const r = row * 0.55;
    const cubics =
      gutter === null
        ? [[start, { x: start.x, y: start.y - (start.y - end.y) * 0.5 }, { x: end.x, y: end.y + (start.y - end.y) * 0.5 }, end]]
        : [
            [start, { x: start.x, y: start.y - r * 0.6 }, { x: gutter, y: start.y - r * 0.4 }, { x: gutter, y: start.y - r }],
            [{ x: gutter, y: start.y - r }, { x: gutter, y: start.y - r }, { x: gutter, y: end.y + r }, { x: gutter, y: end.y + r }],
            [{ x: gutter, y: end.y + r }, { x: gutter, y: end.y + r * 0.4 }, { x: end.x, y: end.y + r * 0.6 }, end],
          ];
    const n = (value) => value.toFixed(1);
    let d = `M${n(start.x)} ${n(start.y)}`;
    const along = [];
    for (const [a, b, c, e] of cubics) {
      d += `C${[b, c, e].map((p) => `${n(p.x)} ${n(p.y)}`).join(" ")}`;
      for (let t = 0; t < 1; t += 0.125) {
        const u = 1 - t;
        const mix = (k) => u * u * u * a[k] + 3 * u * u * t * b[k] + 3 * u * t * t * c[k] + t * t * t * e[k];
        along.push([mix("x"), mix("y")]);
      }
    }
    along.push([end.x, end.y]);
    return { d, along };
  }

  return { width, height, places, port, path, dense, across, up, left, box, PORTS };
};

/* Distance of a point from an edge's path, between the points along it. */
mechshiftExplorer.layout.distance = (along, x, y) => {
  let best = Infinity;
  for (let i = 1; i < along.length; i++) {
    const [[ax, ay], [bx, by]] = [along[i - 1], along[i]];
    const [dx, dy] = [bx - ax, by - ay];
    const t = Math.max(0, Math.min(1, ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1)));
    best = Math.min(best, Math.hypot(x - ax - t * dx, y - ay - t * dy));
  }
  return best;
};
