"""Explanations of neurons, and how well each predicts its neuron.

An explainer is shown a neuron's activations on half of the texts, says what it stands for, and has
to predict from that alone what it does on the other half. The score of an explanation is the
correlation of predicted and true activations (Bills et al. 2023, "Language models can explain
neurons in language models": explain, simulate, score).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mechshift_lib.errors import ModelError
from mechshift_lib.semantics.rules import Rules

Array = NDArray[np.float64]
#: Activations as models give them, or in double precision.
Floats = NDArray[np.floating[Any]]

#: What a rule of two statements must correlate beyond one of a single statement.
PARSIMONY = 0.02


@dataclass(frozen=True)
class Explanation:
    """What a neuron is said to stand for.

    Attributes:
        said: in words; neurons with the same words have the same explanation.
        inside: the activation that is predicted where it holds.
        outside: elsewhere.
    """

    said: str
    inside: float
    outside: float


class Explainer(Protocol):
    """Whoever explains neurons: it sees one half of the positions and predicts the other.

    The default is :class:`RuleExplainer`; a local language model can take its place
    (:class:`mechshift_lib.semantics.local_explainer.LocalExplainer`).
    """

    def explain(self, activations: Floats, positions: NDArray[np.int64]) -> list[Explanation]:
        """One explanation a neuron from its activations at some positions, ``[n, n_neuron]``."""

    def simulate(self, explanations: Sequence[Explanation], positions: NDArray[np.int64]) -> Array:
        """Activations that explanations predict at other positions, ``[n, n_neuron]``."""


@dataclass(frozen=True)
class RuleExplainer:
    """Explains a neuron by the rule that correlates most with it.

    A rule of two statements is taken only where it correlates by :data:`PARSIMONY` more than the
    best of one. What is predicted is the mean activation where the rule is true, and elsewhere.

    Attributes:
        rules: to choose from, at all positions.
    """

    rules: Rules

    def explain(self, activations: Floats, positions: NDArray[np.int64]) -> list[Explanation]:
        """The best rule of each neuron (see :class:`Explainer`)."""
        truth = self.rules.truth[positions]
        found = np.abs(correlations(truth, activations))
        best = (found - PARSIMONY * (self.rules.parts[:, None] - 1)).argmax(0)
        chosen = truth[:, best]
        inside = np.where(chosen, activations, 0).sum(0) / chosen.sum(0)
        outside = np.where(chosen, 0, activations).sum(0) / (~chosen).sum(0)
        return [
            Explanation(self.rules.names[rule], float(a), float(b))
            for rule, a, b in zip(best, inside, outside, strict=True)
        ]

    def simulate(self, explanations: Sequence[Explanation], positions: NDArray[np.int64]) -> Array:
        """The two means, each where its rule says (see :class:`Explainer`).

        Raises:
            ModelError: an explanation is none of the rules.
        """
        index = {name: i for i, name in enumerate(self.rules.names)}
        for one in explanations:
            if one.said not in index:
                raise ModelError(f"{one.said!r} is none of the rules: have these rules explain.")
        truth = self.rules.truth[np.ix_(positions, np.array([index[x.said] for x in explanations]))]
        inside, outside = (
            np.array([getattr(one, name) for one in explanations]) for name in ("inside", "outside")
        )
        return np.where(truth, inside, outside)


def correlations(x: NDArray[np.generic], y: NDArray[np.generic]) -> Array:
    """Pearson's correlation of every column of x with every one of y, ``[n_x, n_y]``.

    It is 0 for a column that doesn't vary: nothing is said of it, or by it.
    """
    first, second = (_standardised(z) for z in (x, y))
    return (first.T.astype(np.float32) @ second.astype(np.float32)).astype(np.float64)


def score(simulated: Array, true: NDArray[np.generic]) -> Array:
    """Correlation of each neuron's simulated and true activations, ``[n_neuron]``; −1 to 1."""
    return (_standardised(simulated) * _standardised(true)).sum(0).astype(np.float64)


def _standardised(x: NDArray[np.generic]) -> Array:
    """Columns with mean 0 and norm 1; 0 where they don't vary."""
    centred = x - x.mean(0, dtype=np.float64)
    norm = np.sqrt(np.square(centred).sum(0))
    scale = np.abs(np.asarray(x, dtype=np.float64)).max(0)
    varies = norm > 1e-9 * np.maximum(scale, 1e-300) * np.sqrt(len(x))
    return np.where(varies, centred / np.where(varies, norm, 1), 0)


def information(classes: NDArray[np.int64], activations: NDArray[np.generic], bins: int) -> Array:
    """Mutual information of a token's class and each neuron's activation, bits, ``[n_neuron]``.

    Activations are cut at their quantiles; equal ones stay together. The mean excess that a finite
    number of positions has by chance is taken off (Miller and Madow), so it may be below 0.

    Args:
        classes: class of each position, from 0, ``[n_position]``.
        activations: ``[n_position, n_neuron]``.
        bins: how many quantiles.
    """
    n, n_class = len(classes), int(classes.max()) + 1
    found = np.empty(activations.shape[1])
    for i, x in enumerate(np.asarray(activations).T):
        cuts = np.quantile(x, np.arange(1, bins) / bins)
        joint = np.bincount(
            classes * bins + np.searchsorted(cuts, x, side="right"), minlength=n_class * bins
        ).reshape(n_class, bins)
        rows, columns = joint.sum(1), joint.sum(0)
        cells = joint[joint > 0]
        of = np.outer(rows, columns)[joint > 0]
        plain = (cells / n * np.log2(cells * n / of)).sum()
        chance = ((rows > 0).sum() - 1) * ((columns > 0).sum() - 1) / (2 * n * np.log(2))
        found[i] = plain - chance
    return found
