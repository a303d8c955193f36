"""Products in chunks: the same scores whatever the memory budget, by position or summed."""

import pytest
import torch

from mechshift_lib.circuits.attribution.edges import EdgeTarget
from mechshift_lib.circuits.attribution.plan import Plan
from mechshift_lib.circuits.attribution.points import Endpoints, visit_points
from mechshift_lib.circuits.attribution.products import chunks, edge_scores, token_bytes
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.models.loading import wrap_model
from tests.support.tiny import tiny_hf, tiny_items

POSITIONS = slice(2, 8)


@pytest.fixture(scope="module", params=["qwen2", "gpt2"])
def scored(request):
    """A model, its graph, the arguments of edge_scores and the scores by position."""
    model = wrap_model(tiny_hf(request.param))
    items = tiny_items(3)
    graph, ends = Graph.for_model(model), Endpoints.of(model, items, "logit-diff")
    plan = Plan(steps=2)
    target = EdgeTarget(model, graph, ends, plan)
    visit_points(model, ends, target, plan)
    assert ends.positions == POSITIONS
    given = (model, graph, ends.clean, ends.corrupted, target.sites, POSITIONS)
    return given, edge_scores(*given, by_position=True)


def test_by_position_sums_to_the_scores(scored):
    given, by_position = scored
    graph = given[1]
    assert by_position.shape == (3, 6, graph.n_readers, graph.n_sources)
    torch.testing.assert_close(edge_scores(*given), by_position.sum(1), atol=1e-6, rtol=1e-5)
    # Position by position they differ, so nothing was spread evenly.
    assert (by_position[:, 0] - by_position[:, -1]).abs().max() > 1e-3


@pytest.mark.parametrize("tokens", [0, 1, 4, 6, 13])
def test_scores_do_not_depend_on_the_memory_budget(scored, tokens):
    given, by_position = scored
    budget = tokens * token_bytes(given[0], given[1], torch.float32)
    for resolved in (False, True):
        again = edge_scores(*given, by_position=resolved, memory_budget=budget)
        expected = by_position if resolved else by_position.sum(1)
        torch.testing.assert_close(again, expected, atol=1e-6, rtol=1e-5)


def test_what_is_no_edge_scores_zero(scored):
    (_, graph, *_), by_position = scored
    seen = torch.arange(graph.n_sources) < torch.tensor(graph.visible)[:, None]
    assert not by_position[..., ~seen].any()
    # The last token is the same in both runs, so to what only it feeds the embedding is the same.
    seen[:, 0] = False
    assert (by_position.abs().amax((0, 1))[seen] > 0).all()


def test_chunks_cover_everything_once():
    for batch, length in ((3, 7), (1, 1), (5, 4)):
        for tokens in (0, 1, 3, 7, 8, 14, 1000):
            counts = torch.zeros(batch, length)
            for examples, part in chunks(batch, length, tokens):
                counts[examples, part] += 1
                assert counts[examples, part].numel() <= max(1, tokens)
            assert (counts == 1).all()
    assert list(chunks(2, 0, 5)) == []
