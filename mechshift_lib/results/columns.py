"""What the columns of stored tables mean: the data dictionary of an archive."""

from __future__ import annotations

#: Column → meaning, with units. One word means one thing in every table.
COLUMNS = {
    "answer": "what the model answered, as text",
    "arm_only": "attention heads of the layer that only the ARM's circuit uses, count",
    "base": "circuit that the shift is measured from",
    "bias": "mean of the bootstrap draws minus the value, in the value's units",
    "by": "how edges are ranked: by signed or by absolute score",
    "chance": "value expected of random sets of the same size",
    "circuit": "model and readout that the circuit was found in",
    "clean": "metric in the clean run, in the metric's units",
    "comparison": "the two circuits that are compared",
    "correct": "whether the answer is right; of a circuit, share of right tokens",
    "corrupted": "metric in the corrupted run, in the metric's units",
    "count": "edges, or components, in the circuit, count",
    "depth": "centre of mass of the circuit, in layers / number of layers",
    "direction": "denoise: clean into corrupted run; noise: corrupted into clean run",
    "distractor": "probability of all wrong tokens that the task names",
    "edges": "which edges the depth is taken over",
    "empty": "metric with every edge ablated, in the metric's units",
    "end": "end of an edge: source or reader",
    "entropy": "entropy of what is predicted, in nats",
    "example": "number of the example in its task's list",
    "fraction": "share of all edges in the circuit",
    "full": "metric with every edge intact, in the metric's units",
    "head": "attention head of the layer; -1 where there is none",
    "high": "upper end of the 95 % interval",
    "item": "row of the table of items",
    "jaccard": "Jaccard index |A ∩ B| / |A ∪ B|",
    "k": "size of the top-K sets, count",
    "kl": "KL divergence of the model's own output from what is read, in nats",
    "kv": "whether key and value edges are counted per query head or per KV head",
    "label": "where the size of the circuit comes from",
    "layer": "layer, from 0",
    "low": "lower end of the 95 % interval",
    "mdm_only": "attention heads of the layer that only the MDM's circuit uses, count",
    "n": "examples, count",
    "n_answer": "tokens of the answer, count",
    "n_heads": "attention heads of a layer, count",
    "n_kv_heads": "key-value heads of a layer, count",
    "n_layers": "layers, count",
    "parallel": "attention and MLP of a layer both read the layer's input",
    "position": "position of the token, from 0; -1: all at once",
    "probability": "probability of all right tokens",
    "read": "by which lens a layer is read",
    "reveal": "order in which masks were filled",
    "seed": "training seed",
    "share": "|A ∩ B| / K",
    "shared": "attention heads of the layer that both circuits use, count",
    "shift": "depth minus the base's, in layers / number of layers",
    "site": "patched activation: resid, attn, mlp or head",
    "step": "denoising step, from 0",
    "task": "task",
    "token": "answer token, from 0",
    "value": "the measured value, in the metric's units",
    "weight": "scored tokens of the item, count",
}


def meaning(column: str) -> str:
    """What a column means; a number names an example or denoising step whose scores it holds."""
    if column.isdigit():
        return "score of each edge (rows, in the graph's order) for this example or step"
    return COLUMNS.get(column, "")
