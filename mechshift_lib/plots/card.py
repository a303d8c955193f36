"""The card that link previews show: the circuits of an ARM and its MDM side by side."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.plots.palette import (
    CARD,
    GRID,
    INK,
    MUTED,
    ROLE_COLORS,
)
from mechshift_lib.plots.theme import label, theme

#: Pixels of a card, as link previews want it.
SIZE = (1200, 630)
#: Pixels an inch.
DPI = 100


def _place(node: str, graph: Graph) -> tuple[float, float]:
    """Layers upwards; an MLP to the right of its layer's heads and half a row above them."""
    if node == "input":
        return graph.n_heads / 2, -1.1
    if node == "logits":
        return graph.n_heads / 2, graph.n_layers + 0.1
    if node.startswith("m"):
        return float(graph.n_heads), int(node[1:]) + 0.45
    layer, head = node[1:].split(".h")
    return float(head), float(layer)


def _circuit(ax: Axes, graph: Graph, scores: NDArray[np.floating], edges: int, role: str) -> None:
    weights = np.abs(scores)
    strongest = np.argsort(weights, kind="stable")[-edges:]
    lines, used = [], set()
    for i in strongest:
        source, _, reader = graph.names[i].partition("->")
        ends = source, reader.partition("<")[0]
        used |= set(ends)
        lines.append([_place(end, graph) for end in ends])
    widths = 1.0 + 5.0 * np.sqrt(weights[strongest] / weights.max())
    color = ROLE_COLORS[role]
    ax.add_collection(LineCollection(lines, linewidths=widths, colors=color, alpha=0.55, zorder=1))
    for node in graph.nodes:
        x, y = _place(node, graph)
        face = color if node in used else GRID
        ax.scatter([x], [y], s=130, color=face, edgecolor=CARD, linewidth=1.5, zorder=2)
    ax.set_title(label(role), fontsize=22, fontweight="bold", color=color, loc="center")
    ax.set_xlim(-0.6, graph.n_heads + 0.6)
    ax.set_ylim(-1.6, graph.n_layers + 0.6)
    ax.set_axis_off()


def plot_card(
    circuits: Mapping[str, tuple[Graph, NDArray[np.floating]]], edges: int, about: str
) -> Figure:
    """Draw the strongest edges of each circuit beside the project's question.

    Args:
        circuits: graph and scores ``[edge]`` by role, drawn from left to right.
        edges: how many edges of each are drawn.
        about: what the circuits are of, said below.
    """
    with theme():
        fig = Figure(figsize=(SIZE[0] / DPI, SIZE[1] / DPI), dpi=DPI)
        fig.text(0.045, 0.86, "mechshift", fontsize=40, fontweight="bold", color=INK)
        question = "What happens inside a\nlanguage model when it is\nturned from autoregressive\n"
        fig.text(0.045, 0.46, f"{question}into masked diffusion?", fontsize=22, linespacing=1.35)
        fig.text(0.045, 0.08, about, fontsize=14, color=MUTED, linespacing=1.4)
        width = 0.56 / len(circuits)
        for i, (role, (graph, scores)) in enumerate(circuits.items()):
            ax = fig.add_axes((0.43 + i * width, 0.06, width - 0.02, 0.82))
            _circuit(ax, graph, scores, edges, role)
        return fig
