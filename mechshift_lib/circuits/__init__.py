"""Circuits: what is asked of a model, how it is traced, and what its edges do.

Rooms, from the bottom up (each imports only from those above it in this list):

- ``graph``: nodes and edges with their names, scores of all edges, which of them are selected;
- ``tracing``: the only place where a model is traced for circuits;
- ``questions``: items, metrics, and what is read out of a run;
- ``attribution``: scores of edges, nodes and neurons, by gradients or by exact patching;
- ``patching``: activations, paths, attention that is cut;
- ``evaluation``: what a circuit does with everything else ablated.

Nothing here knows which family a model is from: that is :mod:`mechshift_lib.models`.
"""
