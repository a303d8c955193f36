"""Putting sentences, figures and tables on a notebook's page."""

from __future__ import annotations

import io
from collections.abc import Mapping

import pandas as pd
from IPython.display import HTML, Image, Markdown, display
from matplotlib.figure import Figure

#: Resolution of figures on a page: sharp on a screen of twice the usual density.
DPI = 144


def say(markdown: str) -> None:
    """Show Markdown."""
    display(Markdown(markdown))


def show(figure: Figure) -> None:
    """Show a figure as it is, card included (the inline backend would crop it)."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    display(Image(data=buffer.getvalue(), format="png"))


def tabulate(table: pd.DataFrame, formats: Mapping[str, str] | None = None) -> None:
    """Show a table that scrolls by itself where the screen is narrow.

    Args:
        table: the table; its index isn't shown.
        formats: column -> format of its values, such as ``{"score": "{:.2f}"}``.
    """
    formatters = {name: form.format for name, form in (formats or {}).items()}
    html = table.to_html(index=False, border=0, formatters=formatters, na_rep="–")
    display(HTML(f'<div style="overflow-x: auto">{html}</div>'))
