/* What can be taken away: edges as CSV, a circuit as EAP-IG writes its graphs, the diagram as SVG. */
"use strict";

mechshiftExplorer.download = (() => {
  function save(name, type, content) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  /* One row an edge: `[name, circuit, score, rank, score, rank]`. */
  function csv(rows, names) {
    const head = ["edge", "in", ...names.flatMap((one) => [`${one} score`, `${one} rank`])];
    const cell = (value) => (/[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value);
    return [head, ...rows].map((row) => row.map(cell).join(",")).join("\n") + "\n";
  }

  /* A circuit in the form of EAP-IG's Graph.to_json: every edge of the file with its score, those of
     the circuit in the graph, and the nodes that these touch. */
  function eapig(graph, training, name, count) {
    const inside = new Set(training.top(name, count));
    const edges = {};
    const touched = new Set();
    for (const edge of training.edges) {
      edges[graph.name(edge)] = { score: training.score(name, edge), in_graph: inside.has(edge) };
      if (inside.has(edge)) [graph.source(edge).name, ...graph.endsAt(edge)].forEach((node) => touched.add(node));
    }
    const nodes = Object.fromEntries(graph.nodes.map((node) => [node.name, touched.has(node.name)]));
    const cfg = { n_layers: graph.layers, n_heads: graph.heads, parallel_attn_mlp: graph.parallel };
    return JSON.stringify({ cfg, nodes, edges });
  }

  const STYLES = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "opacity", "font-size", "font-family", "font-weight", "text-anchor", "dominant-baseline"];

  /* The diagram as a file of its own, as it looks now, with a title. */
  function svg(element, title) {
    const copy = element.cloneNode(true);
    const [from, to] = [element, copy].map((one) => [one, ...one.querySelectorAll("*")]);
    from.forEach((one, i) => {
      const style = getComputedStyle(one);
      to[i].setAttribute("style", STYLES.map((name) => `${name}:${style.getPropertyValue(name)}`).join(";"));
    });
    const background = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    background.setAttribute("width", "100%");
    background.setAttribute("height", "100%");
    background.setAttribute("fill", getComputedStyle(element.parentElement).backgroundColor);
    copy.prepend(background);
    const text = document.createElementNS("http://www.w3.org/2000/svg", "title");
    text.textContent = title;
    copy.prepend(text);
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    ["tabindex", "role", "aria-roledescription"].forEach((name) => copy.removeAttribute(name));
    return new XMLSerializer().serializeToString(copy);
  }

  return { save, csv, eapig, svg };
})();
