"""What patching measured, of activations and of paths: patched metrics, shares of them, tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mechshift_lib.choices import Direction, Through
from mechshift_lib.errors import CircuitError

Site = Literal["resid", "attn", "mlp", "head"]

#: What can be patched: the residual stream at the input of a layer (of layer ``n_layers``: of the
#: final norm), the output of attention, of the MLP, and of a single head.
SITES: tuple[Site, ...] = ("resid", "attn", "mlp", "head")


@dataclass(frozen=True)
class Patching:
    """What the metric becomes under every patch.

    Attributes:
        direction: ``"denoise"`` or ``"noise"``.
        metric: name of the metric.
        by_position: one position at a time; else all at once, as one column.
        examples: example of each item, in the order in which they were given, ``[n_item]``.
        steps: denoising step of each item.
        reads: number of reads of each item.
        lengths: number of positions of each item.
        clean: metric of each item in the clean run, ``[n_item]``.
        corrupted: metric of each item in the corrupted run.
        patched: for each site the metric of the patched run, ``[n_item, n_layers, n_pos]``, for
            ``"resid"`` ``[n_item, n_layers + 1, n_pos]`` and for ``"head"``
            ``[n_item, n_layers, n_heads, n_pos]``; NaN behind an item's last position.
    """

    direction: Direction
    metric: str
    by_position: bool
    examples: NDArray[np.int64]
    steps: NDArray[np.int64]
    reads: NDArray[np.int64]
    lengths: NDArray[np.int64]
    clean: NDArray[np.float64]
    corrupted: NDArray[np.float64]
    patched: dict[str, NDArray[np.float64]]

    @property
    def base(self) -> NDArray[np.float64]:
        """Metric of the run that is patched, ``[n_item]``."""
        return self.corrupted if self.direction == "denoise" else self.clean

    @property
    def other(self) -> NDArray[np.float64]:
        """Metric of the run that the activations come from, ``[n_item]``."""
        return self.clean if self.direction == "denoise" else self.corrupted

    def normalised(self, site: str, step: int | None = None) -> NDArray[np.float64]:
        """Share of the way from one run's metric to the other's that a patch goes.

        (patched − base) / (other − base): 0 = the patch changes nothing, 1 = it does as much as
        replacing the whole input. So positive is the usual sign in both directions: in
        ``"denoise"`` the clean activation raises the metric, in ``"noise"`` the corrupted one
        lowers it.

        It is a **ratio of means**, which no example with a small denominator can dominate: both
        differences are averaged over an example's items by their number of reads, then over
        examples. A position counts the examples that have it.

        Args:
            site: one of :data:`SITES`.
            step: a denoising step; ``None`` for all of them.

        Returns:
            The shape of ``patched[site]`` without its first axis; NaN where no item has the
            position or the two runs' mean metrics are equal.

        Raises:
            CircuitError: the site wasn't patched or no item has the step.
        """
        values, chosen = self._values(site), self._chosen(step)
        weights = self._weights(chosen)
        present = weights[:, None] * self._has_position(values.shape[-1])[chosen]
        shape = (-1, *[1] * (values.ndim - 2), values.shape[-1])
        base = self.base[chosen].reshape(-1, *[1] * (values.ndim - 1))
        change = np.nan_to_num(values[chosen]) - base
        done = (change * present.reshape(shape)).sum(0)
        whole = ((self.other - self.base)[chosen, None] * present).sum(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            share: NDArray[np.float64] = np.where(whole != 0, done / whole, np.nan)
        return share

    def count(self, n_pos: int, step: int | None = None) -> NDArray[np.int64]:
        """Number of examples that have each position, ``[n_pos]``."""
        chosen = self._chosen(step)
        has = self._has_position(n_pos)[chosen]
        examples = self.examples[chosen]
        return np.array([len(np.unique(examples[column])) for column in has.T], dtype=np.int64)

    def frame(self, *, by_step: bool = True) -> pd.DataFrame:
        """One row per patch: site, layer, head, position, step, value, n.

        ``value`` is :meth:`normalised` and ``n`` the number of examples behind it. ``head`` is
        missing where a whole sublayer is patched, ``position`` where all are patched at once, and
        ``step`` with ``by_step=False``, where all steps are averaged.
        """
        steps = np.unique(self.steps).tolist() if by_step else [None]
        tables = [self._table(site, step) for site in self.patched for step in steps]
        return pd.concat(tables, ignore_index=True)

    def _table(self, site: str, step: int | None) -> pd.DataFrame:
        value = self.normalised(site, step)
        where = np.indices(value.shape).reshape(value.ndim, -1)
        n = self.count(value.shape[-1], step)[where[-1]]
        missing = np.full(value.size, None)
        columns = {
            "site": site,
            "layer": where[0],
            "head": where[1] if site == "head" else missing,
            "position": where[-1] if self.by_position else missing,
            "step": missing if step is None else step,
            "value": value.ravel(),
            "n": n,
        }
        whole = dict.fromkeys(("layer", "head", "position", "step", "n"), "Int64")
        table = pd.DataFrame(columns).astype(whole)
        return table[table["n"] > 0]

    def _values(self, site: str) -> NDArray[np.float64]:
        if site not in self.patched:
            raise CircuitError(f"Site {site!r} wasn't patched: choose {', '.join(self.patched)}.")
        return self.patched[site]

    def _chosen(self, step: int | None) -> NDArray[np.bool_]:
        chosen = np.ones(len(self.steps), dtype=bool) if step is None else self.steps == step
        if not chosen.any():
            raise CircuitError(
                f"No item has step {step}: choose from {np.unique(self.steps).tolist()}."
            )
        return chosen

    def _weights(self, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Share of each chosen item in its example, by reads."""
        reads = self.reads[chosen].astype(np.float64)
        _, row = np.unique(self.examples[chosen], return_inverse=True)
        weights: NDArray[np.float64] = reads / np.bincount(row, weights=reads)[row]
        return weights

    def _has_position(self, n_pos: int) -> NDArray[np.bool_]:
        """Whether each item has each position, ``[n_item, n_pos]``."""
        if not self.by_position:
            return np.ones((len(self.lengths), n_pos), dtype=bool)
        return np.arange(n_pos) < self.lengths[:, None]


