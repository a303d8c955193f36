"""The picture of the graph: nodes, edges, and how one head reads three times."""

from __future__ import annotations

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.plots.palette import (
    CARD,
    INK,
    MUTED,
)
from mechshift_lib.plots.theme import (
    figure,
    handle,
    header,
    theme,
)

#: The graph that is drawn, and the head whose edges stand out.
DRAWN = Graph(n_layers=2, n_heads=2, n_kv_heads=2)
READER = "a1.h1"
READS: dict[str, object] = {"q": "-", "k": (0, (4, 1.5)), "v": (0, (1.2, 1.2))}
#: How far to the left or right of a head's middle each of its readers is.
ASIDE = {"q": -0.28, "k": 0.0, "v": 0.28}


def place(node: str) -> tuple[float, float]:
    """Where a node stands: layers upwards, a layer's MLP above and to the right of its heads."""
    if node == "input":
        return 0.5, -0.9
    if node == "logits":
        return 0.5, 2 * DRAWN.n_layers - 0.1
    if node[0] == "m":
        return DRAWN.n_heads + 0.55, 2 * int(node[1:]) + 0.75
    layer, head = node[1:].split(".h")
    return 1.5 * int(head) - 0.25, 2.0 * int(layer)


def plot_graph() -> Figure:
    """All edges of a model of two layers with two heads, one head's own in colour."""
    with theme():
        fig = figure(4.4)
        ax = fig.subplots()
        for name in DRAWN.names:
            source, _, reader = name.partition("->")
            node, _, part = reader.partition("<")
            part = part.rstrip(">")
            x, y = place(node)
            strong = node == READER
            end = (x + ASIDE.get(part, 0.0) * (node[0] == "a"), y - 0.17)
            _arrow(ax, place(source), end, READS[part] if strong else "-", strong)
        for node in DRAWN.nodes:
            x, y = place(node)
            box = {"boxstyle": "round,pad=0.35", "facecolor": CARD, "edgecolor": INK}
            ax.text(x, y, node, ha="center", va="center", fontsize=10, bbox=box, zorder=5)
        for layer in range(DRAWN.n_layers):
            ax.text(-1.25, 2.0 * layer, f"layer {layer}", va="center", color=MUTED, fontsize=9.5)
        ax.set_xlim(-1.3, DRAWN.n_heads + 1.1)
        ax.set_ylim(-1.25, 2 * DRAWN.n_layers + 0.2)
        ax.set_axis_off()
        own = [name for name in DRAWN.names if name.partition("->")[2].startswith(READER)]
        return header(
            fig,
            "Every node feeds every later one",
            f"{DRAWN.n_layers} layers of {DRAWN.n_heads} heads: {len(DRAWN.nodes)} nodes, "
            f"{DRAWN.n_edges} edges; dark the {len(own)} edges into the head {READER}, which "
            "reads each earlier node three times",
            [
                handle(f"into its {name}", INK, "", linestyle=READS[part])
                for part, name in (("q", "query"), ("k", "key"), ("v", "value"))
            ],
            columns=3,
        )


def _arrow(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], style: object, strong: bool
) -> None:
    straight = abs(start[0] - end[0]) > 0.3 or end[1] - start[1] < 2
    ax.add_patch(
        FancyArrowPatch(
            (start[0], start[1] + 0.17),
            end,
            connectionstyle=f"arc3,rad={0.05 if straight else -0.35}",
            arrowstyle="-|>",
            mutation_scale=8 if strong else 5,
            linewidth=1.4 if strong else 0.6,
            color=INK if strong else MUTED,
            linestyle=style,
            alpha=0.95 if strong else 0.4,
            zorder=3 if strong else 1,
        )
    )


def graph_svg() -> str:
    """The picture as SVG, the same text every time."""
    buffer = io.StringIO()
    with theme():
        plot_graph().savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"
