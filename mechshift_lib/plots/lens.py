"""What lenses read: a grid of tokens, curves over depth, where answers emerge, mask states."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import (
    GRID,
    INK,
    MUTED,
    ROLE_COLORS,
    shades,
)
from mechshift_lib.plots.theme import (
    MARKERS,
    count_text,
    figure,
    handle,
    header,
    label,
    present,
    role_handles,
    theme,
)
from mechshift_lib.plots.trainings import dots, headed

ROLES = ("arm", "continued", "mdm")
READS = {
    "tuned": "tuned lens",
    "logit": "logit lens",
    "raw": "logit lens without the final norm",
}
LINES = {"tuned": "-", "logit": "--", "raw": ":"}
#: Columns that are drawn over depth: axis and title.
MEASURES = {
    "probability": ("probability", "How sure each layer is of the answer"),
    "rank": ("wrong tokens ahead of the answer", "How far the answer is from the top"),
    "entropy": ("entropy (nats)", "How open each layer's prediction is"),
}
#: What the depths at which an answer emerges are called.
EMERGENCES = {
    "half": "half of its\nfinal probability",
    "first": "first on top",
    "settled": "on top to stay",
}
#: Those that are drawn.
DRAWN = ("half", "settled")
DEPTH = "depth: 0 the embedding, 1 the model's own output"


def _panels(names: list[str], fig: Figure, *, sharey: bool = True) -> list[Axes]:
    columns = 2 if len(names) > 1 else 1
    lines = -(-len(names) // columns)
    axes = fig.subplots(lines, columns, sharex=True, sharey=sharey, squeeze=False).ravel()
    for ax in axes[len(names) :]:
        ax.remove()
    for ax, name in zip(axes, names, strict=False):
        ax.set_title(name)
        ax.grid(axis="y", color=GRID)
    return list(axes[: len(names)])


def _height(n: int) -> float:
    return 0.4 + 1.75 * -(-n // 2)


def _trainings(table: pd.DataFrame) -> str:
    n = table.seed.nunique()
    return f"{n} training{'s' if n != 1 else ''}"


def _curve(ax: Axes, rows: pd.DataFrame, column: str, role: str, line: str = "-") -> None:
    """A thin line for every training, and their mean."""
    color, many = ROLE_COLORS.get(role, INK), rows.seed.nunique() > 1
    for _, one in rows.groupby("seed") if many else ():
        ax.plot(one.depth, one[column], color=color, lw=0.7, ls=line, alpha=0.4)
    mean = rows.groupby("depth")[column].mean()
    marker = MARKERS.get(role, "o") if line == "-" else ""
    ax.plot(mean.index, mean, color=color, lw=1.6, ls=line, marker=marker, ms=4)


@drawn_from_tables
def plot_quality(table: pd.DataFrame) -> Figure:
    """How far each layer's reading is from the model's output, logit and tuned lens.

    Args:
        table: ``seed, model, layer, read, kl, n``.
    """
    with theme():
        roles = present(table.model, ROLES)
        table = table.assign(depth=table.layer)
        fig = figure(2.5)
        [ax] = _panels([""], fig)
        for role in roles:
            for read in ("logit", "tuned"):
                rows = table[(table.model == role) & (table["read"] == read)]
                _curve(ax, rows, "kl", role, LINES[read])
        ax.set_yscale("log")
        ax.set_xlabel("layers behind the stream")
        ax.set_ylabel("KL from the output (nats)")
        handles = role_handles(roles)
        handles += [handle(READS[r], MUTED, "", linestyle=LINES[r]) for r in ("logit", "tuned")]
        return header(
            fig,
            "How far each layer's reading is from the output",
            f"texts neither trained on nor chosen by, n = {count_text(table.n)} tokens a model and "
            f"training; {_trainings(table)}",
            handles,
            columns=3,
        )


@drawn_from_tables
def plot_depth(table: pd.DataFrame, column: str) -> Figure:
    """A measure of the answer over depth, one panel a task; dotted: the distractor's probability.

    Args:
        table: ``task, seed, model, depth, n``, the measure and, for the probability,
            ``distractor``; of one read.
        column: one of :data:`MEASURES`.
    """
    with theme():
        tasks, roles = present(table.task, ()), present(table.model, ROLES)
        fig = figure(_height(len(tasks)))
        axes = _panels([label(task) for task in tasks], fig, sharey=column == "probability")
        for ax, task in zip(axes, tasks, strict=True):
            for role in roles:
                rows = table[(table.task == task) & (table.model == role)]
                _curve(ax, rows, column, role)
                if column == "probability":
                    _curve(ax, rows, "distractor", role, ":")
            if column == "rank":
                ax.set_yscale("symlog", linthresh=1)
                ax.set_ylim(bottom=0)
        fig.supxlabel(DEPTH, fontsize=10.5)
        axis, title = MEASURES[column]
        fig.supylabel(axis, fontsize=10.5)
        handles = role_handles(roles)
        if column == "probability":
            handles.append(handle("the distractor", MUTED, "", linestyle=":"))
        read = READS[str(table["read"].iloc[0])]
        thin = "; thin: single trainings" if table.seed.nunique() > 1 else ""
        return header(
            fig,
            title,
            f"{read}, next answer token, n = {count_text(table.n)} examples a training; "
            f"{_trainings(table)}{thin}",
            handles,
            columns=3,
        )


@drawn_from_tables
def plot_reads(table: pd.DataFrame) -> Figure:
    """Share of answers on top under every read, ARM and MDM, one panel a task.

    Args:
        table: ``task, seed, model, read, depth, top, n``.
    """
    with theme():
        table = table[table.model.isin(["arm", "mdm"])]
        tasks, roles = present(table.task, ()), present(table.model, ROLES)
        reads = present(table["read"], tuple(READS))
        fig = figure(_height(len(tasks)))
        for ax, task in zip(_panels([label(t) for t in tasks], fig), tasks, strict=True):
            for role in roles:
                for read in reads:
                    rows = table[
                        (table.task == task) & (table.model == role) & (table["read"] == read)
                    ]
                    _curve(ax, rows, "top", role, LINES[read])
            ax.set_ylim(-0.03, 1.06)
        fig.supxlabel(DEPTH, fontsize=10.5)
        fig.supylabel("answers that are the likeliest token", fontsize=10.5)
        handles = role_handles(roles)
        handles += [handle(READS[read], MUTED, "", linestyle=LINES[read]) for read in reads]
        return header(
            fig,
            "What the lens itself changes",
            f"next answer token, n = {count_text(table.n)} examples a training; "
            f"{_trainings(table)}",
            handles,
            columns=2,
        )


@drawn_from_tables
def plot_emergence(table: pd.DataFrame) -> Figure:
    """Depths at which answers are there, a dot for every training, two rows a task.

    Args:
        table: ``task, seed, model, read, n``, and a column for each of :data:`DRAWN`.
    """
    with theme():
        parts = {
            f"{label(task)},\n{text}": table[table.task == task].assign(depth=table[name])
            for task in present(table.task, ())
            for name, text in EMERGENCES.items()
            if name in DRAWN
        }
        fig, ax = dots(parts, "depth", "model", ROLES)
        ax.set_xlim(-0.03, 1.03)
        ax.set_xlabel(DEPTH)
        read = READS[str(table["read"].iloc[0])]
        return headed(
            fig,
            table,
            "model",
            ROLES,
            "Where the answer emerges",
            f"{read}, next answer token, n = {count_text(table.n)} examples a row and training",
        )


@drawn_from_tables
def plot_grid(table: pd.DataFrame, task: str) -> Figure:
    """Likeliest token at every layer and position, printed, ARM above MDM.

    Args:
        table: ``model, read, layer, position, input, token, probability, wanted, right``.
        task: its name.
    """
    with theme():
        models = present(table.model, ROLES)
        n_layers = table.layer.nunique()
        # A deep model's rows are thinned: letters have to stay legible.
        every = -(-n_layers // 11)
        layers = sorted({*range(0, n_layers, every), n_layers - 1})
        fig = figure(len(models) * (0.85 + 0.2 * len(layers)))
        axes = fig.subplots(len(models), 1, squeeze=False).ravel()
        for ax, model in zip(axes, models, strict=True):
            part = table[(table.model == model) & table.layer.isin(layers)]
            wide = part.pivot(index="layer", columns="position", values="probability")
            ax.imshow(wide, cmap=shades(0.5), vmin=0, vmax=1, aspect="auto", interpolation="none")
            rows = {layer: i for i, layer in enumerate(layers)}
            columns = {place: i for i, place in enumerate(wide.columns)}
            for one in part.itertuples():
                at = columns[one.position], rows[one.layer]
                weight = "bold" if one.right else "normal"
                ax.text(
                    *at, _short(one.token), ha="center", va="center", fontsize=6.8, weight=weight
                )
                if one.right:
                    corner = (at[0] - 0.48, at[1] - 0.46)
                    ax.add_patch(Rectangle(corner, 0.96, 0.92, fill=False, ec=INK, lw=1.1))
            heads = part[part.layer == layers[0]].sort_values("position")
            ax.set_xticks(range(len(heads)), [_short(x) for x in heads.input], fontsize=7.5)
            names = ["embedding", *(str(k) for k in layers[1:-1]), "output"]
            ax.set_yticks(range(len(layers)), names, fontsize=8)
            ax.set_ylim(-0.5, len(layers) - 0.5)
            ax.set_title(f"{label(model)}, given", fontsize=10)
            ax.xaxis.tick_top()
            ax.tick_params(length=0)
            ax.spines[:].set_visible(False)
        wanted = [
            x for x in table[table.model == models[0]].drop_duplicates("position").wanted if x
        ]
        return header(
            fig,
            f"{label(task)}: the likeliest token at every layer and position",
            f"{READS[str(table['read'].iloc[0])]}; heads: what stands there; cells: what is "
            "predicted from there, the darker, the more probable (0 to 1); framed: right "
            f"({' '.join(wanted)}); rows: layers behind the stream",
        )


def _short(token: str) -> str:
    token = "MASK" if token == "[MASK]" else token
    return token if len(token) <= 9 else token[:8] + "…"


@drawn_from_tables
def plot_steps(table: pd.DataFrame, task: str) -> Figure:
    """Probability of each answer token of the MDM by layer and mask state, one panel a token.

    Args:
        table: ``token, step, layer, probability, n, trainings``.
        task: its name.
    """
    with theme():
        tokens = sorted(table.token.unique())
        n_layer, n_step = int(table.layer.max()) + 1, int(table.step.max()) + 1
        lines = -(-len(tokens) // 2)
        fig = figure(0.35 + lines * (0.42 + 0.24 * n_layer))
        axes = fig.subplots(lines, 2, sharex=True, sharey=True, squeeze=False).ravel()
        for ax in axes[len(tokens) :]:
            ax.remove()
        for ax, token in zip(axes, tokens, strict=False):
            rows = table[table.token == token]
            cells = np.full((n_layer, n_step), np.nan)
            cells[rows.layer, rows.step] = rows.probability
            ax.imshow(cells, cmap=shades(0.5), vmin=0, vmax=1, aspect="auto", interpolation="none")
            for (layer, step), value in np.ndenumerate(cells):
                if not np.isnan(value):
                    ax.text(
                        step, layer, f"{100 * value:.0f}", ha="center", va="center", fontsize=8.5
                    )
            ax.set_title(f"answer token {token + 1}", fontsize=10)
            ax.set_xticks(range(n_step), [str(s) for s in range(n_step)])
            ax.set_yticks(range(n_layer))
            ax.set_ylim(-0.5, n_layer - 0.5)
            ax.spines[:].set_visible(False)
            ax.tick_params(length=0)
        fig.supxlabel("answer tokens written before it", fontsize=10.5)
        fig.supylabel("layers behind the stream", fontsize=10.5)
        n = int(table.trainings.max())
        return header(
            fig,
            f"{label(task)}: the same answer token under every mask state",
            f"MDM, probability in %, mean over {n} training{'s' if n != 1 else ''}; "
            f"n = {count_text(table.n)} examples a cell",
        )
