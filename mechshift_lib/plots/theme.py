"""One look for all figures: names, markers, type, and their header.

As pictures they stand on a light card. On a page they are drawn without it, and their colours
follow the page's mode (:mod:`mechshift_lib.plots.palette`, :mod:`mechshift_lib.markup.drawing`).
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from mechshift_lib.plots.palette import CARD, GRID, INK, MUTED, ROLE_COLORS

#: Width of every figure in inches: 11-point type is still legible when a phone shrinks it.
WIDTH = 5.2
#: Mark of title and subtitle: a page says them in the caption.
HEADING = "heading"
MARKERS = {
    "arm": "o",
    "mdm": "s",
    "mdm-own": "D",
    "continued": "^",
    "matched": "P",
    "mdm-answers": "<",
    "mdm-causal": ">",
    "random": "v",
    "untrained": "X",
}

#: Sign of each outcome of a claim.
OUTCOME_SIGNS = {
    "reproduced": "✓",
    "not reproduced": "✗",
    "reversed": "⇄",
    "undecided": "?",
    "doesn't apply": "⊘",
    "not measured": "○",
}
LABELS = {
    "arm": "ARM",
    "mdm": "MDM",
    "mdm-own": "MDM, own order",
    "continued": "continued ARM",
    "matched": "MDM as far as the control",
    "mdm-answers": "MDM, answers masked only",
    "mdm-causal": "MDM, causal attention",
    "arm-mdm": "ARM ↔ MDM",
    "arm-mdm-own": "ARM ↔ MDM, own order",
    "mdm-mdm-own": "MDM ↔ MDM, own order",
    "arm-continued": "ARM ↔ continued ARM",
    "arm-halves": "ARM ↔ ARM, halves",
    "mdm-halves": "MDM ↔ MDM, halves",
    "arm-mdm-halves": "ARM ↔ MDM, halves",
    "arm-seeds": "ARM ↔ ARM, other seed",
    "mdm-seeds": "MDM ↔ MDM, other seed",
    "ioi": "IOI",
    "greater-than": "Greater-Than",
    "countdown": "Countdown",
    "infilling": "Infilling",
    "resid": "residual stream",
    "attn": "attention output",
    "mlp": "MLP output",
    "eap": "EAP",
    "clean-corrupted": "clean-corrupted",
    "eap-ig-5": "EAP-IG(5)",
    "eap-ig-5-right": "EAP-IG(5), 1 … m",
    "eap-ig-20": "EAP-IG(20)",
    "eap-ig-activations-5": "EAP-IG activations(5)",
    "exact": "exact patching",
    "exact-halves": "exact, halves",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "noiseless": "cosine without noise",
    "jaccard": "Jaccard index without noise",
    "recall-0.01": "recall of top 1 %",
    "recall-0.05": "recall of top 5 %",
    "recall-0.2": "recall of top 20 %",
    "logit-diff": "logit difference",
    "prob-diff": "probability difference",
    "left-to-right": "left to right",
    "random": "random",
    "maskgit_plus": "maskgit_plus",
    "topk_margin": "topk_margin",
    "entropy": "entropy",
}


def label(name: str) -> str:
    """What people read for the name of a role, task, order, comparison or read.

    A read is a task and what of it is read: ``ioi/the answer`` → ``IOI, the answer``.
    """
    first, *place = name.split("/")
    return ", ".join([LABELS.get(first, first), *place])


def layer_ticks(layers: Iterable[int]) -> range:
    """Ticks of an axis of layers: all of a few, every fifth of more, every tenth of very many."""
    known = set(layers)
    first, last = int(min(known)), int(max(known))
    every = next(step for step, most in ((1, 8), (5, 45), (10, math.inf)) if last - first <= most)
    return range(first, last + 1, every)


@contextmanager
def theme() -> Iterator[None]:
    """Settings that hold while a figure is drawn."""
    settings: dict[str, Any] = {
        "figure.facecolor": CARD,
        "savefig.facecolor": CARD,
        "figure.dpi": 144,
        "axes.facecolor": CARD,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "axes.titlecolor": INK,
        "axes.labelsize": 10.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.labelsize": 10,
        "ytick.labelsize": 10,
        "legend.fontsize": 10,
        "legend.frameon": False,
        "font.size": 10.5,
        "font.family": "DejaVu Sans",
        "svg.hashsalt": "mechshift",
    }
    with sns.axes_style("ticks"), mpl.rc_context(settings):  # type: ignore[arg-type]
        yield


def percent_axis() -> FuncFormatter:
    """How an axis of shares writes them: ``20 %``, as sentences do."""
    return FuncFormatter(lambda share, _: f"{100 * share:g}\N{NO-BREAK SPACE}%".replace("-", "−"))


def figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure on a card, to be closed with :func:`header`. Sizes in inches.

    It isn't registered with pyplot, so it is shown once, by whoever displays it.
    """
    return Figure(figsize=(width, height), layout="constrained")


