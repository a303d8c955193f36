"""Figures from synthetic tables: what is drawn is what the table says, and nothing is cut off."""

import io
import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch

from mechshift_lib.analyses import cues as cues_of
from mechshift_lib.analyses.planning import PLACES
from mechshift_lib.comparison import published
from mechshift_lib.plots import cues, meeting, trajectory
from mechshift_lib.plots.ablation import (
    ABLATIONS,
    CONTRASTS,
    KINDS,
    plot_contrasts,
    plot_losses,
)
from mechshift_lib.plots.behaviour import plot_accuracy, plot_metric, plot_orders
from mechshift_lib.plots.circuits import (
    MEMBER_COLORS,
    membership,
    plot_circuit,
    plot_components,
)
from mechshift_lib.plots.depth import plot_depth
from mechshift_lib.plots.faithfulness import plot_cpr_lost, plot_cross, plot_faithfulness
from mechshift_lib.plots.graph import DRAWN, READER, graph_svg, plot_graph
from mechshift_lib.plots.overlap import (
    plot_head_usage,
    plot_overlap_curves,
    plot_overlap_reference,
)
from mechshift_lib.plots.palette import CARD, ROLE_COLORS
from mechshift_lib.plots.patching import (
    plot_arrival,
    plot_patch_heads,
    plot_patch_steps,
    plot_positions,
    plot_sublayers,
)
from mechshift_lib.plots.planning import CUTS, plot_cells, plot_cuts, plot_layers
from mechshift_lib.plots.published import plot_published_depth, plot_published_overlap
from mechshift_lib.plots.robustness import plot_curve
from mechshift_lib.plots.shift import plot_earlier, plot_likeness
from mechshift_lib.plots.steps import plot_steps
from mechshift_lib.plots.theme import count_text, present
from mechshift_lib.plots.trust import ESTIMATES, plot_agreement, plot_consequences, plot_scatter

TASKS = ("ioi", "countdown")
ROLES = ("arm", "mdm", "continued")


def accuracy_table():
    rows = itertools.product(TASKS, ROLES, (0, 1))
    return pd.DataFrame(
        [
            {"task": t, "role": r, "seed": s, "n": 50, "accuracy": a, "low": a - 0.1, "high": a}
            for (t, r, s), a in zip(rows, np.linspace(0.2, 0.9, 12), strict=True)
        ]
    )


def order_table():
    rows = itertools.product(TASKS, ("left-to-right", "entropy"))
    return pd.DataFrame(
        [
            {"task": t, "order": o, "seed": 0, "n": 50, "accuracy": 0.5, "low": 0.4, "high": 0.6}
            for t, o in rows
        ]
    )


def metric_table():
    values = {"clean": 3.0, "clean_low": 2.5, "clean_high": 3.5}
    values |= {"corrupted": -1.0, "corrupted_low": -1.5, "corrupted_high": -0.5}
    rows = itertools.product(TASKS, ROLES)
    return pd.DataFrame(
        [{"task": t, "role": r, "metric": "logit-diff", "n": 50, **values} for t, r in rows]
    )


def overlap_table(fractions=(0.01, 0.05, 0.5)):
    names = ("arm-mdm", "arm-continued", "arm-halves", "mdm-halves", "arm-mdm-halves")
    rows = itertools.product(TASKS, names, fractions)
    return pd.DataFrame(
        [
            {"task": t, "comparison": c, "fraction": f, "count": int(1000 * f), "n": 50, "k": 4}
            | {"jaccard": 0.6, "share": 0.7, "low": 0.5, "high": 0.8, "chance": f / 2}
            for t, c, f in rows
        ]
    )


def depth_table():
    rows = itertools.product(TASKS, ("arm", "mdm"), ("source", "reader"), ("top", "all"))
    return pd.DataFrame(
        [
            {"task": t, "circuit": c, "end": e, "edges": k, "n": 50, "count": 50}
            | {"base": "arm", "depth": 0.4, "shift": -0.1, "low": -0.2, "high": 0.45}
            for t, c, e, k in rows
        ]
    )


