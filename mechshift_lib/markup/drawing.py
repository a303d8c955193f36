"""A figure as SVG that stands in a page: its text is text, its colours follow the page's mode.

matplotlib writes a file of its own. In a page it has no ground and no heading (the caption says
it), its type and ink are the page's, its identifiers are no other figure's, and marks by the
hundred are one picture.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any, TypeVar

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.layout_engine import PlaceHolderLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from mechshift_lib.plots.palette import variable
from mechshift_lib.plots.theme import HEADING

Canvas = TypeVar("Canvas", bound=FigureCanvasBase)

#: Width on a page in CSS pixels of an inch of the figure: its 10.5-point type is 16 pixels high.
PIXELS = 16 / 10.5 * 72
#: Least width on a page: on a phone a wide figure scrolls inside itself, its type still legible.
LEAST = "36rem"
#: Marks of one artist from which on they are drawn as one picture.
MANY = 400
#: Pixels of such a picture for each of the page's.
SHARPNESS = 2
#: Room above and below what is drawn, in inches.
ROOM = 0.05
#: Names of matplotlib's font, which readers needn't have: the page's own is taken.
_FONT = re.compile(r"font-family:[^;\"]*;? ?|font: ([\d.]+px)[^;\"]*")
_TAG = re.compile(r"<[^>]+>")
_COLOR = re.compile(r"#[0-9a-f]{6}\b")
_UNTURNED = re.compile(r' transform="rotate\(-?0 [^"]*"')
#: A group of marks that all look alike.
_ALIKE = re.compile(
    r'<g((?: clip-path="[^"]*")?)>\n((?:<use [^>]*style="([^"]*)"/>\n)'
    r'(?:<use [^>]*style="\3"/>\n)+)</g>'
)
_LONG = re.compile(r'\b(?:d|x|y|width|height|points)="[^"]*"')


def svg(fig: Figure, alt: str) -> str:
    """A figure as an ``<svg>`` element, the same bytes for the same figure.

    Args:
        fig: the figure; it is left as it was.
        alt: its alternative text.
    """
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "mechshift"}
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    grounds = [fig.patch, *(ax.patch for ax in fig.axes)]
    hidden = [text for text in fig.texts if text.get_gid() == HEADING]
    with mpl.rc_context(settings), laid_out(fig), _unseen([*hidden, *grounds]), _as_pictures(fig):
        box = _drawn(fig)
        buffer = io.StringIO()
        with _canvas(fig, FigureCanvasSVG, SHARPNESS * PIXELS) as canvas:
            canvas.print_svg(buffer, metadata=metadata)
    inner = buffer.getvalue().split("<svg", 1)[1].split(">", 1)[1].rsplit("</svg>", 1)[0]
    width, height, shown = 72 * box.width, 72 * box.height, round(PIXELS * box.width)
    left, top = 72 * box.x0, 72 * (fig.get_size_inches()[1] - box.y1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'role="img" aria-label="{escape(alt)}" '
        f'viewBox="{left:.1f} {top:.1f} {width:.1f} {height:.1f}" '
        f'stroke-linejoin="round" stroke-linecap="butt" '
        f'style="width: 100%; min-width: min({LEAST}, {shown}px); max-width: {shown}px; '
        f'height: auto">'
        f"{_tidied(inner)}</svg>"
    )


def heading(fig: Figure) -> tuple[str, str]:
    """Title and subtitle of a figure, each on one line; empty where it has none."""
    texts = [text.get_text() for text in fig.texts if text.get_gid() == HEADING]
    title, subtitle = (" ".join(text.split("\n")) for text in (*texts, "", "")[:2])
    return title, subtitle


def png(fig: Figure, dpi: float) -> bytes:
    """A figure as a picture, heading and all."""
    buffer = io.BytesIO()
    with laid_out(fig), _canvas(fig, FigureCanvasAgg, dpi) as canvas:
        canvas.print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


@contextmanager
def laid_out(fig: Figure) -> Iterator[None]:
    """Have the figure's parts find their places once, for all that is drawn inside the block.

    That takes longer than drawing, and ``savefig`` does it each time, by drawing twice.
    """
    engine = fig.get_layout_engine()
    if engine is None or isinstance(engine, PlaceHolderLayoutEngine):
        yield
        return
    with _canvas(fig, FigureCanvasAgg, fig.dpi):
        fig.draw_without_rendering()
    fig.set_layout_engine("none")
    try:
        yield
    finally:
        fig.set_layout_engine(engine)


@contextmanager
def _canvas(fig: Figure, kind: Callable[[Figure], Canvas], dpi: float) -> Iterator[Canvas]:
    """A canvas to draw on; afterwards the figure has its own again."""
    before, own = fig.dpi, fig.canvas
    fig.set_dpi(dpi)
    try:
        yield kind(fig)
    finally:
        fig.set_dpi(before)
        fig.set_canvas(own)


@contextmanager
def _unseen(artists: Sequence[Artist]) -> Iterator[None]:
    shown = [artist for artist in artists if artist.get_visible()]
    for artist in shown:
        artist.set_visible(False)
    try:
        yield
    finally:
        for artist in shown:
            artist.set_visible(True)


@contextmanager
def _as_pictures(fig: Figure) -> Iterator[None]:
    """Draw artists of very many marks as pictures: as shapes they would be most of a page."""
    many = [one for ax in fig.axes for one in (*ax.lines, *ax.collections) if _marks(one) > MANY]
    before = [one.get_rasterized() for one in many]
    for one in many:
        one.set_rasterized(True)
    try:
        yield
    finally:
        for one, was in zip(many, before, strict=True):
            one.set_rasterized(was)


def _marks(artist: Artist) -> int:
    if isinstance(artist, Line2D):
        return len(artist.get_xdata()) if artist.get_marker() not in ("", "None", None) else 0  # type: ignore[arg-type]
    return len(artist.get_offsets()) if isinstance(artist, PathCollection) else 0  # type: ignore[arg-type]


def _drawn(fig: Figure) -> Bbox:
    """What is drawn, over the whole width, so that the type of all figures has one size.

    Wider than that only where a text would be cut off.
    """
    with _canvas(fig, FigureCanvasAgg, fig.dpi) as canvas:  # whose renderer measures
        box = fig.get_tightbbox(canvas.get_renderer())
    width, height = fig.get_size_inches()
    left, right = min(0, box.x0), max(width, box.x1)
    return Bbox([[left, max(0, box.y0 - ROOM)], [right, min(height, box.y1 + ROOM)]])


def _tidied(inner: str) -> str:
    """The elements without what only a file needs, and with the page's type and colours."""
    inner = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", inner, flags=re.S)
    used = list(dict.fromkeys(re.findall(r'(?:url\(#|href="#)([\w-]+)', inner)))
    prefix = "fig" + hashlib.sha256(inner.encode()).hexdigest()[:10]
    names = {name: f"{prefix}-{i}" for i, name in enumerate(used)}
    inner = re.sub(r">\s+<", ">\n<", re.sub(r"<defs>\s*</defs>", "", inner)).strip()
    return _ALIKE.sub(_styled_once, _TAG.sub(lambda tag: _tag(tag[0], names), inner))


def _styled_once(group: re.Match[str]) -> str:
    """The group with the style that its marks have, and which then need none of their own."""
    clip, marks, style = group.groups()
    plain = marks.replace(f' style="{style}"', "")
    return f'<g{clip} style="{style}">\n{plain}</g>'


def _tag(tag: str, names: dict[str, str]) -> str:
    """One tag on one line: short numbers, needed identifiers, no font, variable colours."""
    if tag.startswith("<image"):  # its data would be searched through for nothing
        return re.sub(r' id="[^"]*"', "", tag)
    tag = _UNTURNED.sub("", " ".join(tag.split()))
    tag = re.sub(r' id="([^"]*)"', lambda m: f' id="{names[m[1]]}"' if m[1] in names else "", tag)
    tag = re.sub(r"(url\(#|href=\"#)([\w-]+)", lambda m: m[1] + names[m[2]], tag)
    tag = _FONT.sub(lambda m: f"font-size: {m[1]}" if m[1] else "", tag)
    tag = _COLOR.sub(lambda m: variable(m[0]), tag)
    return _LONG.sub(lambda m: re.sub(r"-?\d+\.\d{3,}", _rounded, m[0]), tag)


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
