"""Circuits: the graph of nodes and edges, attribution of its edges, and the scores they get.

Nothing here knows which family a model is from: that is :mod:`mechshift_lib.models`.
"""
