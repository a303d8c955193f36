"""What a figure shows, for those who can't see it, read off the figure itself."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

#: Longest alternative text; a screen reader can't skim.
LENGTH = 900


def alt_text(fig: Figure, said: str = "") -> str:
    """Title, what is found, axes, legend, rows, and each panel with the range of its values.

    Args:
        fig: the figure; its title is its label (see :func:`theme.header`).
        said: the sentence that stands above it, Markdown.
    """
    panels = [ax for ax in fig.axes if _title(ax)] or fig.axes[:1]
    names = [fig.get_supxlabel(), fig.get_supylabel()]
    names += [name for ax in fig.axes for name in (ax.get_xlabel(), ax.get_ylabel())]
    legend = [text.get_text() for one in fig.legends for text in one.texts]
    rows = next(filter(None, map(_rows, panels)), [])
    parts = [_line(str(fig.get_label())), re.sub(r"[*`]", "", said)]
    parts += [_listed("Axes", names), _listed("Legend", legend)]
    parts.append(_listed("Rows", [] if any(ax.images for ax in panels) else rows))
    parts.append(_listed("Panels", [f"{_title(ax)} {_range(ax, rows)}".strip() for ax in panels]))
    text = " ".join(part if part[-1] in ".?" else part + "." for part in parts if part)
    return text if len(text) <= LENGTH else text[: LENGTH - 1].rsplit(" ", 1)[0] + "…"


def _title(ax: Axes) -> str:
    return _line(ax.get_title(loc="left") or ax.get_title())


def _rows(ax: Axes) -> list[str]:
    """Names of the rows, where they aren't numbers."""
    texts = [_line(text.get_text()) for text in ax.get_yticklabels()]
    return texts if any(re.search("[A-Za-z]", text) for text in texts) else []


def _range(ax: Axes, rows: Sequence[str]) -> str:
    """A panel's cells and where the largest is; or the range of what is drawn along its axes."""
    if ax.images:
        cells: np.ma.MaskedArray = np.ma.masked_invalid(np.ma.asarray(ax.images[0].get_array()))
        if not cells.count():
            return ""
        row, column = map(int, np.unravel_index(cells.argmax(), cells.shape))
        name = rows[row] if len(rows) == len(cells) else str(row)
        where = f"largest in row {name}, column {column}"
        return f"({cells.min():.2g} to {cells.max():.2g}, {where})"
    ends = ax.dataLim.get_points()  # [[x0, y0], [x1, y1]]
    ends = np.where(np.abs(ends) < np.abs(ends).max(axis=0) / 1000, 0, ends)
    if not np.isfinite(ends).all():
        return ""
    spans = [
        f"{name} from {_tick(axis, low)} to {_tick(axis, high)}"
        for name, axis, (low, high) in zip("xy", (ax.xaxis, ax.yaxis), ends.T, strict=True)
    ]
    return f"({'; '.join(spans[:1] if rows else spans)})"


def _tick(axis: Axis, value: float) -> str:
    """A value as the axis writes it (a share as percent), to two digits."""
    value, written = float(f"{value:.2g}"), axis.get_major_formatter()
    return written(value, None) if isinstance(written, FuncFormatter) else f"{value:g}"


def _listed(name: str, texts: Sequence[str]) -> str:
    found = dict.fromkeys(filter(None, map(_line, texts)))
    return f"{name}: {'; '.join(found)}" if found else ""


def _line(text: str) -> str:
    return " ".join(text.split())
