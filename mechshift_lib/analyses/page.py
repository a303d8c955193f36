"""Putting sentences, figures and tables on a notebook's page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping

import pandas as pd
from IPython.display import HTML, Image, Markdown, display
from matplotlib.figure import Figure

from mechshift_lib.analyses import verdicts
from mechshift_lib.analyses.study import Study
from mechshift_lib.analyses.words.formatting import Finding
from mechshift_lib.analyses.words.verdicts import sentence
from mechshift_lib.comparison.claims import Claim
from mechshift_lib.plots.alt import alt_text

#: Resolution of figures on a page: sharp on a screen of twice the usual density.
DPI = 144


def say(markdown: str) -> None:
    """Show Markdown."""
    display(Markdown(markdown))


def tell(finding: Finding, *figures: Figure) -> None:
    """Show a finding: its sentence, the figures that show the same, and its table."""
    say(finding.said)
    for figure in figures:
        show(figure, finding.said if len(figures) == 1 else "")
    if finding.table is not None:
        tabulate(finding.table)


def show(figure: Figure, said: str = "") -> None:
    """Show a figure as it is, card included (the inline backend would crop it).

    Args:
        figure: the figure; its alternative text is written from what it draws.
        said: what is found in it, for the alternative text.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    described = {"alt": alt_text(figure, said)}  # Colab's IPython has no argument for it
    display(Image(data=buffer.getvalue(), format="png", metadata=described))


def verdict(study: Study, claim: Claim) -> None:
    """Say how a claim fares on a pair, on each task that it is about, as every page says it."""
    say("\n\n".join(sentence(found) for found in verdicts.of(study, claim)))


def tabulate(table: pd.DataFrame, formats: Mapping[str, str] | None = None) -> None:
    """Show a table that scrolls by itself where the screen is narrow.

    Args:
        table: the table; its index isn't shown.
        formats: column -> format of its values, such as ``{"score": "{:.2f}"}``.
    """
    formatters = {name: form.format for name, form in (formats or {}).items()}
    html = table.to_html(index=False, border=0, formatters=formatters, na_rep="–")
    display(HTML(f'<div style="overflow-x: auto">{html}</div>'))


#: Hides the rows of a folded table that don't have what is typed in.
_SEARCH = (
    "const wanted = this.value.toLowerCase();"
    "for (const row of this.closest('details').querySelectorAll('tbody tr'))"
    " row.hidden = !row.textContent.toLowerCase().includes(wanted)"
)


def fold(table: pd.DataFrame, title: str, name: str) -> None:
    """Show a table folded up, which can be searched, with a link that saves it as CSV.

    Args:
        table: the table, as numbers.
        title: what stands on the fold.
        name: name of the file, without ending.
    """
    data = base64.b64encode(table.to_csv(index=False).encode()).decode()
    link = f'<a download="{name}.csv" href="data:text/csv;base64,{data}">Save as CSV</a>'
    shown = table.to_html(index=False, border=0, na_rep="–", float_format="{:.3f}".format)
    display(
        HTML(
            f"<details><summary>{title} ({len(table)} rows)</summary>"
            f'<input type="search" placeholder="Search" aria-label="Search: {title}" '
            f'oninput="{_SEARCH}"> {link}'
            f'<div style="overflow: auto; max-height: 24em">{shown}</div></details>'
        )
    )
