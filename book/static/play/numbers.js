/* Numbers: 16-bit weights, products of matrices, norms. All arrays are rows of 32-bit floats. */
"use strict";

mechshiftPlay.part((play) => {
  let table = null; // 16 bits -> the number that they stand for

  function halfTable() {
    const found = new Float32Array(1 << 16);
    for (let bits = 0; bits < found.length; bits++) {
      const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
      const size = exponent === 31 ? (fraction ? NaN : Infinity) : exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
      found[bits] = bits >> 15 ? -size : size;
    }
    return found;
  }

  /* Weights as they are stored, little-endian, as 32-bit floats. */
  play.floats = (text, dtype) => {
    const letters = atob(text);
    const bytes = new Uint8Array(letters.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
    if (dtype === "float32") return new Float32Array(bytes.buffer);
    table ??= halfTable();
    const halves = new Uint16Array(bytes.buffer);
    const found = new Float32Array(halves.length);
    for (let i = 0; i < halves.length; i++) found[i] = table[halves[i]];
    return found;
  };

  const upTo = (value, step) => Math.ceil(value / step) * step;

  /* Matrices of one model, and products with them. */
  class Matrices {
    /* `shapes`: name -> [rows, width] of each; `longest`: rows of what they are multiplied with. */
    constructor(shapes, longest) {
      this.places = new Map();
      let at = 0;
      for (const [name, [rows, width]] of Object.entries(shapes)) {
        this.places.set(name, { at, rows, width, stride: upTo(rows, 8) });
        at += width * upTo(rows, 8);
      }
      const widest = Math.max(...[...this.places.values()].flatMap(({ width, stride }) => [width, stride]));
      const scratch = upTo(longest, 4) * widest;
      // 8 more, as products take eight columns at a time from any column on.
      [this.from, this.to] = [at + 8, at + 8 + scratch];
      const memory = new WebAssembly.Memory({ initial: Math.ceil((4 * (this.to + scratch)) / 65536) });
      this.floats = new Float32Array(memory.buffer);
      this.multiply = play.multiplier(memory);
    }

    /* Keep a matrix [rows, width]; it is laid out the other way round. */
    set(name, values) {
      const { at, rows, width, stride } = this.places.get(name);
      for (let r = 0; r < rows; r++) {
        for (let c = 0; c < width; c++) this.floats[at + c * stride + r] = values[r * width + c];
      }
    }

    /* x · wᵀ (+ bias) with rows `first` to `first + count` of w: [length, width] to [length, count]. */
    project(name, x, bias = null, first = 0, count = null) {
      const { at, rows, width, stride } = this.places.get(name);
      const length = x.length / width;
      const wanted = count ?? rows;
      const columns = upTo(wanted, 8);
      this.floats.set(x, this.from);
      this.multiply(4 * this.from, 4 * (at + first), 4 * this.to, upTo(length, 4), width, columns, stride);
      const out = new Float32Array(length * wanted);
      for (let i = 0; i < length; i++) out.set(this.floats.subarray(this.to + i * columns, this.to + i * columns + wanted), i * wanted);
      if (bias) for (let i = 0; i < out.length; i++) out[i] += bias[first + (i % wanted)];
      return out;
    }
  }

  play.Matrices = Matrices;

  /* Root-mean-square norm of each row of [length, width], with its gain. */
  play.normed = (x, gain, epsilon) => {
    const width = gain.length;
    const out = new Float32Array(x.length);
    for (let start = 0; start < x.length; start += width) {
      let sum = 0;
      for (let c = 0; c < width; c++) sum += x[start + c] * x[start + c];
      const scale = 1 / Math.sqrt(sum / width + epsilon);
      for (let c = 0; c < width; c++) out[start + c] = x[start + c] * scale * gain[c];
    }
    return out;
  };

  /* Add `y` to `x` in place, `times` as much of it. */
  play.add = (x, y, times = 1) => {
    for (let i = 0; i < x.length; i++) x[i] += times * y[i];
    return x;
  };

  /* Softmax of a row of logits; `without`, an id, is impossible. */
  play.softmax = (logits, without = null) => {
    const out = Float64Array.from(logits);
    if (without !== null) out[without] = -Infinity;
    const most = out.reduce((a, b) => Math.max(a, b), -Infinity);
    let sum = 0;
    for (let i = 0; i < out.length; i++) sum += out[i] = Math.exp(out[i] - most);
    return out.map((value) => value / sum);
  };

  /* Index of the largest; of equals the first. */
  play.argmax = (values) => values.reduce((best, value, i) => (value > values[best] ? i : best), 0);
});