def training_table():
    rows = itertools.product(TASKS, range(5), ("mdm", "continued", "matched"))
    return pd.DataFrame(
        [
            {"task": t, "what": f"{t}, first token", "seed": s, "circuit": c, "n": 50}
            | {"cosine": 0.5 + 0.05 * s, "earlier": 0.02 * s - 0.1}
            for t, s, c in rows
        ]
    )


def component_table(layers=3, heads=2):
    rows = itertools.product(("arm", "mdm"), range(layers), range(-1, heads))
    return pd.DataFrame(
        [
            {"circuit": c, "layer": a, "head": h, "share": (a - 1) * 0.1, "count": 9, "n": 50}
            for c, a, h in rows
        ]
    )


def step_table():
    rows = itertools.product(TASKS, range(3), ("mdm", "arm"))
    return pd.DataFrame(rows, columns=["task", "seed", "model"]).assign(kept=0.95, n=50)


def edge_table():
    edges = ["input->a0.h0<q>", "a0.h0->m0", "m0->a1.h1<k>", "a1.h1->logits"]
    return pd.DataFrame(
        {
            "edge": edges,
            "arm": [True, True, False, True],
            "mdm": [True, False, True, True],
            "weight": [1.0, 0.5, 0.2, 0.8],
        }
    )


def head_table():
    rows = itertools.product(TASKS, range(3))
    return pd.DataFrame(
        [
            {"task": t, "layer": a, "arm_only": 1, "mdm_only": a, "count": 9, "n": 50}
            for t, a in rows
        ]
    )


def patch_table():
    """Two models, sites and three layers by five positions, the last a long token."""
    rows = itertools.product(("arm", "mdm"), ("resid", "attn", "mlp"), range(3), range(5))
    words = ["[BOS]", "Then", "Alexandria", "to", "[somewhere]"]
    return pd.DataFrame(
        [
            {"role": r, "site": s, "layer": a, "position": p, "token": words[p], "n": 50}
            | {"differs": p == 2, "effect": 0.1 * a * (p == 4) - 0.2 * (p == 2), "step": a + 1}
            for r, s, a, p in rows
        ]
    )


def patch_heads(layers=3, heads=2):
    rows = itertools.product(ROLES, ("denoise", "noise"), range(layers), range(heads))
    return pd.DataFrame(
        [
            {"role": r, "direction": d, "layer": a, "head": h, "n": 50}
            | {"effect": 0.3 * h if d == "denoise" else -0.9}
            for r, d, a, h in rows
        ]
    )


def arrival_table(layers=7):
    return pd.DataFrame(
        [
            {"task": t, "role": r, "layer": a, "share": a / layers, "low": 0.0, "high": 1.0}
            | {"n": 50}
            for t, r, a in itertools.product(TASKS, ROLES, range(layers))
        ]
    )


def curve_table(seeds=range(3)):
    circuits = (*ROLES, "matched", "random")
    rows = itertools.product(TASKS, seeds, (*ROLES, "matched"), circuits, (0.005, 0.1, 1.0))
    return pd.DataFrame(
        [
            {"task": t, "seed": s, "model": m, "circuit": c, "fraction": f, "n": 50}
            | {"faithfulness": f + s / 50, "low": f - 0.1, "high": 9 * f}
            for t, s, m, c, f in rows
        ]
    )


def loss_table():
    rows = itertools.product(TASKS, range(3), ("mdm", "continued", "matched"), ("arm", "random"))
    table = pd.DataFrame(rows, columns=["task", "seed", "model", "circuit"])
    return table.assign(loss=0.1 + 0.02 * table.seed, n=50)


def agreement_table():
    rows = itertools.product(
        TASKS,
        ("arm", "mdm", "untrained"),
        ESTIMATES,
        ("pearson", "spearman", "recall-0.05", "recall-0.2"),
    )
    return pd.DataFrame(
        [
            {"task": t, "subject": s, "estimate": e, "measure": m, "value": 0.5, "n": 50}
            for t, s, e, m in rows
        ]
    )


