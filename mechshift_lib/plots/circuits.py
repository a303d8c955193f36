"""What circuits look like: a diagram of their edges, and their components by layer and head."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import (
    BLUE,
    CARD,
    GRID,
    MUTED,
    SHARED,
    VERMILLION,
    two_sided,
)
from mechshift_lib.plots.theme import (
    count_text,
    figure,
    handle,
    header,
    theme,
)

#: Colour of an edge or node by the circuits that it is in.
MEMBER_COLORS = {"arm": BLUE, "mdm": VERMILLION, "shared": SHARED}
READS = {"q": "-", "k": (0, (4, 1.5)), "v": (0, (1.2, 1.2)), "": "-"}


def membership(table: pd.DataFrame) -> pd.Series:
    """``arm``, ``mdm`` or ``shared`` for every row of boolean columns ``arm`` and ``mdm``."""
    names = np.where(table.arm & table.mdm, "shared", np.where(table.arm, "arm", "mdm"))
    return pd.Series(names, index=table.index)


def _node_of(end: str) -> str:
    return end.split("<")[0]


def _place(node: str, n_layers: int, n_heads: int) -> tuple[float, float]:
    """Where a node stands: layers are rows, heads columns, the MLP to the right of its heads.

    A layer's MLP stands half a row above its heads, because it reads them.
    """
    middle = n_heads / 2
    if node == "input":
        return middle, -1.0
    if node == "logits":
        return middle, float(n_layers)
    if node.startswith("m"):
        return n_heads + 0.35, int(node[1:]) + 0.4
    layer, head = node[1:].split(".h")
    return float(head), float(layer)


@drawn_from_tables
def plot_circuit(table: pd.DataFrame, n_layers: int, n_heads: int, title: str) -> Figure:
    """The strongest edges of ARM and MDM in one diagram, from the embedding up to the logits.

    Args:
        table: ``edge, arm, mdm, weight``: names, which circuit each edge is in, and how strong it
            is from 0 to 1.
        n_layers: layers of the model, drawn as rows.
        n_heads: heads of a layer, drawn as columns.
        title: heading of the figure.
    """
    with theme():
        fig = figure(0.6 + max(3.6, (n_layers + 2) * (0.46 if n_layers <= 12 else 0.27)))
        ax = fig.subplots()
        kinds = membership(table)
        nodes: dict[str, set[str]] = {}
        # Shared edges lie below: the few that differ are what one looks for.
        differs = (kinds != "shared").to_numpy()
        order = np.lexsort((table.weight.to_numpy(), differs))
        for i in order:
            row, kind = table.iloc[i], kinds.iloc[i]
            source, _, reader = row.edge.partition("->")
            part = reader[-2] if reader.endswith(">") else ""
            start = _place(source, n_layers, n_heads)
            end = _place(_node_of(reader), n_layers, n_heads)
            # The root keeps edges visible beside one that is many times stronger.
            width = float(np.sqrt(row.weight))
            _arrow(ax, start, end, MEMBER_COLORS[kind], width, READS[part], below=not differs[i])
            for node in (source, _node_of(reader)):
                nodes.setdefault(node, set()).add(kind)
        small = n_layers > 12
        for layer in range(n_layers):
            names = [f"a{layer}.h{h}" for h in range(n_heads)] + [f"m{layer}"]
            for node in names:
                _node(ax, node, nodes.get(node), n_layers, n_heads, small)
        for node in ("input", "logits"):
            _node(ax, node, nodes.get(node, {"shared"}), n_layers, n_heads, small)
        ax.set_xlim(-0.7, n_heads + 1.1)
        ax.set_ylim(-1.6, n_layers + 0.6)
        every = 1 if n_layers <= 12 else 2
        ax.set_yticks(range(0, n_layers, every), [str(i) for i in range(0, n_layers, every)])
        ax.set_xticks([*range(n_heads), n_heads + 0.35], [*map(str, range(n_heads)), "MLP"])
        ax.set_ylabel("layer")
        ax.set_xlabel("attention head")
        ax.tick_params(length=0)
        for spine in ax.spines.values():
            spine.set_visible(False)
        counts = kinds.value_counts()
        return header(
            fig,
            title,
            f"the {int(table.arm.sum())} strongest edges of the ARM and the "
            f"{int(table.mdm.sum())} of the MDM; wider: stronger; "
            "into a head solid: query, dashed: key, dotted: value",
            [
                handle(f"{name} ({counts.get(kind, 0)})", MEMBER_COLORS[kind], "o", linestyle="-")
                for kind, name in (("arm", "ARM only"), ("mdm", "MDM only"), ("shared", "shared"))
            ],
            columns=3,
        )


def _arrow(
    ax: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    color: str,
    weight: float,
    style: object,
    below: bool,
) -> None:
    # Straight lines through a column of nodes would hide which node they end at.
    # Within a column the arc is flatter the longer it is, so that it stays beside the column.
    same_column = abs(start[0] - end[0]) < 0.01
    bend = min(0.35, 1.3 / max(1.0, abs(end[1] - start[1]))) if same_column else 0.12
    ax.add_patch(
        FancyArrowPatch(
            start,
            end,
            connectionstyle=f"arc3,rad={bend if start[0] <= end[0] else -bend}",
            arrowstyle="-|>",
            mutation_scale=6 + 4 * weight,
            linewidth=0.6 + 2.4 * weight,
            linestyle=style,
            color=color,
            alpha=0.3 + 0.3 * weight if below else 0.6 + 0.4 * weight,
            shrinkA=4,
            shrinkB=5,
            zorder=1 if below else 1.5,
        )
    )


def _node(
    ax: Axes, node: str, kinds: set[str] | None, n_layers: int, n_heads: int, small: bool
) -> None:
    x, y = _place(node, n_layers, n_heads)
    if kinds is None:
        ax.plot(x, y, "o" if node[0] == "a" else "s", color=GRID, markersize=3.5, zorder=2)
        return
    kind = next(iter(kinds)) if len(kinds) == 1 else "shared"
    if node in ("input", "logits"):
        box = {"boxstyle": "round,pad=0.3", "facecolor": CARD, "edgecolor": MUTED}
        ax.text(x, y, node, ha="center", va="center", fontsize=9.5, bbox=box, zorder=4)
        return
    ax.plot(
        x,
        y,
        "o" if node[0] == "a" else "s",
        markersize=6 if small else 10,
        markerfacecolor=MEMBER_COLORS[kind],
        markeredgecolor=CARD,
        markeredgewidth=1,
        zorder=3,
    )


def _root(x: np.ndarray) -> np.ndarray:
    """Signed square root: small scores stay visible beside large ones, which keep their order."""
    return np.sign(x) * np.sqrt(np.abs(x))


def _square(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * x**2


@drawn_from_tables
def plot_components(table: pd.DataFrame, n_layers: int, n_heads: int, title: str) -> Figure:
    """Component scores by layer and head: ARM, MDM, and their difference.

    Args:
        table: ``circuit, layer, head, share``: each component's score as a share of the circuit's
            total |score|; head -1 is the MLP; circuits ``arm`` and ``mdm``.
        n_layers: layers of the model.
        n_heads: heads of a layer.
        title: heading of the figure.
    """
    with theme():
        grids = {}
        for circuit in ("arm", "mdm"):
            rows = table[table.circuit == circuit]
            grid = np.full((n_layers, n_heads + 1), np.nan)
            columns = np.where(rows["head"] < 0, n_heads, rows["head"])
            grid[rows.layer.to_numpy(), columns] = rows["share"]
            grids[circuit] = grid
        panels = {**grids, "difference": grids["mdm"] - grids["arm"]}
        limit = max(float(np.nanmax(np.abs(np.stack(list(panels.values()))))), 1e-9)
        fig = figure(max(2.3, 0.75 + n_layers * (0.24 if n_layers <= 12 else 0.15)))
        axes = fig.subplots(1, 3, sharey=True)
        names = {"arm": "ARM", "mdm": "MDM", "difference": "MDM − ARM"}
        norm = mpl.colors.FuncNorm((_root, _square), vmin=-limit, vmax=limit)
        for ax, (name, grid) in zip(axes, panels.items(), strict=True):
            image = ax.imshow(
                grid,
                cmap=two_sided(),
                norm=norm,
                aspect="auto",
                origin="lower",
                interpolation="none",
            )
            ax.axvline(n_heads - 0.5, color=CARD, linewidth=2.5)
            ax.set_title(names[name])
            every = 1 if n_heads <= 6 else 4
            heads = [h for h in range(0, n_heads, every) if every == 1 or n_heads - h > 1]
            ax.set_xticks([*heads, n_heads], [*map(str, heads), "MLP"], fontsize=8.5)
            ax.tick_params(length=0)
            for spine in ax.spines.values():
                spine.set_visible(False)
        step = 1 if n_layers <= 12 else 5
        axes[0].set_yticks(range(0, n_layers, step))
        axes[0].set_ylabel("layer")
        axes[1].set_xlabel("attention head")
        bar = fig.colorbar(image, ax=axes, orientation="horizontal", aspect=45, pad=0.02)
        ticks = [-limit, -limit / 4, 0, limit / 4, limit]
        bar.set_ticks(ticks, labels=[f"{t:+.1%}" if t else "0" for t in ticks])
        bar.ax.minorticks_off()
        bar.outline.set_visible(False)  # type: ignore[operator]
        bar.set_label("share of the circuit's total |score| (shade: its root)")
        bar.ax.xaxis.label.set_fontsize(9.5)
        return header(
            fig,
            title,
            f"sum of the scores of a component's edges in the top {count_text(table['count'])}; "
            f"rose: corrupting it lowers the metric; n = {count_text(table.n)} examples",
        )
