"""Circuits of an ARM and its MDM for the landing page, as SVG that follows the page's mode."""

from __future__ import annotations

from html import escape

import numpy as np
from numpy.typing import NDArray

from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.plots.palette import ROLE_COLORS, variable
from mechshift_lib.plots.theme import label

#: Sizes in CSS pixels: of a panel, and of what stands on it.
WIDTH, COLUMN, ROW, TOP = 380, 62, 50, 72
RADIUS = 11
#: What stands above a model's circuit.
HEADINGS = {
    "arm": ("Autoregressive model (ARM)", "sees only what is before it"),
    "mdm": ("Masked diffusion model (MDM)", "made from it, sees the whole canvas"),
}
#: How far from a head's middle its query, key and value are read.
PORTS = {"q": -7.0, "k": 0.0, "v": 7.0}
#: Widths of the weakest and the strongest edge that is drawn.
THIN, THICK = 1.0, 5.0


def _place(node: str, graph: Graph) -> tuple[float, float]:
    """Layers upwards; an MLP to the right of its layer's heads and half a row above them."""
    left = (WIDTH - COLUMN * graph.n_heads) / 2
    bottom = TOP + ROW * (graph.n_layers + 0.5)
    if node in ("input", "logits"):
        return WIDTH / 2, bottom + ROW * 0.8 if node == "input" else TOP
    if node.startswith("m"):
        return left + COLUMN * graph.n_heads, bottom - ROW * (int(node[1:]) + 0.5)
    layer, head = node[1:].split(".h")
    return left + COLUMN * int(head), bottom - ROW * int(layer)


def _path(name: str, graph: Graph) -> str:
    """A curve from the top of an edge's source to the port of its reader."""
    source, _, reader = name.partition("->")
    node, _, part = reader.partition("<")
    x0, y0 = _place(source, graph)
    x1, y1 = _place(node, graph)
    x1, y1 = x1 + PORTS.get(part.rstrip(">"), 0.0), y1 + RADIUS
    bend = max(14.0, (y0 - y1) * 0.45)
    return f"M{x0:.0f} {y0:.0f}C{x0:.0f} {y0 - bend:.0f} {x1:.0f} {y1 + bend:.0f} {x1:.0f} {y1:.0f}"


def circuit_svg(
    role: str,
    graph: Graph,
    scores: NDArray[np.floating],
    inside: NDArray[np.bool_],
    shared: NDArray[np.bool_],
) -> str:
    """One model's circuit, its own edges strong and those of both models pale.

    Args:
        role: ``arm`` or ``mdm``; gives name and colour.
        graph: the models' graph.
        scores: of the model's edges, ``[n_edges]``; an edge's width is the root of its |score|.
        inside: the edges of its circuit, ``[n_edges]``.
        shared: the edges of both circuits, ``[n_edges]``.
    """
    own = inside & ~shared
    color = variable(ROLE_COLORS[role])  # follows the page's mode
    size = np.sqrt(np.abs(scores) / np.abs(scores[inside]).max())
    text = (
        f"{label(role)}: {int(inside.sum())} edges of {graph.n_layers} layers, "
        f"{int(shared.sum())} of them in both models"
    )
    height = TOP + ROW * (graph.n_layers + 0.5) + ROW * 0.8 + 26
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="circuit {role}" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(text)}">'
    ]
    name, sees = HEADINGS[role]
    lines.append(
        f'<text class="name" x="{WIDTH / 2:.0f}" y="20" style="fill:{color}">{name}</text>'
    )
    lines.append(f'<text class="sees" x="{WIDTH / 2:.0f}" y="40">{sees}</text>')
    ends: dict[str, bool] = {}
    for kind, mask in (("both", shared), ("own", own)):
        for i in np.flatnonzero(mask):
            source, _, reader = graph.names[i].partition("->")
            for node in (source, reader.partition("<")[0]):
                ends[node] = ends.get(node, False) or kind == "own"
            width = THIN + (THICK - THIN) * float(size[i])
            stroke = f' style="stroke:{color}"' if kind == "own" else ""
            path = _path(graph.names[i], graph)
            lines.append(f'<path class="{kind}" d="{path}"{stroke} stroke-width="{width:.1f}"/>')
    for node in graph.nodes:
        x, y = _place(node, graph)
        kind = {True: "own", False: "both", None: "idle"}[ends.get(node)]
        fill = f' style="fill:{color}"' if kind == "own" else ""
        if node in ("input", "logits"):
            lines.append(
                f'<rect class="node {kind}" x="{x - 70:.0f}" y="{y - 11:.0f}" width="140" '
                f'height="22" rx="6"{fill}/><text class="on {kind}" x="{x:.0f}" y="{y + 4.5:.1f}">'
                f"{node}</text>"
            )
        elif node.startswith("m"):
            lines.append(
                f'<rect class="node {kind}" x="{x - RADIUS}" y="{y - RADIUS}" '
                f'width="{2 * RADIUS}" height="{2 * RADIUS}" rx="4"{fill}/>'
            )
        else:
            lines.append(f'<circle class="node {kind}" cx="{x}" cy="{y}" r="{RADIUS}"{fill}/>')
    for layer in range(graph.n_layers):
        y = _place(f"a{layer}.h0", graph)[1] + 4.5
        lines.append(f'<text class="layer" x="8" y="{y:.1f}">{layer}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"