def consequence_table():
    return pd.DataFrame(
        [
            {"task": t, "estimate": e, "jaccard": 0.4, "shift": -0.02, "chance": 0.03}
            | {"low": 0.3, "high": 0.5, "count": 9, "n": 50}
            for t, e in itertools.product(TASKS, ("exact", *ESTIMATES[:-1]))
        ]
    )


def score_table():
    scores = np.linspace(-2, 2, 9)
    table = pd.DataFrame({"subject": "arm", "exact": scores, "estimate": scores**3, "n": 50})
    return pd.concat([table.assign(task=task) for task in TASKS])


TOP_EDGES = published.read_table("top_edges")


def ablation_table():
    rows = itertools.product(
        TASKS, range(3), ("arm", "mdm", "continued", "matched"), ABLATIONS, ("none", *KINDS)
    )
    table = pd.DataFrame(rows, columns=["task", "seed", "model", "ablation", "kind"])
    return table.assign(lost=0.1 + 0.05 * table.seed, n=50)


def ablation_contrasts():
    rows = itertools.product(TASKS, ABLATIONS, ("random", "later"), CONTRASTS)
    table = pd.DataFrame(rows, columns=["task", "ablation", "against", "contrast"])
    return table.assign(value=0.2, low=-0.1, high=0.5)


def ablation_more():
    return ablation_table().rename(columns={"lost": "more", "kind": "against"})


def place_layers(layers=3):
    rows = itertools.product(TASKS, range(3), ("arm", "mdm"), range(layers + 1), PLACES)
    table = pd.DataFrame(rows, columns=["task", "seed", "model", "layer", "place"])
    return table.assign(share=0.18 * table.layer / layers + 0.01 * table.seed, n=50)


def cut_table():
    rows = itertools.product(TASKS, range(3), (*ROLES, "matched"), CUTS)
    table = pd.DataFrame(rows, columns=["task", "seed", "model", "kind"])
    return table.assign(lost=0.2 + 0.05 * table.seed, n=50)


def cell_table():
    rows = itertools.product(TASKS, range(3), ROLES, range(1, 6), range(3))
    table = pd.DataFrame(rows, columns=["task", "seed", "model", "layer", "step"])
    return table.assign(accuracy=0.1 * table.layer, used=0.2 - 0.03 * table.layer, input=0.4, n=50)


def specifications():
    levels = {"prompt": ["as drawn", "a number corrupted"], "size": [0.01, 1.0]}
    rows = list(itertools.product(*levels.values()))
    table = pd.DataFrame(rows, columns=list(levels)).assign(low=-0.2, high=0.3, n=3)
    table["value"] = [-0.1, 0.0, 0.1, 0.2]
    each = pd.DataFrame({seed: table.value + 0.01 * seed for seed in range(3)})
    choices = [
        {"factor": factor, "level": level, "said": f"problems {level}"}
        for factor, found in levels.items()
        for level in found
    ]
    return plot_curve(table, each, pd.DataFrame(choices), 0.05)


def met_table():
    rows = itertools.product(("ioi", "countdown"), range(3), ("mdm", "continued", "matched"))
    parts = ("first token", "later tokens")
    return pd.DataFrame(
        [
            {"task": task, "seed": seed, "model": model, "part": part, "n": 50}
            | {"place": 0.6 + 0.1 * seed, "meaning": 0.3 + 0.1 * seed}
            for task, seed, model in rows
            for part in parts
        ]
    )


def met_components(layers=3):
    rows = itertools.product(("ioi", "countdown"), ("mdm", "continued"), range(layers))
    kinds = (("head", 0.02, 0.1, -0.4), ("mlp", 0.3, 1.0, 0.98))
    return pd.DataFrame(
        [
            {"task": task, "model": model, "layer": layer, "component": f"{kind}{layer}"}
            | {"kind": kind, "own": own, "left": left, "meaning": meaning, "n": 50}
            for task, model, layer in rows
            for kind, own, left, meaning in kinds
        ]
    )


