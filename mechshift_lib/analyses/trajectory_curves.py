"""Where the circuits of a training's checkpoints stand: four numbers of each, read by read.

They are all that the chapter takes from the scores, so of models with very many edges they are kept
in place of the scores.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mechshift_lib.analyses.scores import edges_of
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.comparison.depth import centre_of_mass
from mechshift_lib.comparison.overlap import REFERENCE_FRACTION, top_edges
from mechshift_lib.comparison.similarity import corrected, cosine, top_jaccard, way_gone
from mechshift_lib.diffusion.scratch import FOLLOWED

#: Names of the numbers. ``jaccard``: of the top 5 % of edges with the ARM's. ``cosine``: of all
#: scores with the ARM's, noise divided out. ``way``: share of the way from the circuit at the start
#: of the model's training to its end's, noise taken out. ``depth``: of the top edges' sources.
CURVES = ("jaccard", "cosine", "way", "depth")
#: Change from its start to its end below which a curve has gone no way that could be halved.
SMALLEST = 0.05


def rows_of(table: pd.DataFrame, model: str) -> NDArray[np.intp]:
    """Rows of one model's training in the order of steps; the control's begin at the ARM.

    Args:
        table: one row a point, with ``model`` and ``step``.
        model: ``mdm`` or ``continued``.
    """
    start = ["arm"] if model == "continued" else []
    rows = table[table.model.isin([*start, model])]
    return rows.sort_values("step").index.to_numpy()


def curves_of(
    table: pd.DataFrame, scores: NDArray[np.floating], graph: Graph
) -> dict[str, NDArray[np.float64]]:
    """The four numbers of every point.

    Args:
        table: one row a point, with ``model`` and ``step``; one is the ARM's.
        scores: edge scores, mean over each group of examples, ``[n_point, n_read, n_group,
            n_edges]``.
        graph: whose edges they are.

    Returns:
        Name (:data:`CURVES`) -> ``[n_point, n_read]``. The way is NaN where start and end are
        nearer to each other than :data:`SMALLEST`, and all are of points of no training.
    """
    start = int(np.flatnonzero(table.model == "arm")[0])
    source = edges_of(graph).source_depth
    count = max(1, round(REFERENCE_FRACTION * graph.n_edges))
    found = {name: np.full(scores.shape[:2], np.nan) for name in CURVES}
    for model in FOLLOWED:
        places = rows_of(table, model)
        for read in range(scores.shape[1]):
            arm = scores[start, read]
            begun, end = (scores[places[at], read] for at in (0, -1))
            for place in places:
                own = scores[place, read]
                mean = own.mean(0)
                way, length = way_gone(begun, own, end)
                here = place, read
                found["jaccard"][here] = top_jaccard(arm.mean(0), mean, count)
                # Of the ARM with itself the halves share no noise to divide out.
                alike = 1.0 if place == start else corrected(arm, own, cosine).value
                found["cosine"][here] = min(1.0, alike)
                found["way"][here] = way if length >= SMALLEST else np.nan
                found["depth"][here] = centre_of_mass(mean, source, top_edges(mean, count))
    return found
