"""Linear probes: what can be read from an activation, on examples that the probe never saw.

A probe is least squares with a ridge penalty on one-hot labels, and its guess is the class with the
largest output. It has a closed form, so every label of one activation costs one product, and
nothing depends on an optimiser. The penalty is chosen on a validation part of the examples.

Beside a probe stand the same probe on shuffled labels (chance) and on a **control task** (Hewitt &
Liang 2019, arXiv 1909.03368): labels that are a random function of a word of the prompt, which can
only be memorised. **Selectivity** is the accuracy on the labels minus that on the control task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mechshift_lib.errors import CircuitError

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Labels = NDArray[np.int64]

#: Ridge penalties that validation chooses from, in units of the features' mean eigenvalue.
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
#: Shares of the examples that train, choose the penalty, and are held out.
SHARES = (0.55, 0.15, 0.3)


@dataclass(frozen=True)
class Split:
    """Disjoint parts of the examples.

    Attributes:
        train: indices of the examples that probes are fitted on.
        validation: indices of those that the penalty and the layer are chosen on.
        test: indices of those that accuracy is measured on.
    """

    train: Index
    validation: Index
    test: Index

    @property
    def fitted(self) -> Index:
        """Examples that the final probe is fitted on: train and validation."""
        return np.concatenate([self.train, self.validation])


def split_examples(n: int, seed: int) -> Split:
    """A random split of ``n`` examples by :data:`SHARES`.

    Raises:
        CircuitError: some part would be empty.
    """
    cuts = np.floor(np.cumsum(SHARES[:2]) * n).astype(int)
    order = np.random.default_rng(seed).permutation(n)
    parts = np.split(order, cuts)
    if min(len(part) for part in parts) == 0:
        raise CircuitError(f"A probe needs at least 7 examples, not {n}: draw more examples.")
    return Split(*(np.sort(part) for part in parts))


@dataclass(frozen=True)
class Probe:
    """One fitted probe.

    Attributes:
        classes: the labels that it knows, sorted, ``[n_class]``.
        weights: ``[n_class, d]``, in units of the raw features.
        bias: ``[n_class]``.
        ridge: the penalty that validation chose.
        validation: accuracy on the validation part with that penalty.
        correct: is each held-out example's label guessed, ``[n_test]``.
    """

    classes: Labels
    weights: Array
    bias: Array
    ridge: float
    validation: float
    correct: NDArray[np.bool_]

    @property
    def accuracy(self) -> float:
        """Share of the held-out examples whose label is guessed."""
        return float(self.correct.mean())

    def guess(self, features: Array) -> Labels:
        """The likeliest label of each row of ``[n, d]``."""
        return self.classes[(features @ self.weights.T + self.bias).argmax(1)]


class _Solver:
    """Ridge regression on fixed features, for any labels and penalties."""

    def __init__(self, features: Array) -> None:
        self.mean = features.mean(0)
        spread = features.std(0)
        # A coordinate that doesn't vary says nothing; without this it would be divided by 0.
        self.scale = np.where(spread > 1e-9, spread, np.inf)
        self.features = self.standard(features)
        # Of the products of features: several times faster than taking the features apart, and
        # just as good where even the smallest penalty is far above what is rounded.
        values, self.vectors = np.linalg.eigh(self.features.T @ self.features)
        self.values = np.maximum(values, 0.0)
        self.unit = float(self.values.sum() / min(features.shape)) or 1.0

    def standard(self, features: Array) -> Array:
        return (features - self.mean) / self.scale

    def weights(self, targets: Array, ridges: Sequence[float]) -> Iterator[tuple[Array, Array]]:
        """Weights ``[n_class, d]`` and bias ``[n_class]`` for the raw features, by penalty."""
        centre = targets.mean(0)
        turned = self.vectors.T @ (self.features.T @ (targets - centre))
        for ridge in ridges:
            inner = self.vectors @ (turned / (self.values + ridge * self.unit)[:, None])
            weights = (inner / self.scale[:, None]).T
            yield weights, centre - weights @ self.mean


def fit_probes(features: Array, labels: Sequence[Labels], split: Split) -> list[Probe]:
    """One probe for each of several labellings of the same activations.

    A held-out example whose label doesn't occur among the others counts as not guessed.

    Args:
        features: activations, ``[n, d]``.
        labels: labellings, each ``[n]``.
        split: which examples train, choose and test.

    Raises:
        CircuitError: a labelling has another length than the activations, or one class only.
    """
    features = np.asarray(features, dtype=np.float64)
    for one in labels:
        if len(one) != len(features):
            raise CircuitError(f"{len(features)} activations have {len(one)} labels.")
        if len(np.unique(one[split.train])) < 2:
            raise CircuitError("A probe needs labels of at least two classes: draw more examples.")
    first, final = _Solver(features[split.train]), _Solver(features[split.fitted])
    return [_fit(features, np.asarray(one), split, first, final) for one in labels]


def _fit(features: Array, labels: Labels, split: Split, first: _Solver, final: _Solver) -> Probe:
    scored = []
    classes = np.unique(labels[split.train])
    targets = _one_hot(labels[split.train], classes)
    for weights, bias in first.weights(targets, RIDGES):
        guessed = classes[(features[split.validation] @ weights.T + bias).argmax(1)]
        scored.append(float((guessed == labels[split.validation]).mean()))
    best = len(RIDGES) - 1 - int(np.argmax(scored[::-1]))  # of equals the largest penalty
    classes = np.unique(labels[split.fitted])
    [(weights, bias)] = final.weights(_one_hot(labels[split.fitted], classes), RIDGES[best:][:1])
    guessed = classes[(features[split.test] @ weights.T + bias).argmax(1)]
    return Probe(classes, weights, bias, RIDGES[best], scored[best], guessed == labels[split.test])


def _one_hot(labels: Labels, classes: Labels) -> Array:
    return (labels[:, None] == classes).astype(np.float64)


def control_labels(words: Labels, labels: Labels, seed: int) -> Labels:
    """Labels of the control task: each word is given a label at random, once for all.

    Args:
        words: a word of each example, as any numbers, ``[n]``.
        labels: the labels whose place they take, ``[n]``; drawn with their frequencies.
        seed: seed of the draw.
    """
    kinds, which = np.unique(words, return_inverse=True)
    drawn = np.random.default_rng(seed).choice(labels, size=len(kinds))
    if len(kinds) > 1 and len(np.unique(drawn)) == 1:  # one class can't be asked for
        drawn[0] = labels[labels != drawn[0]][0]
    return np.asarray(drawn[which], dtype=np.int64)


def shuffled_labels(labels: Labels, seed: int) -> Labels:
    """The labels in another order: nothing can tell them better than chance."""
    return np.asarray(np.random.default_rng(seed).permutation(labels), dtype=np.int64)


def word_features(ids: NDArray[np.int64]) -> Array:
    """The input itself as features: which token stands where, ``[n, pos]`` to ``[n, d]``.

    A probe on these says what is linear in the prompt, before any model has looked at it. Tokens
    that are the same in all examples are left out.
    """
    columns = []
    for position in ids.T:
        kinds = np.unique(position)
        if len(kinds) > 1:
            columns.append((position[:, None] == kinds).astype(np.float64))
    return np.concatenate(columns, 1) if columns else np.zeros((len(ids), 1))


def directions(features: Array, labels: Labels) -> Array:
    """An orthonormal basis of the differences between the classes' means, ``[rank, d]``.

    Once it is taken out all classes have the same mean, and then no linear probe fitted by least
    squares on these examples does better than a constant (Belrose et al. 2023, arXiv 2306.03819).
    Its rank is at most the number of classes minus 1. The same of shuffled labels is its control:
    as many directions, drawn from where the activations vary.
    """
    features = np.asarray(features, dtype=np.float64)
    means = np.stack([features[labels == kind].mean(0) for kind in np.unique(labels)])
    _, singular, right = np.linalg.svd(means - means.mean(0), full_matrices=False)
    return np.asarray(right[singular > 1e-8 * max(singular[0], 1e-300)])
