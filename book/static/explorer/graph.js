/* The graph: nodes, readers and edges by their place, as in mechshift_lib/circuits/graph/graph.py. */
"use strict";

mechshiftExplorer.graph = (about) => {
  const { n_layers: layers, n_heads: heads, n_kv_heads: kvHeads, kv, parallel } = about;
  const kvReaders = kv === "ungrouped" ? heads : kvHeads;
  const group = heads / kvReaders;

  const sources = [{ name: "input", layer: -1, kind: "input" }];
  const readers = [];
  for (let layer = 0; layer < layers; layer++) {
    const before = sources.length;
    const head = (h) => ({ name: `a${layer}.h${h}`, layer, head: h, kind: "head" });
    for (let h = 0; h < heads; h++) {
      readers.push({ ...head(h), part: "q", heads: [h], visible: before });
    }
    for (const part of ["k", "v"]) {
      for (let h = 0; h < kvReaders; h++) {
        // A grouped key or value is read by all query heads of its group.
        const shared = Array.from({ length: group }, (_, i) => h * group + i);
        readers.push({ ...head(h), part, heads: shared, visible: before });
      }
    }
    for (let h = 0; h < heads; h++) sources.push(head(h));
    const mlp = { name: `m${layer}`, layer, kind: "mlp" };
    readers.push({ ...mlp, part: "", visible: parallel ? before : before + heads });
    sources.push(mlp);
  }
  const logits = { name: "logits", layer: layers, kind: "logits" };
  readers.push({ ...logits, part: "", visible: sources.length });

  const ends = [];
  readers.forEach((reader) => {
    for (let source = 0; source < reader.visible; source++) ends.push([sources[source], reader]);
  });

  const readerName = (reader) => (reader.part ? `${reader.name}<${reader.part}>` : reader.name);
  const graph = {
    layers,
    heads,
    parallel,
    nEdges: ends.length,
    nodes: [...sources, logits],
    source: (edge) => ends[edge][0],
    reader: (edge) => ends[edge][1],
    name: (edge) => `${ends[edge][0].name}->${readerName(ends[edge][1])}`,
    /* Names of the nodes at which an edge ends: more than one where a key or value is shared. */
    endsAt: (edge) => {
      const reader = ends[edge][1];
      return reader.heads ? reader.heads.map((h) => `a${reader.layer}.h${h}`) : [reader.name];
    },
    touches: (edge, node) => ends[edge][0].name === node || graph.endsAt(edge).includes(node),
    edge: (name) => {
      graph.places ||= new Map(ends.map((_, edge) => [graph.name(edge), edge]));
      return graph.places.get(name);
    },
  };
  return graph;
};