def header(
    fig: Figure,
    title: str,
    subtitle: str,
    handles: Sequence[Line2D] = (),
    columns: int = 2,
) -> Figure:
    """Put title, subtitle (unit, n, interval) and legend above the axes; the figure grows."""
    width, height = fig.get_size_inches()
    subtitle = subtitle.replace("n = ", "n\u00a0=\u00a0").replace(" %", "\u00a0%")  # keep together
    titles = textwrap.wrap(title, int(width * 9.6))
    subtitles = [
        line for part in subtitle.split("\n") for line in textwrap.wrap(part, int(width * 12.6))
    ]
    rows = -(-len(handles) // columns) if handles else 0
    top, line_title, line_subtitle, line_legend = 0.1, 0.22, 0.175, 0.215
    room = (
        top + line_title * len(titles) + line_subtitle * len(subtitles) + line_legend * rows + 0.12
    )
    total = height + room
    fig.set_size_inches(width, total)
    fig.set_label(title)
    fig.get_layout_engine().set(rect=(0, 0, 1, height / total))  # type: ignore[union-attr, call-arg]
    _beside_the_axes(fig, height, total)
    y = total - top
    fig.text(
        0.02,
        y / total,
        "\n".join(titles),
        gid=HEADING,
        va="top",
        fontsize=12,
        fontweight="bold",
        linespacing=1.15,
    )
    y -= line_title * len(titles) + 0.02
    fig.text(
        0.02,
        y / total,
        "\n".join(subtitles),
        gid=HEADING,
        va="top",
        fontsize=9.5,
        color=MUTED,
        linespacing=1.2,
    )
    y -= line_subtitle * len(subtitles) + 0.03
    if handles:
        fig.legend(
            handles=list(handles),
            loc="upper left",
            bbox_to_anchor=(0.005, y / total),
            ncols=columns,
            borderaxespad=0,
            handletextpad=0.4,
            columnspacing=1.2,
            labelspacing=0.25,
        )
    return fig


def _beside_the_axes(fig: Figure, height: float, total: float) -> None:
    """Put the label of all vertical axes at their middle, not at that of the whole figure."""
    if name := fig.get_supylabel():
        fig.supylabel(
            textwrap.fill(name, max(12, int(height * 11))),
            y=height / total / 2,
            ha="center",
            va="top",
            rotation_mode="anchor",
            fontsize=10.5,
        )


def handle(name: str, color: str, marker: str = "o", **kwargs: Any) -> Line2D:
    """A legend entry: a marker, and a line where ``linestyle`` is given."""
    options: dict[str, Any] = {"linestyle": "none", "markersize": 6.5, **kwargs}
    return Line2D([], [], color=color, marker=marker, label=name, **options)


def role_handles(roles: Sequence[str]) -> list[Line2D]:
    """Legend entries of models or circuits."""
    return [handle(label(r), ROLE_COLORS.get(r, INK), MARKERS.get(r, "o")) for r in roles]


def present(values: Sequence[str], order: Sequence[str]) -> list[str]:
    """The distinct values, those of ``order`` first and in its order, then others as they come."""
    seen = list(dict.fromkeys(values))
    return [v for v in order if v in seen] + [v for v in seen if v not in order]


def count_text(n: pd.Series) -> str:
    """One number, or the range of several: ``500`` or ``96–100``."""
    low, high = int(n.min()), int(n.max())
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"
