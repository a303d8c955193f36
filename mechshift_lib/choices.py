"""What can be chosen by name, once for the whole library: options, checks and tables use these.

Nothing heavy is imported here, so that the command line knows its choices without torch.
"""

from __future__ import annotations

import enum
from typing import Literal, get_args

from mechshift_lib.errors import CircuitError

#: What a token sees.
Attention = Literal["causal", "full"]
#: Precisions in which a model runs.
Dtype = Literal["float32", "bfloat16", "float16"]
#: How weights are stored while a model runs, where that isn't its precision.
Quantization = Literal["8-bit", "4-bit"]
#: Where weights lie: ``"cuda:1"`` or just 1, ``"cpu"``, or ``"disk"``.
Place = int | str
#: How key and value edges are counted under grouped-query attention.
KV = Literal["ungrouped", "grouped"]
#: How much an analysis does.
BudgetName = Literal["book", "full"]
BUDGETS: tuple[BudgetName, ...] = get_args(BudgetName)

#: What is measured of a model's answer.
Metric = Literal["logit-diff", "prob-diff", "log-prob", "kl"]
#: How edges are scored by gradients.
GradientMethod = Literal["eap", "eap-ig", "eap-ig-activations", "clean-corrupted"]
GRADIENT_METHODS: tuple[GradientMethod, ...] = get_args(GradientMethod)
#: How edges are scored.
Method = Literal[GradientMethod, "exact"]
METHODS: tuple[Method, ...] = get_args(Method)
#: How the circuits of a pair's chapters are scored.
Estimator = Literal["eap-ig", "exact"]
#: Points of integration: k/m for k = 0 ... m-1, or for k = 1 ... m.
Points = Literal["left", "right"]
POINTS: tuple[Points, ...] = get_args(Points)

#: Which score ranks edges.
Ranking = Literal["signed", "absolute"]
RANKINGS: tuple[Ranking, ...] = get_args(Ranking)
#: How the edges of a circuit are chosen.
Selection = Literal["top", "greedy"]

#: Which run is patched with activations of the other.
Direction = Literal["denoise", "noise"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
#: What leads from a sender to a reader.
Through = Literal["direct", "mlps"]
THROUGH: tuple[Through, ...] = get_args(Through)


class Ablation(enum.StrEnum):
    """What replaces the output of a source along an edge that is cut."""

    RESAMPLE = "resample"
    """The source's output in the corrupted run, position by position (interchange, patching)."""

    ZERO = "zero"
    """Nothing: the source adds 0 to what the reader takes in."""

    MEAN = "mean"
    """The source's mean output at the same position over the clean inputs of a reference set
    (Wang et al. 2023), among items of the same length and denoising step."""

    OPTIMAL = "optimal"
    """The constant output at the same position with which the circuit's run diverges least from
    the clean run over a reference set (Li & Janson 2024), among items of the same length and
    denoising step. Fitted by gradient descent for each circuit, so it takes many runs
    (:mod:`mechshift_lib.circuits.evaluation.optimal`); a reference set other than the items keeps
    it from fitting what it is asked about."""

    @classmethod
    def named(cls, name: str) -> Ablation:
        """The ablation of that name.

        Raises:
            CircuitError: there is none.
        """
        try:
            return cls(name)
        except ValueError:
            raise CircuitError(
                f"Unknown ablation {name!r}: choose one of {', '.join(cls)}."
            ) from None

    @property
    def by_position(self) -> bool:
        """Whether it needs a reference set, by position: then inputs can't be padded."""
        return self in (Ablation.MEAN, Ablation.OPTIMAL)
