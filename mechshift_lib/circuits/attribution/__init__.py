"""Scores of edges, nodes and neurons: from gradients at interpolation points, or exact."""

from mechshift_lib.circuits.attribution.edges import attribute

__all__ = ["attribute"]
