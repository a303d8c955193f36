"""mechshift: what post-training from autoregressive to masked diffusion does inside a model.

What most uses need, by short names::

    import mechshift_lib as ms

    pair = ms.load_pair("tiny-llama")
    model = ms.load_model(pair.model("arm"))
    items = ms.ask(model, pair, "ioi", n=8)
    circuit = ms.attribute(model, items).circuit
    intact = ms.run_with(model, items, edges=circuit.strongest(50))

Everything is loaded when it is first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

#: Short name -> module that it comes from.
_FROM = {
    "load_pair": "mechshift_lib.config",
    "load_model": "mechshift_lib.models.loading",
    "ask": "mechshift_lib.circuits.questions.asking",
    "ask_text": "mechshift_lib.circuits.questions.asking",
    "attribute": "mechshift_lib.circuits.attribution.edges",
    "Graph": "mechshift_lib.circuits.graph.graph",
    "Circuit": "mechshift_lib.circuits.graph.circuit",
    "run_with": "mechshift_lib.circuits.evaluation.by_name",
}

__all__ = [
    "Circuit",
    "Graph",
    "__version__",
    "ask",
    "ask_text",
    "attribute",
    "load_model",
    "load_pair",
    "run_with",
]

if TYPE_CHECKING:
    from mechshift_lib.circuits.attribution.edges import attribute
    from mechshift_lib.circuits.evaluation.by_name import run_with
    from mechshift_lib.circuits.graph.circuit import Circuit
    from mechshift_lib.circuits.graph.graph import Graph
    from mechshift_lib.circuits.questions.asking import ask, ask_text
    from mechshift_lib.config import load_pair
    from mechshift_lib.models.loading import load_model


def __getattr__(name: str) -> Any:
    if name in _FROM:
        return getattr(import_module(_FROM[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
