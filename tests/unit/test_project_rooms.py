"""The rooms of the library: what imports what, and where a model is traced."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from mechshift_lib.config import ROOT

LIBRARY = ROOT / "mechshift_lib"
#: From the top down: a room may import the rooms below it, and none beside it.
ROOMS = (
    ("cli",),
    ("explorer", "play"),
    ("analyses",),
    ("book",),
    ("workflow",),
    ("slurm",),
    ("fork", "execution"),
    ("markup",),
    ("plots",),
    ("semantics",),
    ("doctor",),
    ("exchange",),
    ("costs",),
    ("circuits.evaluation", "circuits.patching"),
    ("circuits.attribution",),
    ("circuits.questions",),
    ("circuits.tracing",),
    ("circuits.graph",),
    ("diffusion",),
    ("hub", "models"),
    ("comparison",),
    ("tasks",),
    ("made_of",),
    ("results",),
    ("config",),
    ("snapshots",),
    ("cluster",),
    ("kernels",),
    ("processes",),
    ("documents",),
    ("choices", "remote"),
    ("colab",),
    ("errors",),
)
FLOOR = {room: len(ROOMS) - row for row, rooms in enumerate(ROOMS) for room in rooms}


def modules() -> dict[str, str]:
    """Source of every module by its name."""
    found = {}
    for path in sorted(LIBRARY.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path.read_text(encoding="utf-8")
    return found


def room_of(module: str) -> str | None:
    """The room that a module or a name in it is in, ``None`` for the packages around the rooms."""
    _, *parts = module.split(".")
    if parts[:1] == ["circuits"]:
        return ".".join(parts[:2]) if len(parts) > 1 else None
    return parts[0] if parts else None


def imported(source: str, names: set[str]) -> Iterator[str]:
    """Modules of the library that a source imports anywhere, within functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name their module in full"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole == "mechshift_lib.__version__":
                    continue  # a constant of no room
                if whole in names:
                    yield whole
                elif node.module in names:
                    yield str(node.module)


def wrong_arrows(sources: dict[str, str]) -> list[str]:
    """Imports that don't lead to a room further down; a front door is above all of them."""
    wrong = []
    for module, source in sources.items():
        own = room_of(module)
        for other in imported(source, set(sources)):
            target = room_of(other)
            if own is None or own == target:
                continue  # a front door, or within the room
            if target is None or FLOOR[target] >= FLOOR[own]:
                wrong.append(f"{module} -> {other}")
    return wrong


def test_every_room_has_its_place() -> None:
    rooms = {room for module in modules() if (room := room_of(module)) not in (None, "__init__")}
    assert rooms == set(FLOOR), "name a new room in ROOMS, and only those that there are"


def test_arrows_between_rooms_point_down_only() -> None:
    assert wrong_arrows(modules()) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("circuits.graph.graph", "from mechshift_lib.circuits.tracing import retrying"),
        ("circuits.questions.items", "from mechshift_lib.circuits.attribution.edges import x"),
        ("circuits.patching.paths", "from mechshift_lib.circuits.evaluation import runs"),
        ("circuits.tracing.heap", "from mechshift_lib import attribute"),
        ("plots.graph", "def late():\n    import mechshift_lib.analyses.study"),
    ],
)
def test_an_arrow_that_points_up_or_aside_is_found(module: str, line: str) -> None:
    sources = modules()
    name = f"mechshift_lib.{module}"
    sources[name] += f"\n{line}\n"
    assert [arrow.split(" -> ")[0] for arrow in wrong_arrows(sources)] == [name]


def traces(source: str) -> bool:
    """Whether a source imports nnsight or opens a trace."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import) and any(a.name.startswith("nnsight") for a in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("nnsight"):
            return True
        if isinstance(node, ast.Attribute) and node.attr == "trace":
            return True
    return False


def test_circuits_are_traced_in_one_room_only() -> None:
    circuits = {
        name.split(".", 2)[2]
        for name, source in modules().items()
        if traces(source) and name.startswith("mechshift_lib.circuits.")
    }
    assert circuits == {
        f"tracing.{name}"
        for name in ("interventions", "layers", "patterns", "received", "resuming")
    }
