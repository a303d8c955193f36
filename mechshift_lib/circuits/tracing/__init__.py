"""Every nnsight trace of circuits, and what keeps long series of them within memory.

- ``layers``: a run over the layers and the one record of it, also for gradients;
- ``resuming``: going on from a layer of a run;
- ``written_out``: the same without a trace, at the positions that matter, where that is proven;
- ``interventions``: nodes that write, or readers that take in, something else;
- ``received``: the two runs of path patching;
- ``patterns``: what each query looks at, read off what heads put out;
- ``retrying``, ``heap``: memory that runs out, and memory given back.
"""
