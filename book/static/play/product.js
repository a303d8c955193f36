/* A product of matrices in WebAssembly, four tokens and eight columns at a time.

   The module is put together here, byte by byte (WebAssembly core specification 2.0, section 5), so
   that nothing has to be compiled beforehand: `multiply(x, w, out, length, width, columns, stride)`
   writes x · w, where x is [length, width], w [width, columns] with `stride` numbers from row to row,
   and out [length, columns], all 32-bit floats at byte addresses. `length` is a multiple of 4 and
   `columns` of 8. */
"use strict";

mechshiftPlay.part((play) => {
  // Numbers are written seven bits a byte, low ones first (LEB128).
  const leb = (value) => (value < 128 ? [value] : [(value & 127) | 128, ...leb(value >> 7)]);
  const sized = (bytes) => [...leb(bytes.length), ...bytes];
  const vector = (items) => [...leb(items.length), ...items.flat()];
  const section = (id, content) => [id, ...sized(content)];
  const text = (word) => sized([...word].map((letter) => letter.charCodeAt(0)));

  const [I32, V128, LOOP, BR_IF, END] = [0x7f, 0x7b, 0x03, 0x0d, 0x0b];
  const get = (local) => [0x20, local];
  const set = (local, ...value) => [...value.flat(), 0x21, local];
  const number = (value) => [0x41, value]; // 0 to 63
  const plus = (...values) => [...values.slice(0, 2).flat(), 0x6a, ...values.slice(2).flatMap((one) => [...one, 0x6a])];
  const times = (a, b) => [...a, ...b, 0x6c];
  const bytes = (a) => [...a, ...number(2), 0x74]; // of so many floats
  const load = (address, offset = 0) => [...address, 0xfd, 0x00, 4, offset];
  const spread = (address) => [...address, 0xfd, 0x09, 2, 0]; // one float, four times
  const store = (address, value, offset) => [...address, ...value, 0xfd, 0x0b, 4, offset];
  const zeros = [0xfd, 0x0c, ...Array(16).fill(0)];
  const multiplyAdd = (sum, a, b) => set(sum, get(sum), a, b, [0xfd, 0xe6, 0x01], [0xfd, 0xe4, 0x01]);
  /* Do `body` while `local`, which grows by `step`, is below `end`; at least once. */
  const loop = (local, end, step, body) => [LOOP, 0x40, ...body, ...set(local, plus(get(local), number(step))), ...get(local), ...get(end), 0x49, BR_IF, 0, END];

  function module() {
    const [X, W, OUT, LENGTH, WIDTH, COLUMNS, STRIDE] = [0, 1, 2, 3, 4, 5, 6];
    const [row, column, inner, atW] = [7, 8, 9, 10];
    const atX = [11, 12, 13, 14]; // of four tokens
    const [low, high, one] = [15, 16, 17];
    const sums = [18, 19, 20, 21, 22, 23, 24, 25]; // two of each token
    const innermost = [
      ...set(low, load(get(atW))),
      ...set(high, load(get(atW), 16)),
      ...atX.flatMap((at, k) => [
        ...set(one, spread(get(at))),
        ...multiplyAdd(sums[2 * k], get(one), get(low)),
        ...multiplyAdd(sums[2 * k + 1], get(one), get(high)),
        ...set(at, plus(get(at), number(4))),
      ]),
      ...set(atW, plus(get(atW), bytes(get(STRIDE)))),
    ];
    const block = [
      ...sums.flatMap((sum) => set(sum, zeros)),
      ...atX.flatMap((at, k) => set(at, plus(get(X), bytes(times(plus(get(row), number(k)), get(WIDTH)))))),
      ...set(atW, plus(get(W), bytes(get(column)))),
      ...set(inner, number(0)),
      ...loop(inner, WIDTH, 1, innermost),
      ...atX.flatMap((_, k) => {
        const place = plus(get(OUT), bytes(plus(times(plus(get(row), number(k)), get(COLUMNS)), get(column))));
        return [...store(place, get(sums[2 * k]), 0), ...store(place, get(sums[2 * k + 1]), 16)];
      }),
    ];
    // Columns outside: eight of them over all rows of w stay in the nearest cache.
    const body = [...set(column, number(0)), ...loop(column, COLUMNS, 8, [...set(row, number(0)), ...loop(row, LENGTH, 4, block)]), END];
    const locals = vector([[8, I32], [11, V128]]);
    return new Uint8Array([
      ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
      ...section(1, vector([[0x60, ...vector(Array(7).fill([I32])), ...vector([])]])),
      ...section(2, vector([[...text("page"), ...text("memory"), 2, 0, 1]])),
      ...section(3, vector([[0]])),
      ...section(7, vector([[...text("multiply"), 0, 0]])),
      ...section(10, vector([sized([...locals, ...body])])),
    ]);
  }

  let compiled = null;

  /* The function over a memory. */
  play.multiplier = (memory) => {
    try {
      compiled ??= new WebAssembly.Module(module());
    } catch {
      throw new Error("this browser has no WebAssembly with vectors: take a newer one");
    }
    return new WebAssembly.Instance(compiled, { page: { memory } }).exports.multiply;
  };
});
