"""Nodes and edges with their names, scores of all edges, and selections among them."""

from mechshift_lib.circuits.graph.circuit import Circuit
from mechshift_lib.circuits.graph.graph import Graph

__all__ = ["Circuit", "Graph"]
