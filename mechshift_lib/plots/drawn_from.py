"""Which tables a figure was drawn from, so that a page can offer them beside it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec
from weakref import WeakKeyDictionary

import pandas as pd
from matplotlib.figure import Figure

P = ParamSpec("P")
_TABLES: WeakKeyDictionary[Figure, dict[str, pd.DataFrame]] = WeakKeyDictionary()


def remember(fig: Figure, **tables: pd.DataFrame) -> Figure:
    """Note the tables of a figure; returns the figure."""
    _TABLES[fig] = tables
    return fig


def tables_of(fig: Figure) -> dict[str, pd.DataFrame]:
    """Name -> table that the figure was drawn from; none for a figure of somebody else."""
    return dict(_TABLES.get(fig, {}))


def drawn_from_tables(plot: Callable[P, Figure]) -> Callable[P, Figure]:
    """Let a function that draws a figure note the tables that it is given."""
    signature = inspect.signature(plot)

    @functools.wraps(plot)
    def drawing(*args: P.args, **kwargs: P.kwargs) -> Figure:
        given = signature.bind(*args, **kwargs).arguments
        tables = {name: x for name, x in given.items() if isinstance(x, pd.DataFrame)}
        fig = plot(*args, **kwargs)
        return remember(fig, **tables) if tables else fig

    return drawing
