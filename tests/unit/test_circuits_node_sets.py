"""Answers written without some nodes: as a model would write whose weights lack them."""

import copy

import pytest
import torch

from mechshift_lib.circuits.evaluation.ablation import Reference
from mechshift_lib.circuits.evaluation.node_sets import answers_without, intact_answers
from mechshift_lib.circuits.tracing.layers import run_layers
from mechshift_lib.diffusion.samplers import denoise, generate_arm
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.anatomy import at
from mechshift_lib.models.loading import wrap_model
from mechshift_lib.models.readout import make_readout
from tests.support.tiny import tiny_hf

PROMPTS = [(3, 5, 7, 9), (4, 4, 8, 2), (9, 5, 6), (2, 7, 7, 6), (8, 8, 3)]
LENGTHS = [3, 3, 4, 3, 4]
MASK = 1


def loaded(kind, hf=None):
    hf = tiny_hf() if hf is None else hf
    if kind == "arm":
        return wrap_model(hf)
    return wrap_model(
        hf, attention="full", readout=make_readout("shifted-mask", MASK), mask_id=MASK
    )


def plain(model):
    if model.mask_id is None:
        return generate_arm(model, PROMPTS, LENGTHS)
    return [x.tokens for x in denoise(model, PROMPTS, LENGTHS, order="maskgit_plus")]


def zeroed(hf, model, heads, mlps=()):
    """A copy of the weights in which these nodes write nothing."""
    hf, width = copy.deepcopy(hf), model.d_head
    with torch.no_grad():
        for layer, head in heads:
            own = at(model.anatomy.layer(hf, layer), model.anatomy.o)
            own.weight[:, head * width : (head + 1) * width] = 0
        for layer in mlps:
            at(model.anatomy.layer(hf, layer), model.anatomy.mlp_out).weight.zero_()
    return hf


@pytest.mark.parametrize("kind", ["arm", "mdm"])
def test_nodes_that_write_zeros_are_weights_of_zero(kind):
    hf = tiny_hf()
    model = loaded(kind, copy.deepcopy(hf))
    sets = [["a0.h1", "a1.h0"], ["m0"], ["a0.h1", "a1.h0"], [], ["m0"]]
    found = answers_without(model, PROMPTS, LENGTHS, sets, batch_size=2)
    heads = plain(loaded(kind, zeroed(hf, model, [(0, 1), (1, 0)])))
    mlp = plain(loaded(kind, zeroed(hf, model, [], [0])))
    whole = plain(model)
    assert found == [heads[0], mlp[1], heads[2], whole[3], mlp[4]]
    assert heads != whole, "the test would say nothing"
    assert mlp != whole


@pytest.mark.parametrize("kind", ["arm", "mdm"])
def test_means_are_of_the_inputs_of_the_same_step(kind):
    model = loaded(kind)
    found = intact_answers(model, PROMPTS, LENGTHS, batch_size=2)
    assert found.answers == plain(model)
    if kind == "arm":
        assert set(found.means) == {(n, 0) for n in (3, 4, 5, 6)}
        inputs = [(*p, *a)[:5] for p, a in zip(PROMPTS, found.answers, strict=True)]
        key = (5, 0)  # prompts of four with one token, prompts of three with two
    else:
        assert set(found.means) == {(7, n) for n in (1, 2, 3, 4)}
        inputs = [(*p, *(MASK,) * 4) for p in PROMPTS if len(p) == 3]
        key = (7, 4)
    expected = Reference.of(run_layers(model, torch.tensor(inputs)))
    got = found.means[key]
    torch.testing.assert_close(got.heads[1], expected.heads[1].mean(0, keepdim=True))
    torch.testing.assert_close(got.mlps[0], expected.mlps[0].mean(0, keepdim=True))


def test_a_constant_node_isn_t_missed_where_its_mean_stands():
    """A single prompt's means are what its nodes write: nothing changes."""
    model = loaded("mdm")
    intact = intact_answers(model, PROMPTS[:1], LENGTHS[:1])
    sets = [["a0.h1", "m0", "a1.h2", "input"]]
    same = answers_without(model, PROMPTS[:1], LENGTHS[:1], sets, means=intact.means)
    assert same == intact.answers
    assert answers_without(model, PROMPTS[:1], LENGTHS[:1], sets) != same


def test_what_can_t_be_done_is_refused():
    model = loaded("arm")
    with pytest.raises(CircuitError, match="Unknown node 'logits'"):
        answers_without(model, PROMPTS[:1], LENGTHS[:1], [["logits"]])
    with pytest.raises(CircuitError, match="5 prompts have 1 sets"):
        answers_without(model, PROMPTS, LENGTHS, [["m0"]])
    with pytest.raises(CircuitError, match="no means for inputs of 4 tokens, 0 masks"):
        answers_without(model, PROMPTS[:1], LENGTHS[:1], [["m0"]], means={})
