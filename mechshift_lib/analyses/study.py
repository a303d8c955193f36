"""A study: one pair at one budget, its examples, its models and its store of results."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch

from mechshift_lib.config import ROOT, Budget, FolderSource, ModelSpec, Pair, load_pair
from mechshift_lib.errors import ConfigError, ModelError, listed
from mechshift_lib.models.loading import LoadedModel, load_model
from mechshift_lib.models.sources import tokenizer_of
from mechshift_lib.results import Store, code_hash, kept, model_hash
from mechshift_lib.results.store import Frames
from mechshift_lib.tasks import Example, Task, get_task, pair_task

#: Seed of the held-out examples of every analysis (another one than training is logged on).
EXAMPLES_SEED = 2026
#: Seed of all resampling.
RESAMPLING_SEED = 7

#: Kinds of result that ship of every pair's first training, too, as they take long.
FIRST_TOO = (
    "cues",
    "dictionaries",
    "errors",
    "faithfulness",
    "neurons",
    "robustness",
    "robustness-ioi",
    "signals",
    "trust",
    "trust-trainings",
)

Pool = Literal["common-correct", "all"]

#: Weights of models that are kept in memory together: those of twenty trainings of a small model.
IN_MEMORY = 3 * 10**7
_LOADED: OrderedDict[tuple[str, str, Path], LoadedModel] = OrderedDict()
#: Tasks whose examples are kept in memory.
DRAWN = 32
_DRAWN: OrderedDict[tuple[str, str, str, int], tuple[Example, ...]] = OrderedDict()
#: Root and name of a pair -> its model that was opened first, and that one's shape.
_SHAPES: dict[tuple[Path, str], tuple[str, dict[str, int]]] = {}
#: What the models of a pair have alike, as people read it.
_ALIKE = {
    "n_layers": "layers",
    "n_heads": "heads",
    "n_kv_heads": "key/value heads",
    "d_model": "coordinates of the stream",
}


@dataclass(frozen=True)
class Study:
    """What every analysis of a pair starts from.

    Attributes:
        pair: the pair.
        budget_name: ``book`` or ``full``.
        store: where tables are kept.
        pool: which examples circuits are taken over: those that ARM and MDM both solve
            (``common-correct``), or the first ones whether solved or not (``all``).
        device: where models run.
        root: root of the checkout.
        shipped: whether tables that the repository ships are used (:meth:`frames`).
    """

    pair: Pair
    budget_name: str
    store: Store
    pool: Pool = "common-correct"
    device: str = "cpu"
    root: Path = ROOT
    shipped: bool = True

    @classmethod
    def open(
        cls,
        pair: str,
        budget: str = "book",
        results: str = "results",
        pool: Pool = "common-correct",
        root: Path = ROOT,
    ) -> Study:
        """The study of a pair by its name; a GPU is used where there is one.

        Raises:
            ConfigError: the pair, the budget or the pool is unknown.
        """
        if pool not in ("common-correct", "all"):
            raise ConfigError(f"Unknown pool {pool!r}: choose 'common-correct' or 'all'.")
        loaded = load_pair(pair, root)
        loaded.budget(budget)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(loaded.at_budget(budget), budget, Store(Path(results)), pool, device, root)

    @property
    def budget(self) -> Budget:
        """How much the analyses do."""
        return self.pair.budget(self.budget_name)

    @property
    def seed(self) -> int:
        """The training seed that the main results are of."""
        return self.pair.seeds[0]

    def task(self, name: str) -> Task:
        """A task with the pair's options."""
        return pair_task(self.pair, name)

    def model(self, role: str, seed: int) -> LoadedModel:
        """A model of the pair, a role or a variant; the last ones are kept in memory.

        That is the last two, or as many more as together have :data:`IN_MEMORY` weights.
        """
        asked = (self.pair.model(role, seed).model_dump_json(), self.device, self.root)
        if asked not in _LOADED:
            spec = ModelSpec.model_validate_json(asked[0])
            while len(_LOADED) > 1 and sum(map(_weights, _LOADED.values())) > IN_MEMORY:
                _LOADED.popitem(last=False)
            loaded = load_model(spec, device=self.device, root=self.root)
            _check_alike(self, role, loaded)
            _LOADED[asked] = loaded
        _LOADED.move_to_end(asked)
        return _LOADED[asked]

    def has(self, role: str, seed: int) -> bool:
        """Whether the pair has this model and, where it is a folder, this training made it."""
        if seed not in self.pair.seeds or role not in (*self.pair.roles, *self.pair.variants):
            return False
        source = self.pair.model(role, seed).source
        return not isinstance(source, FolderSource) or (self.root / source.path).is_dir()

    def models(self, seed: int) -> list[str]:
        """Roles and variants that there are in this training."""
        return [r for r in (*self.pair.roles, *self.pair.variants) if self.has(r, seed)]

    def examples(self, task: str, seed: int) -> list[Example]:
        """The held-out examples of a task: the same for every model and every training seed."""
        options, n = self._options(task), self.budget.behaviour_examples
        asked = (tokenizer_of(self.pair.model("arm", seed), self.root), task, options, n)
        if asked not in _DRAWN:
            tokenizer = self.model("arm", seed).tokenizer
            drawn = get_task(task, **json.loads(options)).examples(tokenizer, n, EXAMPLES_SEED)
            _DRAWN[asked] = tuple(drawn)
            while len(_DRAWN) > DRAWN:
                _DRAWN.popitem(last=False)
        _DRAWN.move_to_end(asked)
        return list(_DRAWN[asked])

    def _options(self, task: str) -> str:
        """The pair's options of a task, as JSON."""
        return json.dumps(self.pair.task_options.get(task, {}), sort_keys=True)

    def key(self, role: str, seed: int, task: str, rooms: tuple[str, ...]) -> dict[str, Any]:
        """The part of a result's key that says model, examples and code."""
        spec = self.pair.model(role, seed)
        stored = {} if spec.quantization is None else {"quantization": spec.quantization}
        return stored | {
            "pair": self.pair.name,
            "role": role,
            "task": task,
            "options": self._options(task),
            "examples": self.budget.behaviour_examples,
            "seed": [seed, EXAMPLES_SEED],
            "models": {role: model_hash(spec, self.root)},
            "tokenizer": model_hash(self.pair.model("arm", seed), self.root),
            "device": self.device,
            "dtype": spec.dtype,
            "code": _code("choices", "tasks", "models", "analyses/study", *rooms),
        }

    def frames(
        self,
        kind: str,
        key: Mapping[str, Any],
        compute: Callable[[], Frames],
        made: Callable[[], tuple[Frames, dict[str, Any]] | None] = lambda: None,
    ) -> Frames:
        """Tables from the store, computed if they aren't there (see :class:`Store`).

        The first training's are computed by every book, but for :data:`FIRST_TOO` and unless the
        pair's file says otherwise; those of the others are taken from data/tables, where the
        repository ships them.

        Args:
            kind: what sort of result it is.
            key: everything it depends on.
            compute: makes the tables.
            made: asked before: the tables and their provenance where other jobs made them.
        """
        seed, *_ = key.get("seed", [self.seed])
        path = self.tables(seed) if self.shipped and self.ships(seed, kind) else None

        def there() -> tuple[Frames, dict[str, Any]] | None:
            found = None if path is None else kept.find(path, kind, key)
            return made() if found is None else found

        return self.store.frames(kind, key, compute, there)

    def ships(self, seed: int, kind: str) -> bool:
        """Whether tables of a kind are shipped of this training, not computed by every book."""
        return seed != self.seed or self.pair.tables == "all" or kind in FIRST_TOO

    def tables(self, seed: int) -> Path:
        """Where the tables of a training are shipped."""
        return self.root / "data" / "tables" / self.pair.name / f"seed{seed}.zip"


@lru_cache(maxsize=256)
def _code(*rooms: str) -> str:
    """Hash of rooms of the library, taken once a process."""
    return code_hash(*rooms)


def _check_alike(study: Study, role: str, model: LoadedModel) -> None:
    """Refuse a model with other layers or heads than the pair's others: no edge is in both.

    Raises:
        ModelError: it has.
    """
    own = {name: int(getattr(model, name)) for name in _ALIKE}
    about = (study.root, study.pair.name)
    first, shape = _SHAPES.setdefault(about, (role, own))
    if first == role:  # made anew, perhaps
        _SHAPES[about] = (role, own)
        return
    from mechshift_lib.plots.theme import label  # brings matplotlib

    differing = [
        f"{own[name]} {said} and the {label(first)} {shape[name]}"
        for name, said in _ALIKE.items()
        if own[name] != shape[name]
    ]
    if differing:
        raise ModelError(
            f"The {label(role)} of {study.pair.name} has {listed(differing)}: their circuits have "
            "no edges in common, so give models of which one was made from the other."
        )


def _weights(model: LoadedModel) -> int:
    return sum(parameter.numel() for parameter in model.hf.parameters())
