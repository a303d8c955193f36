/* Overlap of two circuits at every size, as mechshift_lib.comparison.overlap has it. */
"use strict";

mechshiftExplorer.overlap = (() => {
  /* A circuit is { training, name }. */
  const rankOf = (circuit, edge) => circuit.training.rank(circuit.name, edge);

  /* Jaccard index |A ∩ B| / |A ∪ B| of two circuits at each of `counts` edges, ascending.

     An edge is in both circuits of k edges exactly if its larger rank is below k. */
  function jaccards(first, second, counts) {
    const shared = new Int32Array(counts[counts.length - 1] + 1);
    for (const edge of first.training.edges) {
      const worse = Math.max(rankOf(first, edge), rankOf(second, edge));
      if (worse < shared.length) shared[worse] += 1;
    }
    const found = [];
    let sum = 0;
    let rank = 0;
    for (const count of counts) {
      while (rank < count) sum += shared[rank++];
      found.push(sum / (2 * count - sum));
    }
    return found;
  }

  /* Edges of two circuits of `count` edges: in both, in the first only, in the second only; each
     the strongest first. */
  function members(first, second, count) {
    const inFirst = first.training.top(first.name, count);
    const inSecond = second.training.top(second.name, count);
    const better = (edge) => Math.min(rankOf(first, edge), rankOf(second, edge));
    const kinds = new Map();
    inFirst.forEach((edge) => kinds.set(edge, "first"));
    inSecond.forEach((edge) => kinds.set(edge, kinds.has(edge) ? "both" : "second"));
    return [...kinds]
      .map(([edge, kind]) => ({ edge, kind, rank: better(edge) }))
      .sort((one, other) => one.rank - other.rank || one.edge - other.edge);
  }

  return { jaccards, members };
})();