def met_depth(layers=6):
    models, names = ("arm", "mdm", "continued"), ("circuit", "writing", "lens", "probe")
    rows = itertools.product(("ioi", "countdown"), range(3), models, names, range(layers + 1))
    columns = ["task", "seed", "model", "instrument", "layer"]
    return pd.DataFrame(rows, columns=columns).assign(value=lambda x: x.layer / layers, n=50)


def trajectory_table():
    reads = ("cue", "ioi/the answer", "countdown/first number", "countdown/last number")
    rows = itertools.product(reads, range(2), ("mdm", "continued"), (0, 10, 100, 4000))
    table = pd.DataFrame(rows, columns=["what", "seed", "model", "step"])
    value = 0.1234 + table.step / 5000
    return table.assign(value=value, read=table.what, cosine=value, displacement=table.step, n=50)


def cue_table():
    asked = (("none", 0), ("other target", 4), ("target moved", 4), ("number swapped", 2))
    rows = itertools.product(range(3), (*ROLES, "matched"), asked)
    return pd.DataFrame(
        [
            {"seed": s, "model": m, "kind": kind, "at": at, "listed": 0.5 + 0.1 * s, "n": 50}
            for s, m, (kind, at) in rows
        ]
    )


def route_table():
    rows = itertools.product(range(3), (*ROLES, "matched"), cues_of.CUTS, cues_of.TOKENS)
    table = pd.DataFrame(rows, columns=["seed", "model", "cut", "tokens"])
    return table.assign(change=1.0 - table.seed, n=50)


def switched_table(layers=6):
    rows = itertools.product(range(3), (*ROLES, "matched"), ("name", "place"), range(layers + 1))
    table = pd.DataFrame(rows, columns=["seed", "model", "signal", "layer"])
    return table.assign(switched=1 / (1 + table.layer), n=50)