@dataclass(frozen=True)
class PathPatching:
    """What the metric becomes when senders tell the readers the corrupted story.

    Attributes:
        senders: names of the nodes that are patched at once, one group per row.
        readers: names of the readers.
        through: ``"direct"`` or ``"mlps"``.
        metric: name of the metric.
        examples: indices of the examples, ascending, ``[n_example]``.
        patched: metric of the patched run, the mean over an example's items weighted by their
            number of reads, ``[n_sender, n_example]``.
        clean: metric of the clean run, ``[n_example]``.
        corrupted: metric of the corrupted run, ``[n_example]``.
    """

    senders: tuple[tuple[str, ...], ...]
    readers: tuple[str, ...]
    through: Through
    metric: str
    examples: NDArray[np.int64]
    patched: NDArray[np.float64]
    clean: NDArray[np.float64]
    corrupted: NDArray[np.float64]

    @property
    def effect(self) -> NDArray[np.float64]:
        """Metric lost, clean − patched, ``[n_sender, n_example]``.

        Positive = the corrupted paths lower the metric.
        """
        return self.clean - self.patched

    def normalised(self) -> NDArray[np.float64]:
        """Mean effect over mean(clean − corrupted), ``[n_sender]``.

        1 = as much as corrupting the whole input; NaN where the two runs' means are equal.
        """
        whole = float((self.clean - self.corrupted).mean())
        means: NDArray[np.float64] = self.effect.mean(1)
        return means / whole if whole else np.full(len(means), np.nan)

    def interval(
        self, draws: int = 1000, seed: int = 0, level: float = 0.95
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Bootstrap interval of :meth:`normalised` over examples, low and high ``[n_sender]``.

        NaN for a single example.
        """
        n = len(self.examples)
        if n < 2:
            unknown = np.full(len(self.senders), np.nan)
            return unknown, unknown
        weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), draws)
        with np.errstate(divide="ignore", invalid="ignore"):  # a draw's runs may be equal
            drawn = (weights @ self.effect.T) / (weights @ (self.clean - self.corrupted))[:, None]
        drawn[~np.isfinite(drawn)] = np.nan
        if np.isnan(drawn).all():
            return drawn[0], drawn[0]
        low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return low, high

    def frame(self) -> pd.DataFrame:
        """One row per sender: sender, readers, through, effect, value, low, high, n.

        ``effect`` is the mean metric lost, ``value`` is :meth:`normalised`, ``low`` and ``high``
        are its :meth:`interval` and ``n`` is the number of examples. Nodes that are patched at
        once are joined by ``+``.
        """
        low, high = self.interval()
        return pd.DataFrame(
            {
                "sender": ["+".join(names) for names in self.senders],
                "readers": "+".join(self.readers),
                "through": self.through,
                "effect": self.effect.mean(1),
                "value": self.normalised(),
                "low": low,
                "high": high,
                "n": len(self.examples),
            }
        )
