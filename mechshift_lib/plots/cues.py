"""Which cue wins, a dot for every training."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import INK, ROLE_COLORS
from mechshift_lib.plots.theme import (
    MARKERS,
    count_text,
    figure,
    header,
    layer_ticks,
    present,
    role_handles,
    theme,
)
from mechshift_lib.plots.trainings import dots, headed
from mechshift_lib.tasks.countdown import number_name

ROLES = ("arm", "continued", "matched", "mdm", "mdm-answers", "mdm-causal")
#: What a donor of the stream changes, in words.
SIGNALS = {"name": "another name", "place": "another place"}


def place(at: int, last: int) -> str:
    """What people read for a number of the equation.

    Args:
        at: its answer token; operators stand between numbers.
        last: the last number's.
    """
    return number_name(at // 2, last // 2 + 1)


@drawn_from_tables
def plot_cues(table: pd.DataFrame) -> Figure:
    """Probability of what elimination names, a row for each kind of conflict and place.

    Args:
        table: ``seed, model, kind, at, listed, n``.
    """
    with theme():
        rows = table[["kind", "at"]].drop_duplicates().to_records(index=False).tolist()
        last = table["at"].max()
        parts = {
            f"{kind},\n{place(at, last)}": table[(table.kind == kind) & (table["at"] == at)]
            for kind, at in rows
        }
        fig, ax = dots(parts, "listed", "model", ROLES)
        ax.set_xlim(-0.03, 1.03)
        ax.set_xlabel("probability of the token that elimination names")
        return headed(
            fig,
            table,
            "model",
            ROLES,
            "How sure each model is of what is left of the given numbers",
            f"Countdown, n = {count_text(table.n)} questions a row and training",
        )


@drawn_from_tables
def plot_routes(table: pd.DataFrame) -> Figure:
    """What each kind of token carries to the decisive read, a row for each kind and cut.

    Args:
        table: ``seed, model, cut, tokens, change, n``.
    """
    with theme():
        rows = table[["tokens", "cut"]].drop_duplicates().sort_values(["tokens", "cut"])
        hidden = {"direct": "hidden from the read", "any": "hidden from all"}
        parts = {
            f"{tokens},\n{hidden.get(cut, cut)}": table[
                (table.tokens == tokens) & (table.cut == cut)
            ]
            for tokens, cut in rows.to_records(index=False).tolist()
        }
        fig, ax = dots(parts, "change", "model", ROLES)
        ax.axvline(0, color=INK, lw=0.8)
        ax.set_xlabel("change of logit(left) − logit(target's)")
        return headed(
            fig,
            table,
            "model",
            ROLES,
            "What the last number loses when tokens are hidden",
            f"Countdown, target of another equation, n = {count_text(table.n)} a training",
        )


@drawn_from_tables
def plot_signals(table: pd.DataFrame) -> Figure:
    """How far each donor switches the answer, by the layer whose input is replaced.

    Args:
        table: ``seed, model, signal, layer, switched, n``.
    """
    with theme():
        roles = present(table.model, ROLES)
        signals = list(dict.fromkeys(table.signal))
        fig = figure(3.4)
        axes = fig.subplots(1, len(signals), sharey=True, squeeze=False)[0]
        for ax, signal in zip(axes, signals, strict=True):
            for role in roles:
                here = table[(table.signal == signal) & (table.model == role)]
                color = ROLE_COLORS.get(role, INK)
                for _, one in here.groupby("seed"):
                    ax.plot(one.layer, one.switched, color=color, lw=0.8, alpha=0.35)
                mean = here.groupby("layer").switched.mean()
                ax.plot(mean.index, mean, color=color, marker=MARKERS.get(role, "o"), ms=5)
            ax.set_title(SIGNALS.get(signal, signal))
            ax.set_xticks(layer_ticks(table.layer))
            ax.grid(axis="y")
        axes[0].set_ylabel("share of the answer switched")
        fig.supxlabel("layers before the replaced stream", fontsize=10.5)
        seeds = table.seed.nunique()
        return header(
            fig,
            "What the second mention tells: which name, or where it stood",
            f"IOI, n = {count_text(table.n)} prompts a training; thin: {seeds} "
            f"training{'s' if seeds != 1 else ''}, thick: their mean",
            role_handles(roles),
            columns=3,
        )
