"""What neurons stand for: scores of rules, the commonest rules, and a dot for every training."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import CARD, INK, MUTED, ROLE_COLORS
from mechshift_lib.plots.theme import (
    MARKERS,
    figure,
    handle,
    header,
    label,
    percent_axis,
    present,
    role_handles,
    theme,
)
from mechshift_lib.plots.trainings import dots, headed

ROLES = ("arm", "mdm", "continued", "matched")
SITES = {"stream": "residual coordinates", "mlp": "MLP neurons"}
#: Columns that are drawn -> what heads their panel, and how their axis is written.
READINGS = {
    "distinct": "different explanations\namong as many explained",
    "relative": "variance, relative\nto the layer's mean",
}
OWN, RANDOM = "own", "random"


@drawn_from_tables
def plot_scores(table: pd.DataFrame, chance: float, least: float) -> Figure:
    """Share of neurons that are explained at least so well: a curve for every model, by layer kind.

    Args:
        table: ``site, model, seed, score``, one row a neuron.
        chance: score that one neuron in a hundred reaches without anything to find.
        least: score from which a neuron counts as explained.
    """
    with theme():
        sites = [site for site in SITES if site in set(table.site)]
        roles = present(table.model, ROLES)
        fig = figure(2.5)
        axes = fig.subplots(1, len(sites), squeeze=False, sharey=True)[0]
        grid = np.linspace(0, 1, 101)
        for ax, site in zip(axes, sites, strict=True):
            ax.axvspan(0, max(0.0, chance), color=MUTED, alpha=0.15, lw=0)
            ax.axvline(least, color=INK, lw=0.8, linestyle=":")
            for role in roles:
                here = table[(table.site == site) & (table.model == role)]
                share = (here.score.to_numpy()[:, None] >= grid).mean(0)
                ax.plot(grid, share, color=ROLE_COLORS.get(role, INK), lw=1.8)
            ax.set_title(SITES[site])
            ax.set_xlim(0, 1)
            ax.set_xticks([0, 0.5, 1])
            ax.set_ylim(0, 1)
            ax.yaxis.set_major_formatter(percent_axis())
            ax.grid()
        axes[0].set_ylabel("neurons that reach it")
        fig.supxlabel("score: correlation on texts that the rule wasn't chosen on", fontsize=10.5)
        lines = {"linestyle": "-", "linewidth": 1.8}
        handles = [handle(label(r), ROLE_COLORS.get(r, INK), "", **lines) for r in roles]
        seeds = table.seed.nunique()
        return header(
            fig,
            "How well rules predict single neurons",
            "Dotted: from here on a neuron counts as explained. Grey: what one neuron in a hundred "
            f"reaches by chance. All neurons of {seeds} training{'s' if seeds != 1 else ''}",
            handles,
        )


@drawn_from_tables
def plot_common(table: pd.DataFrame) -> Figure:
    """The commonest explanations and how many of the explained coordinates have each.

    Args:
        table: ``said, model, share``.
    """
    with theme():
        rules = list(dict.fromkeys(table.said))
        roles = present(table.model, ROLES)
        fig = figure(0.6 + 0.3 * len(rules))
        ax = fig.subplots()
        for i, role in enumerate(roles):
            here = table[table.model == role].set_index("said").share.reindex(rules)
            heights = np.arange(len(rules)) + 0.6 * ((i + 0.5) / len(roles) - 0.5)
            ax.plot(
                here, heights, linestyle="none", ms=6, mec=CARD,
                color=ROLE_COLORS.get(role, INK), marker=MARKERS.get(role, "o"),
            )  # fmt: skip
        ax.set_yticks(range(len(rules)), [_short(rule) for rule in rules], fontsize=9)
        ax.set_ylim(len(rules) - 0.5, -0.5)
        ax.set_xlim(left=-0.01)  # markers at 0 stay whole
        ax.xaxis.set_major_formatter(percent_axis())
        ax.grid()
        ax.set_xlabel("of the explained residual coordinates")
        return header(
            fig,
            "What residual coordinates are explained by",
            "The commonest rules: the token …; means over trainings",
            role_handles(roles),
        )


@drawn_from_tables
def plot_counts(table: pd.DataFrame) -> Figure:
    """Numbers of explanations and variances that are judged; a dot a training.

    Args:
        table: rows of one site, state and threshold: ``seed, model, basis`` and the columns of
            :data:`READINGS`.
    """
    with theme():
        random = table[(table.basis == RANDOM) & (table.model == "arm")]
        every = pd.concat([table[table.basis == OWN], random.assign(model=RANDOM)])
        arm = every[every.model == "arm"].set_index("seed")
        parts = {}
        for column, what in READINGS.items():
            ratio = every[column] / every.seed.map(arm[column])
            parts[what] = every.assign(ratio=ratio).dropna(subset="ratio")
        order = (*ROLES, RANDOM)
        fig, ax = dots(parts, "ratio", "model", order)
        ax.axvline(1, color=MUTED, lw=0.8)
        ax.set_xlabel("times the ARM's of the same training")
        return headed(
            fig,
            every,
            "model",
            order,
            "How many explanations, and how much variance",
            "Explained residual coordinates; random: directions of a random basis of the ARM",
        )


def _short(rule: str) -> str:
    """A rule on two lines where it has two statements."""
    return rule.replace(" and ", "\nand ", 1) if len(rule) > 34 else rule
