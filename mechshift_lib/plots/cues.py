"""Which cue wins, a dot for every training."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from mechshift_lib.plots.theme import (
    INK,
    MARKERS,
    ROLE_COLORS,
    count_text,
    figure,
    header,
    present,
    role_handles,
    theme,
)

ROLES = ("arm", "continued", "matched", "mdm", "mdm-answers", "mdm-causal")
#: What a donor of the stream changes, in words.
SIGNALS = {"name": "another name", "place": "another place"}
#: Answer tokens at which numbers stand, in words.
PLACES = {0: "first number", 2: "second number", 4: "last number", 6: "fourth number"}


def plot_cues(table: pd.DataFrame) -> Figure:
    """Probability of what elimination names, a row for each kind of conflict and place.

    Args:
        table: ``seed, model, kind, at, listed, n``.
    """
    with theme():
        rows = table[["kind", "at"]].drop_duplicates().to_records(index=False).tolist()
        roles = present(table.model, ROLES)
        fig = figure(0.75 + 0.62 * len(rows))
        ax = fig.subplots()
        for y, (kind, at) in enumerate(rows):
            here = table[(table.kind == kind) & (table["at"] == at)]
            for i, role in enumerate(roles):
                values = here[here.model == role].listed
                if values.empty:  # a model that can't be asked so
                    continue
                height = y + 0.22 * (i - (len(roles) - 1) / 2)
                style: dict[str, Any] = {
                    "color": ROLE_COLORS.get(role, INK),
                    "marker": MARKERS.get(role, "o"),
                }
                ax.plot(values, [height] * len(values), linestyle="none", ms=4, alpha=0.45, **style)
                ax.plot([values.mean()], [height], linestyle="none", ms=8, mec="white", **style)
        ax.set_yticks(range(len(rows)), [f"{kind},\n{PLACES.get(at, at)}" for kind, at in rows])
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_xlim(-0.03, 1.03)
        ax.set_xlabel("probability of the token that elimination names")
        ax.grid(axis="x")
        seeds = table.seed.nunique()
        return header(
            fig,
            "How sure each model is of what is left of the given numbers",
            f"Countdown, n = {count_text(table.n)} questions a row and training; small: "
            f"{seeds} training{'s' if seeds != 1 else ''}, large: their mean",
            role_handles(roles),
            columns=3,
        )


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
            ax.set_xticks(sorted(set(table.layer)))
            ax.set_xlabel("layers before the replaced stream")
            ax.grid(axis="y")
        axes[0].set_ylabel("share of the answer switched")
        seeds = table.seed.nunique()
        return header(
            fig,
            "What the second mention tells: which name, or where it stood",
            f"IOI, n = {count_text(table.n)} prompts a training; thin: {seeds} "
            f"training{'s' if seeds != 1 else ''}, thick: their mean",
            role_handles(roles),
            columns=3,
        )