FIGURES = {
    "cues": lambda: cues.plot_cues(cue_table()),
    "routes": lambda: cues.plot_routes(route_table()),
    "switched": lambda: cues.plot_signals(switched_table()),
    "switched-30": lambda: cues.plot_signals(switched_table(30)),
    "similarity": lambda: trajectory.plot_similarity(trajectory_table()),
    "signals": lambda: trajectory.plot_signals(trajectory_table()),
    "met-kept": lambda: meeting.plot_kept(met_table()),
    "met-components": lambda: meeting.plot_components(met_components()),
    "met-depth": lambda: meeting.plot_depth(met_depth()),
    "met-depth-30": lambda: meeting.plot_depth(met_depth(30)),
    "accuracy": lambda: plot_accuracy(accuracy_table()),
    "orders": lambda: plot_orders(order_table()),
    "metric": lambda: plot_metric(metric_table()),
    "curves": lambda: plot_overlap_curves(overlap_table()),
    "reference": lambda: plot_overlap_reference(overlap_table((0.05,))),
    "components-overlap": lambda: plot_overlap_reference(overlap_table((0.05,)), "share"),
    "heads": lambda: plot_head_usage(head_table()),
    "depth": lambda: plot_depth(depth_table().query("edges == 'top'")),
    "likeness": lambda: plot_likeness(training_table()),
    "earlier": lambda: plot_earlier(training_table()),
    "circuit-2": lambda: plot_circuit(edge_table(), 2, 2, "A circuit"),
    "circuit-30": lambda: plot_circuit(edge_table(), 30, 9, "A circuit"),
    "components": lambda: plot_components(component_table(), 3, 2, "Components"),
    "components-30": lambda: plot_components(component_table(30, 9), 30, 9, "Components"),
    "steps": lambda: plot_steps(step_table(), 0.9),
    "specifications": specifications,
    "positions": lambda: plot_positions(patch_table(), "The residual stream"),
    "sublayers": lambda: plot_sublayers(patch_table(), "Attention and MLP"),
    "patch-steps": lambda: plot_patch_steps(patch_table(), "Step by step"),
    "patch-heads": lambda: plot_patch_heads(patch_heads(), "Single heads"),
    "patch-heads-30": lambda: plot_patch_heads(patch_heads(30, 9), "Single heads"),
    "arrival": lambda: plot_arrival(arrival_table()),
    "faithfulness": lambda: plot_faithfulness(curve_table(), 0.85),
    "faithfulness-1": lambda: plot_faithfulness(curve_table((0,)), 0.85),
    "cross": lambda: plot_cross(curve_table(), 0.85),
    "cpr-lost": lambda: plot_cpr_lost(loss_table(), 0.05),
    "losses": lambda: plot_losses(ablation_table()),
    "contrasts": lambda: plot_contrasts(ablation_contrasts(), ablation_more()),
    "layers": lambda: plot_layers(place_layers()),
    "layers-30": lambda: plot_layers(place_layers(30)),
    "cells": lambda: plot_cells(cell_table()),
    "cuts": lambda: plot_cuts(cut_table()),
    "scatter": lambda: plot_scatter(score_table(), "EAP"),
    "agreement": lambda: plot_agreement(agreement_table()),
    "consequences": lambda: plot_consequences(consequence_table()),
    "graph": plot_graph,
    "published-overlap": lambda: plot_published_overlap(
        published.overlap_table(published.read_table("overlap"), TOP_EDGES)
    ),
    "published-depth": lambda: plot_published_depth(published.top_edge_layers(TOP_EDGES)),
}


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_is_cut_off_and_the_header_is_clear_of_the_axes(name):
    fig = FIGURES[name]()
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    renderer = canvas.get_renderer()
    card = fig.bbox
    seen = [ax for ax in fig.axes if ax.get_visible()]
    shown = {text.get_text(): text.get_window_extent(renderer) for text in fig.texts}
    shown |= {f"axes {i}": ax.get_tightbbox(renderer) for i, ax in enumerate(seen)}
    for what, box in shown.items():
        assert box.x0 >= card.x0 - 1, what
        assert box.x1 <= card.x1 + 1, what
        assert box.y0 >= card.y0 - 1, what
        assert box.y1 <= card.y1 + 1, what
    titles = [ax.title if ax.title.get_text() else ax._left_title for ax in seen]
    boxes = [t.get_window_extent(renderer) for t in titles if t.get_text()]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other), "titles of two panels run into each other"
    for ax in seen:
        ticks = [t for t in ax.get_xticklabels() if t.get_text() and t.get_visible()]
        boxes = [t.get_window_extent(renderer) for t in ticks]
        for one, other in itertools.pairwise(sorted(boxes, key=lambda box: box.x0)):
            assert one.x1 <= other.x0 + 1, "two ticks run into each other"
    for axis in ("xaxis", "yaxis"):
        named = [getattr(ax, axis).label for ax in seen]
        boxes = [t.get_window_extent(renderer) for t in named if t.get_text() and t.get_visible()]
        for one, other in itertools.combinations(boxes, 2):
            assert not one.overlaps(other), "names of two axes run into each other"
    above = [t for t in fig.texts if t not in (fig._supxlabel, fig._supylabel)]
    lowest = min(t.get_window_extent(renderer).y0 for t in above)
    lowest = min([lowest, *(b.get_window_extent(renderer).y0 for b in fig.legends)])
    assert all(ax.get_tightbbox(renderer).y1 <= lowest + 1 for ax in seen)
    if fig._supylabel is not None:
        assert fig._supylabel.get_window_extent(renderer).y1 <= lowest + 1


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_stands_on_a_light_card_and_says_its_n(name):
    fig = FIGURES[name]()
    assert to_hex(fig.get_facecolor()) == CARD
    subtitle = " ".join(text.get_text() for text in fig.texts)
    subtitle = subtitle.replace("\u00a0", " ").replace("\n", " ")
    assert {
        "published-overlap": "500 examples",
        "specifications": "n = 3 trainings",
        "signals": "a line a training (2 trainings)",
        "published-depth": "one dot an edge",
        "graph": "8 nodes, 46 edges",
        "circuit-2": "3 strongest edges of the ARM",
        "circuit-30": "3 strongest edges of the ARM",
    }.get(name, "n = 50") in subtitle


def test_the_same_table_gives_the_same_picture():
    pictures = []
    for _ in range(2):
        buffer = io.BytesIO()
        FIGURES["accuracy"]().savefig(buffer, format="png", metadata={"Software": None})
        pictures.append(buffer.getvalue())
    assert pictures[0] == pictures[1]


