/* Circuits and where they come from.

   Files are loaded as scripts, as a page that is opened from a folder may load nothing else. Their
   form is described in mechshift_lib/explorer/files.py. */
"use strict";

var mechshiftExplorer = (() => {
  const base = document.currentScript.src.replace(/[^/]*$/, "");
  const waiting = new Map(); // name -> what to call with a file's content
  const loaded = new Map(); // name -> promise of its Training
  let told = null;

  function addScript(name) {
    return new Promise((done, fail) => {
      const script = document.createElement("script");
      script.src = `${base}${name}.js`;
      script.onload = done;
      script.onerror = () => fail(new Error(`${name}.js isn't there`));
      document.head.append(script);
    });
  }

  async function inflated(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).arrayBuffer();
  }

  /* The circuits of one training on one task, by name. Edges are rows here: `edges[row]` is an
     edge's place in the graph. */
  class Training {
    constructor(about, block, graph, stops) {
      Object.assign(this, { names: about.names, n: about.n, shares: about.shares });
      this.halves = about.halves;
      this.stops = stops;
      const whole = about.edges === 0;
      const count = whole ? graph.nEdges : about.edges;
      let at = 0;
      const floats = (length) => new Float32Array(block, at, length);
      this.edges = whole ? Int32Array.from({ length: count }, (_, i) => i) : new Int32Array(block, 0, count);
      at += whole ? 0 : 4 * count;
      this.scores = new Map();
      for (const name of about.names) {
        this.scores.set(name, floats(count));
        at += 4 * count;
      }
      this.overlap = new Map();
      for (const pair of about.pairs) {
        const rows = [0, 1, 2].map((row) => new Float32Array(block, at + 4 * row * stops.length, stops.length));
        this.overlap.set(pair.join("|"), rows);
        at += 12 * stops.length;
      }
      this.entering = new Uint8Array(block, at);
      this.rowOf = new Map(Array.from(this.edges, (edge, row) => [edge, row]));
      this.orders = new Map();
    }

    /* Rows of a circuit's edges, the strongest first; of equal scores the earlier edge first. */
    order(name) {
      if (!this.orders.has(name)) {
        const size = this.scores.get(name).map(Math.abs);
        const rows = Int32Array.from(size, (_, row) => row).sort((i, j) => size[j] - size[i] || i - j);
        const rank = new Int32Array(rows.length);
        rows.forEach((row, place) => (rank[row] = place));
        this.orders.set(name, { rows, rank });
      }
      return this.orders.get(name);
    }

    /* Rank of an edge of the graph, 0 the strongest; Infinity where the file hasn't got it. */
    rank(name, edge) {
      const row = this.rowOf.get(edge);
      return row === undefined ? Infinity : this.order(name).rank[row];
    }

    score(name, edge) {
      const row = this.rowOf.get(edge);
      return row === undefined ? NaN : this.scores.get(name)[row];
    }

    /* Edges of the circuit of `count` edges, the strongest first. */
    top(name, count) {
      return Array.from(this.order(name).rows.subarray(0, count), (row) => this.edges[row]);
    }

    /* Share of the examples' halves in whose circuit an edge is, at a stop; NaN where unknown. */
    inclusion(name, edge, stop) {
      const row = this.rowOf.get(edge);
      if (!this.halves || row === undefined) return NaN;
      const start = (this.names.indexOf(name) * this.edges.length + row) * this.stops.length;
      let count = 0;
      for (let at = start; at <= start + stop; at++) count += this.entering[at];
      return count / this.halves;
    }
  }

  return {
    Training,
    index(content) {
      told = content;
    },
    add(name, content) {
      waiting.get(name)(content);
    },
    /* What there is: pairs, labels and colours. */
    async about() {
      if (!told) await addScript("index");
      return told;
    },
    /* The circuits of a file, such as "tiny-qwen/ioi.exact.all.0". */
    training(name, graph, stops) {
      if (!loaded.has(name)) {
        const content = new Promise((done) => waiting.set(name, done));
        const all = addScript(name).then(async () => {
          const about = await content;
          return new Training(about, await inflated(about.data), graph, stops);
        });
        all.catch(() => loaded.delete(name)); // so that another try is possible
        loaded.set(name, all);
      }
      return loaded.get(name);
    },
  };
})();
