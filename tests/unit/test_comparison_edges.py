"""Edge names to ends, layers and depths."""

import pytest

from mechshift_lib.comparison.edges import parse_edges
from mechshift_lib.errors import CircuitError

NAMES = ["input->m0", "a0.h1->a1.h0<v>", "m0->a1.h0<q>", "a1.h0->m1", "m1->logits"]


def test_components_are_ordered_by_layer_with_heads_before_the_mlp():
    edges = parse_edges(NAMES, n_layers=2)
    assert edges.components == ("a0.h1", "m0", "a1.h0", "m1")
    assert edges.component_layer.tolist() == [0, 0, 1, 1]
    assert edges.component_head.tolist() == [1, -1, 0, -1]


def test_ends_point_at_components_and_input_and_logits_are_none():
    edges = parse_edges(NAMES, n_layers=2)
    assert edges.source.tolist() == [-1, 0, 1, 2, 3]
    assert edges.reader.tolist() == [1, 2, 2, 3, -1]


def test_depth_is_layer_over_layers_with_input_at_0_and_logits_at_1():
    edges = parse_edges(NAMES, n_layers=2)
    assert edges.depth("source").tolist() == [0.0, 0.0, 0.0, 0.5, 0.5]
    assert edges.depth("reader").tolist() == [0.0, 0.5, 0.5, 0.5, 1.0]


@pytest.mark.parametrize(
    "name", ["input", "logits->m0", "m0->input", "b1.h2->m3", "a1->m2", "m0->a1.h0<w>", "m0>m1"]
)
def test_a_malformed_name_is_named_in_the_error(name):
    with pytest.raises(CircuitError, match=r"[eE]dge"):
        parse_edges([name], n_layers=4)


def test_a_layer_outside_the_model_is_an_error():
    with pytest.raises(CircuitError, match="2 layers"):
        parse_edges(["m1->m2"], n_layers=2)


def test_only_the_two_ends_have_depths():
    with pytest.raises(CircuitError, match="middle"):
        parse_edges(NAMES, n_layers=2).depth("middle")