def test_accuracies_are_drawn_where_the_table_has_them():
    table = accuracy_table()
    ax = plot_accuracy(table).axes[0]
    drawn = {
        (to_hex(line.get_markeredgecolor()).upper(), round(x, 4))
        for line in ax.lines
        if line.get_marker() in "os^"
        for x in np.asarray(line.get_xdata(), dtype=float)
    }
    expected = {
        (ROLE_COLORS[row.role].upper(), round(row.accuracy, 4)) for row in table.itertuples()
    }
    assert drawn == expected


def test_a_circuit_draws_one_arrow_an_edge_in_the_colour_of_its_models():
    table = edge_table()
    ax = plot_circuit(table, 2, 2, "A circuit").axes[0]
    arrows = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    colors = sorted(to_hex(arrow.get_edgecolor()) for arrow in arrows)
    kinds = membership(table)
    assert kinds.tolist() == ["shared", "arm", "mdm", "shared"]
    assert colors == sorted(MEMBER_COLORS[kind].lower() for kind in kinds)


def test_the_difference_of_components_is_mdm_minus_arm():
    table = component_table()
    table.loc[table.circuit == "mdm", "share"] += 0.05
    axes = plot_components(table, 3, 2, "Components").axes
    arm, mdm, difference = (np.asarray(ax.images[0].get_array()) for ax in axes[:3])
    assert arm.shape == (3, 3)
    np.testing.assert_allclose(difference, mdm - arm)
    np.testing.assert_allclose(difference, 0.05)


def test_names_come_in_the_wanted_order_and_unknown_ones_last():
    assert present(["b", "x", "a", "b"], ("a", "b", "c")) == ["a", "b", "x"]


def test_counts_are_one_number_or_a_range():
    assert count_text(pd.Series([500, 500])) == "500"
    assert count_text(pd.Series([96, 1000])) == "96–1,000"


def test_patched_positions_are_drawn_where_the_table_has_them():
    table = patch_table()
    axes = plot_positions(table, "The residual stream").axes[:2]
    for ax, role in zip(axes, ("arm", "mdm"), strict=True):
        rows = table[(table.site == "resid") & (table.role == role)]
        expected = rows.pivot(index="position", columns="layer", values="effect")
        np.testing.assert_allclose(np.asarray(ax.images[0].get_array()), expected)
    labels = axes[0].get_yticklabels()
    assert [text.get_text() for text in labels][2:4] == ["▸ Alexandria", "to"]
    assert [text.get_fontweight() for text in labels][2:4] == ["bold", "normal"]


def test_heads_show_denoising_only():
    for ax in plot_patch_heads(patch_heads(), "Single heads").axes[:3]:
        np.testing.assert_allclose(np.asarray(ax.images[0].get_array())[:, 1], 0.3)


def test_only_the_arms_circuit_is_drawn_in_each_later_model():
    table = loss_table()
    table.loc[(table.model == "mdm") & (table.circuit == "random"), "loss"] = 9.0
    ax = plot_cpr_lost(table, 0.05).axes[0]
    dots = {
        (to_hex(line.get_color()).upper(), round(float(x), 3))
        for line in ax.lines
        if line.get_marker() in "s^P"
        for x in line.get_xdata()
    }
    means = {(ROLE_COLORS[m].upper(), 0.12) for m in ("mdm", "continued", "matched")}
    assert means <= dots
    assert max(x for _, x in dots) == 0.14


def test_the_picture_of_the_graph_has_an_arrow_for_every_edge():
    ax = plot_graph().axes[0]
    arrows = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    assert len(arrows) == DRAWN.n_edges
    strong = [arrow for arrow in arrows if arrow.get_linewidth() > 1]
    assert len(strong) == sum(f"->{READER}<" in name for name in DRAWN.names)
    assert {text.get_text() for text in ax.texts} >= set(DRAWN.nodes)
    assert graph_svg() == graph_svg()
    assert "<dc:date>" not in graph_svg()
