"""Heat maps of activation patching, and when the answer arrives where it is read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import (
    MUTED,
    ROLE_COLORS,
    two_sided,
)
from mechshift_lib.plots.theme import (
    count_text,
    figure,
    handle,
    header,
    label,
    layer_ticks,
    present,
    theme,
)

ROLES = ("arm", "mdm", "continued")
#: Marks the positions at which the corrupted prompt differs.
DIFFERS = "▸ "
STREAM = "residual stream at a layer's input (last: the final norm's)"
RESTORED = "share of the clean-corrupted gap restored"


def _heat(ax: Axes, grid: np.ndarray) -> AxesImage:
    image = ax.imshow(
        grid,
        cmap=two_sided(),
        vmin=-1,
        vmax=1,
        aspect="auto",
        interpolation="none",
    )
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return image


def _by_position(ax: Axes, rows: pd.DataFrame, n_positions: int) -> AxesImage:
    """Positions as rows, read downwards, layers as columns."""
    grid = np.full((n_positions, int(rows.layer.max()) + 1), np.nan)
    grid[rows.position, rows.layer] = rows.effect
    image = _heat(ax, grid)
    every = 1 if grid.shape[1] <= 8 else 5
    ax.set_xticks(range(0, grid.shape[1], every))
    return image


def _tokens(ax: Axes, table: pd.DataFrame) -> None:
    """Tokens as labels of the positions, those that differ marked and bold."""
    rows = table.drop_duplicates("position").sort_values("position")
    names = [DIFFERS * d + t for t, d in zip(rows.token, rows.differs, strict=True)]
    ax.set_yticks(rows.position, names, fontsize=8.5)
    for text, differs in zip(ax.get_yticklabels(), rows.differs, strict=True):
        text.set_fontweight("bold" if differs else "normal")


def _bar(fig: Figure, axes: np.ndarray, image: AxesImage) -> None:
    bar = fig.colorbar(image, ax=list(axes), orientation="horizontal", aspect=45, pad=0.02)
    bar.set_ticks([-1, -0.5, 0, 0.5, 1], labels=["−1", "−0.5", "0", "0.5", "1"])
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.set_label(RESTORED)
    bar.ax.xaxis.label.set_fontsize(9.5)


def _subtitle(table: pd.DataFrame, what: str) -> str:
    return (
        f"the clean run's {what}, put into the corrupted run; {DIFFERS.strip()} prompts differ; "
        f"[ ] answer (MDM: masks); mean over n = {count_text(table.n)} examples; rows: the first "
        "one's words"
    )


@drawn_from_tables
def plot_positions(table: pd.DataFrame, title: str) -> Figure:
    """Denoising the residual stream by layer and position, ARM beside MDM.

    Args:
        table: ``role, site, layer, position, token, differs, effect, n``; rows of ``resid`` are
            drawn.
        title: heading of the figure.
    """
    table = table[table.site == "resid"]
    panels = [(label(role), table[table.role == role]) for role in ("arm", "mdm")]
    return _maps(panels, table, title, STREAM)


@drawn_from_tables
def plot_sublayers(table: pd.DataFrame, title: str) -> Figure:
    """Denoising attention and MLP outputs by layer and position, ARM beside MDM.

    Args:
        table: as for :func:`plot_positions`; rows of ``attn`` and ``mlp`` are drawn.
        title: heading of the figure.
    """
    panels = [
        (f"{label(role)}\n{name}", table[(table.role == role) & (table.site == site)])
        for site, name in (("attn", "attention"), ("mlp", "MLP"))
        for role in ("arm", "mdm")
    ]
    return _maps(panels, table[table.site != "resid"], title, "attention or MLP output")


@drawn_from_tables
def plot_patch_steps(table: pd.DataFrame, title: str) -> Figure:
    """Denoising the MDM's residual stream, one panel a denoising step.

    Args:
        table: ``step, layer, position, token, differs, effect, n``.
        title: heading of the figure.
    """
    panels = [
        (f"step {step}\nn = {count_text(rows.n)}", rows) for step, rows in table.groupby("step")
    ]
    return _maps(panels, table, title, STREAM)


def _maps(
    panels: Sequence[tuple[str, pd.DataFrame]],
    table: pd.DataFrame,
    title: str,
    what: str,
) -> Figure:
    with theme():
        n_positions = int(table.position.max()) + 1
        fig = figure(1.0 + 0.19 * n_positions)
        axes = np.atleast_1d(fig.subplots(1, len(panels), sharey=True))
        for ax, (name, rows) in zip(axes, panels, strict=True):
            image = _by_position(ax, rows, n_positions)
            ax.set_title(name, fontsize=10)
            ax.set_xlabel("layer")
        _tokens(axes[0], table)
        _bar(fig, axes, image)
        return header(fig, title, _subtitle(table, what))


@drawn_from_tables
def plot_patch_heads(table: pd.DataFrame, title: str) -> Figure:
    """Denoising single heads at all positions, one panel a model.

    Args:
        table: ``role, direction, layer, head, effect, n``; rows of ``denoise`` are drawn.
        title: heading of the figure.
    """
    with theme():
        table = table[table.direction == "denoise"]
        roles = present(table.role, ROLES)
        n_layers, n_heads = int(table.layer.max()) + 1, int(table["head"].max()) + 1
        fig = figure(1.0 + n_layers * (0.24 if n_layers <= 12 else 0.15))
        axes = np.atleast_1d(fig.subplots(1, len(roles), sharey=True))
        for ax, role in zip(axes, roles, strict=True):
            rows = table[table.role == role]
            grid = np.full((n_layers, n_heads), np.nan)
            grid[rows.layer, rows["head"]] = rows.effect
            image = _heat(ax, grid)
            ax.invert_yaxis()
            ax.set_title(label(role))
            ax.set_xlabel("attention head")
            ax.set_xticks(range(0, n_heads, 1 if n_heads <= 8 else 4))
        axes[0].set_yticks(range(0, n_layers, 1 if n_layers <= 12 else 5))
        axes[0].set_ylabel("layer")
        _bar(fig, axes, image)
        return header(
            fig,
            title,
            "the clean run's head output, at all positions, put into the corrupted run; "
            f"mean over n = {count_text(table.n)} examples",
        )


@drawn_from_tables
def plot_arrival(table: pd.DataFrame) -> Figure:
    """Share of the effect that lies where the answer is read, over layers.

    Args:
        table: ``task, role, layer, share, low, high, n``.
    """
    with theme():
        tasks, roles = present(table.task, ()), present(table.role, ROLES)
        columns = 2 if len(tasks) > 1 else 1
        lines = -(-len(tasks) // columns)
        fig = figure(0.35 + 1.75 * lines)
        axes = np.atleast_1d(fig.subplots(lines, columns, sharex=True, sharey=True)).ravel()
        for ax, task in zip(axes, tasks, strict=False):
            for role in roles:
                rows = table[(table.task == task) & (table.role == role)].sort_values("layer")
                color = ROLE_COLORS[role]
                ax.fill_between(rows.layer, rows.low, rows.high, color=color, alpha=0.15, lw=0)
                ax.plot(rows.layer, rows.share, color=color, marker="o", ms=3.5, lw=1.6)
            ax.axhline(0.5, color=MUTED, linewidth=1, linestyle="--")
            ax.set_ylim(0, 1.02)
            ax.grid()
            ax.set_title(label(task))
        for ax in axes[len(tasks) :]:
            ax.remove()
        axes[0].set_xticks(layer_ticks(table.layer))
        fig.supxlabel("layer whose input is patched (the last: the final norm)", fontsize=10.5)
        fig.supylabel("share of the effect at the answer", fontsize=10.5)
        handles = [handle(label(r), ROLE_COLORS[r], linestyle="-", markersize=4) for r in roles]
        handles.append(handle("half", MUTED, "", linestyle="--"))
        return header(
            fig,
            "When what decides the answer arrives where it is read",
            "of the summed effect of denoising the residual stream at single positions, the share "
            f"at the prompt's last position and after it; n = {count_text(table.n)} examples; "
            "bands: 95 % bootstrap intervals",
            handles,
            columns=4,
        )
