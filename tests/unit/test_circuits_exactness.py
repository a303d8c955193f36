"""What must hold exactly, for every architecture, attention, grouping and padding."""

import numpy as np
import pytest
import torch

from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.circuits.evaluation.runs import circuit_logits
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.patching.activations import patch_nodes
from mechshift_lib.circuits.tracing.layers import READERS, run_layers
from mechshift_lib.errors import ModelError
from mechshift_lib.models.anatomy import at, rows
from mechshift_lib.models.loading import wrap_model
from tests.support.literal import embedding, literal_scores, plain_read, run
from tests.support.tiny import CASES, tiny_hf, tiny_items

PADDINGS = ("none", "left", "right")
KV = ("ungrouped", "grouped")


def padded(ids, side):
    """Ids with two tokens of padding on a side, their mask, and where the tokens are."""
    if side == "none":
        return ids, None, slice(0, ids.shape[1])
    filler, kept = torch.full((len(ids), 2), 7), torch.ones_like(ids)
    parts = ((ids, filler), (kept, 0 * filler))
    wide, mask = (torch.cat(pair if side == "right" else pair[::-1], 1) for pair in parts)
    return wide, mask, slice(0, ids.shape[1]) if side == "right" else slice(2, None)


def logit_diff(logits, item):
    """The item's metric on logits ``[1, pos, vocab]``, written out."""
    reads = list(zip(item.reads, item.answers, item.distractors, strict=True))
    return sum(logits[0, p, a[0]] - logits[0, p, d[0]] for p, a, d in reads) / len(reads)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("kv", KV)
@pytest.mark.parametrize(("architecture", "attention"), CASES)
def test_node_outputs_add_up_to_the_residual_stream(architecture, attention, kv, padding):
    model = wrap_model(tiny_hf(architecture), attention=attention, kv=kv)
    anatomy = model.anatomy
    clean = torch.tensor([item.clean for item in tiny_items(3)])
    ids, mask, tokens = padded(clean, padding)
    if mask is not None and anatomy.padding == "none":
        with pytest.raises(ModelError, match="padding"):
            run_layers(model, ids, mask=mask)
        return
    outputs = run_layers(model, ids, mask=mask)
    sites = run_layers(model, ids, READERS, start=outputs.embed, mask=mask)
    stream = outputs.embed
    for index in range(model.n_layers):
        assert torch.allclose(stream, sites.attn_in[index], atol=1e-5)
        output = at(anatomy.layer(model.hf, index), anatomy.o)
        heads = outputs.heads[index].unflatten(-1, (model.n_heads, model.d_head))
        per_head = rows(output).T.unflatten(0, (model.n_heads, model.d_head))
        attended = torch.einsum("bphe,hed->bphd", heads, per_head).sum(2)
        if output.bias is not None:
            attended = attended + output.bias
        read = stream if anatomy.parallel else stream + attended
        assert torch.allclose(read, sites.mlp_in[index], atol=1e-5)
        stream = stream + attended + outputs.mlps[index]
    torch.testing.assert_close(stream, sites.final_in, atol=1e-5, rtol=1e-5)
    logits = at(model.hf, anatomy.unembed)(at(model.hf, anatomy.final_norm)(stream))
    torch.testing.assert_close(logits[:, tokens], model.logits(clean), atol=1e-5, rtol=1e-4)
    assert (stream - outputs.embed).abs().max() > 0.1  # the layers do write something


@pytest.mark.parametrize("kv", KV)
@pytest.mark.parametrize(("architecture", "attention"), CASES)
def test_gradient_attribution_equals_the_literal_one(architecture, attention, kv):
    hf = tiny_hf(architecture)
    model = wrap_model(hf, attention=attention, kv=kv)  # the literal one sees what is ungrouped
    (item,) = tiny_items(1, reads=2)

    expected = literal_scores(
        hf,
        torch.tensor([item.clean]),
        torch.tensor([item.corrupted]),
        lambda logits: logit_diff(logits, item),
        causal=attention == "causal",
        shares=[0.0, 0.5],
    )
    result = attribute(model, [item], steps=2)
    assert set(expected) == set(result.graph.names)
    ordered = np.array([expected[name] for name in result.graph.names])
    np.testing.assert_allclose(result.scores, ordered, atol=1e-5, rtol=1e-4)
    assert np.abs(ordered).max() > 1e-2


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("kv", KV)
@pytest.mark.parametrize(("architecture", "attention"), CASES)
def test_all_edges_are_the_clean_run_and_no_edge_the_corrupted(
    architecture, attention, kv, padding
):
    model = wrap_model(tiny_hf(architecture), attention=attention, kv=kv)
    items = tiny_items(2, reads=2)
    side = None
    if padding != "none":
        side = padding
        items += tiny_items(1, length=10, seed=3, reads=2)
    edges = np.zeros((3, Graph.for_model(model).n_edges), dtype=bool)
    edges[0], edges[2, ::2] = True, True
    if side is not None and model.anatomy.padding == "none":
        with pytest.raises(ModelError, match="padding"):
            circuit_logits(model, items, edges[0], padding=side)
        return
    whole, none, half = (circuit_logits(model, items, mask, padding=side) for mask in edges)
    for row, item in enumerate(items):
        clean, corrupted = (
            model.logits(torch.tensor([ids]))[0, list(item.reads)]
            for ids in (item.clean, item.corrupted)
        )
        torch.testing.assert_close(whole[row], clean, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(none[row], corrupted, atol=1e-5, rtol=1e-5)
        assert (clean - corrupted).abs().max() > 1e-2
        assert min((half[row] - x).abs().max() for x in (clean, corrupted)) > 1e-2


@pytest.mark.parametrize(("architecture", "attention"), CASES)
def test_a_patched_node_is_another_output_for_all_its_readers(architecture, attention):
    hf, causal = tiny_hf(architecture), attention == "causal"
    model = wrap_model(hf, attention=attention)
    (item,) = tiny_items(1, reads=2)
    clean, corrupted = (
        embedding(hf, torch.tensor([ids])).detach() for ids in (item.clean, item.corrupted)
    )
    with torch.no_grad():
        (_, written), (_, other) = (run(hf, embed, causal=causal) for embed in (clean, corrupted))
    result = patch_nodes(model, [item], direction="noise", by_position=False)
    for layer in range(model.n_layers):
        nodes = [f"a{layer}.h{head}" for head in range(model.n_heads)] + [f"m{layer}"]
        found = [*result.patched["head"][0, layer, :, 0], result.patched["mlp"][0, layer, 0]]
        for node, value in zip(nodes, found, strict=True):
            change = other[node] - written[node]

            def read(reader, so_far, node=node, change=change):
                x = plain_read(reader, so_far)
                return x + change if node in so_far else x

            with torch.no_grad():
                logits, _ = run(hf, clean, causal=causal, read=read)
            assert value == pytest.approx(float(logit_diff(logits, item)), abs=1e-5)
    assert np.ptp(result.patched["head"]) > 1e-2
