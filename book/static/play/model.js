/* A Llama or Qwen2: what transformers computes, with nodes ablated, edges cut, positions hidden.

   Nodes are `input`, heads `a{layer}.h{head}` and MLPs `m{layer}`; readers are those of
   mechshift_lib/circuits/graph/graph.py: `a{layer}.h{head}<q>`, `<k>`, `<v>`, `m{layer}`, `logits`. */
"use strict";

mechshiftPlay.part((play) => {
  const { normed, add } = play;

  class Model {
    /* `about`: the model's part of its file (mechshift_lib/play/files.py); `data`: its weights. */
    constructor(about, data) {
      Object.assign(this, about.config);
      this.weights = {}; // gains, biases, and the embedding
      const shapes = Object.fromEntries(about.tensors.filter(([, shape]) => shape.length > 1));
      shapes.unembed ??= shapes.embed; // tied
      this.matrices = new play.Matrices(shapes, this.positions);
      let at = 0;
      for (const [name, shape] of about.tensors) {
        const length = shape.reduce((a, b) => a * b);
        const values = data.subarray(at, at + length);
        at += length;
        if (shape.length === 1 || name === "embed") this.weights[name] = values.slice();
        if (shape.length > 1 && name !== "embed") this.matrices.set(name, values);
        if (name === "embed" && !about.tensors.some(([other]) => other === "unembed")) this.matrices.set("unembed", values);
      }
      this.angles = this.rotations();
    }

    /* Cosines and sines of rotary positions, rounded where torch rounds: [position, d_head / 2]. */
    rotations() {
      const { fround } = Math;
      const half = this.dHead / 2;
      const [cos, sin] = [new Float32Array(this.positions * half), new Float32Array(this.positions * half)];
      for (let i = 0; i < half; i++) {
        const step = fround(1 / fround(this.theta ** ((2 * i) / this.dHead)));
        for (let p = 0; p < this.positions; p++) {
          const angle = fround(p * step);
          [cos[p * half + i], sin[p * half + i]] = [Math.cos(angle), Math.sin(angle)];
        }
      }
      return { cos, sin };
    }

    /* Names of all nodes that write, in the order in which they do. */
    get sources() {
      const layers = Array.from({ length: this.layers }, (_, l) => [...Array.from({ length: this.heads }, (_, h) => `a${l}.h${h}`), `m${l}`]);
      return ["input", ...layers.flat()];
    }

    /* One pass over `ids`.

       `nodes`: names of nodes that are ablated for everyone; `edges`: [source, reader] that are cut,
       so that this reader alone takes in what stands in for the source's output; `instead`: what
       that is, a Map from a source to [length, width], zero where it has none; `hidden`: positions
       that only hidden ones see; `keep`: sources whose outputs are wanted.

       Gives `logits`, [length, vocabulary], and `wrote`, a Map from source to output. */
    run(ids, { nodes = [], edges = [], instead = new Map(), hidden = [], keep = [] } = {}) {
      this.check(ids);
      const { weights: w, matrices, width, dHead, heads, layers, epsilon } = this;
      const length = ids.length;
      const ablated = new Set(nodes);
      const cuts = new Map(); // reader -> sources
      for (const [source, reader] of edges) cuts.set(reader, [...(cuts.get(reader) ?? []), source]);
      const wanted = new Set([...keep, ...edges.map(([source]) => source)]);
      const wrote = new Map();
      const blocked = this.blocked(length, hidden);

      const x = new Float32Array(length * width);
      ids.forEach((id, i) => x.set(w.embed.subarray(id * width, (id + 1) * width), i * width));
      if (wanted.has("input")) wrote.set("input", x.slice());

      /* What a reader takes in: the stream, but for the edges that are cut. */
      const taken = (reader) => {
        const sources = cuts.get(reader);
        if (!sources) return x;
        const changed = x.slice();
        for (const source of sources) {
          add(changed, wrote.get(source), -1);
          if (instead.has(source)) add(changed, instead.get(source));
        }
        return changed;
      };

      for (let layer = 0; layer < layers; layer++) {
        // 1. Attention: queries, keys and values of each head, of what it takes in
        const own = (name) => w[`${layer}.${name}`];
        const read = this.reads(layer, taken, cuts, normed(x, own("attn_norm"), epsilon));
        const z = new Float32Array(length * heads * dHead);
        for (let head = 0; head < heads; head++) {
          if (!ablated.has(`a${layer}.h${head}`)) this.attend(read, head, blocked, z);
        }
        const attended = matrices.project(`${layer}.o`, z);
        for (let head = 0; head < heads; head++) {
          const name = `a${layer}.h${head}`;
          if (ablated.has(name) && instead.has(name)) add(attended, instead.get(name));
          if (!wanted.has(name)) continue;
          const given = instead.get(name) ?? new Float32Array(length * width);
          wrote.set(name, ablated.has(name) ? given : this.headOutput(layer, head, z));
        }
        add(x, attended);
        // 2. The MLP
        const name = `m${layer}`;
        let output = instead.get(name) ?? new Float32Array(length * width);
        if (!ablated.has(name)) {
          const input = normed(taken(name), own("mlp_norm"), epsilon);
          const [gate, up] = ["gate", "up"].map((part) => matrices.project(`${layer}.${part}`, input));
          for (let i = 0; i < gate.length; i++) up[i] *= gate[i] / (1 + Math.exp(-gate[i]));
          output = matrices.project(`${layer}.down`, up);
        }
        if (wanted.has(name)) wrote.set(name, output);
        add(x, output);
      }
      return { logits: matrices.project("unembed", normed(taken("logits"), w.norm, epsilon)), wrote };
    }

    check(ids) {
      if (!ids.length) throw new Error("there is nothing to read: type a prompt");
      if (ids.length > this.positions) throw new Error(`${ids.length} tokens are more than the ${this.positions} that this model reads: shorten the prompt`);
    }

    /* What queries may not see: [query, key]. Hidden positions see each other, others don't see them. */
    blocked(length, hidden) {
      const found = new Uint8Array(length * length);
      const unseen = new Set(hidden);
      for (let i = 0; i < length; i++) {
        for (let j = 0; j < length; j++) {
          found[i * length + j] = (this.attention === "causal" && j > i) || (unseen.has(j) && !unseen.has(i));
        }
      }
      return found;
    }

    /* Queries, keys (both rotated) and values by head: { from, at, step }, a head's numbers of token
       i standing in `from` from `at + i * step` on. Heads with a cut edge have their own. */
    reads(layer, taken, cuts, shared) {
      const { dHead, heads, kvHeads, epsilon } = this;
      const read = {};
      for (const part of ["q", "k", "v"]) {
        const [name, bias] = [`${layer}.${part}`, this.weights[`${layer}.${part}_bias`]];
        const count = part === "q" ? heads : kvHeads;
        const all = this.matrices.project(name, shared, bias);
        if (part !== "v") this.rotate(all, count);
        read[part] = Array.from({ length: heads }, (_, head) => {
          const place = Math.floor((head * count) / heads); // heads of a group share key and value
          const reader = `a${layer}.h${head}<${part}>`;
          if (!cuts.has(reader)) return { from: all, at: place * dHead, step: count * dHead };
          const input = normed(taken(reader), this.weights[`${layer}.attn_norm`], epsilon);
          const from = this.matrices.project(name, input, bias, place * dHead, dHead);
          if (part !== "v") this.rotate(from, 1);
          return { from, at: 0, step: dHead };
        });
      }
      return read;
    }

    /* Turn each head of [length, count, dHead] by its position, in place. */
    rotate(x, count) {
      const { dHead, angles } = this;
      const half = dHead / 2;
      for (let start = 0; start < x.length; start += dHead) {
        const turn = Math.floor(start / (count * dHead)) * half;
        for (let i = 0; i < half; i++) {
          const a = x[start + i], b = x[start + half + i];
          const cos = angles.cos[turn + i], sin = angles.sin[turn + i];
          x[start + i] = a * cos - b * sin;
          x[start + half + i] = b * cos + a * sin;
        }
      }
    }

    /* One head's mean of values, written into its columns of `z`, [length, heads * dHead]. */
    attend(read, head, blocked, z) {
      const { dHead, heads } = this;
      const { from: queries, at: q0, step: qStep } = read.q[head];
      const { from: keys, at: k0, step: kStep } = read.k[head];
      const { from: values, at: v0, step: vStep } = read.v[head];
      const length = z.length / (heads * dHead);
      const scale = 1 / Math.sqrt(dHead);
      const scores = new Float64Array(length);
      for (let i = 0; i < length; i++) {
        const q = q0 + i * qStep;
        let most = -Infinity;
        for (let j = 0; j < length; j++) {
          let sum = -Infinity;
          if (!blocked[i * length + j]) {
            const k = k0 + j * kStep;
            sum = 0;
            for (let c = 0; c < dHead; c++) sum += queries[q + c] * keys[k + c];
            sum *= scale;
          }
          scores[j] = sum;
          if (sum > most) most = sum;
        }
        let total = 0;
        for (let j = 0; j < length; j++) total += scores[j] = Math.exp(scores[j] - most);
        const start = (i * heads + head) * dHead;
        for (let j = 0; j < length; j++) {
          const share = scores[j] / total;
          const v = v0 + j * vStep;
          if (share > 0) for (let c = 0; c < dHead; c++) z[start + c] += share * values[v + c];
        }
      }
    }

    /* What one head adds to the stream, [length, width]. */
    headOutput(layer, head, z) {
      const { dHead, heads } = this;
      const alone = new Float32Array(z.length);
      for (let start = head * dHead; start < z.length; start += heads * dHead) alone.set(z.subarray(start, start + dHead), start);
      return this.matrices.project(`${layer}.o`, alone);
    }
  }

  play.Model = Model;
});
