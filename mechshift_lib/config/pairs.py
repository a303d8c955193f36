"""A pair: an ARM, the MDM that was post-trained from it, and what is asked of the two."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, field_validator, model_validator

from mechshift_lib.choices import BUDGETS, BudgetName, Estimator
from mechshift_lib.cluster import Cluster
from mechshift_lib.config.specs import MOST, ROLES, HubSource, ModelSpec, Role, Strict
from mechshift_lib.documents.plain_yaml import reads_as_text
from mechshift_lib.errors import ConfigError, ModelError, shown

Analysis = Literal[
    "behaviour",
    "circuits",
    "overlap",
    "patching",
    "faithfulness",
    "ablation",
    "probes",
    "planning",
    "trust",
    "lens",
    "components",
    "neurons",
    "attention",
    "dictionaries",
    "meeting",
    "cues",
    "trajectory",
    "robustness",
    "errors",
]
#: Analyses that a pair can have, in the order in which each builds on the ones before.
ANALYSES: tuple[Analysis, ...] = get_args(Analysis)


class Budget(Strict):
    """How much an analysis does: examples per task, IG steps, bootstrap draws, batch size.

    Patching and circuit evaluation run the model once a patched activation or circuit, and exact
    patching once an edge, so they take fewer examples than attribution.

    Attributes:
        estimator: how circuits are scored: by EAP-IG, or by exact patching of every edge, which is
            for small models.
    """

    behaviour_examples: int = Field(default=500, ge=1, le=MOST)
    circuit_examples: int = Field(default=128, ge=2, le=MOST)
    patching_examples: int = Field(default=16, ge=2, le=MOST)
    faithfulness_examples: int = Field(default=16, ge=4, le=MOST)
    ablation_examples: int = Field(default=100, ge=2, le=MOST)
    robustness_examples: int = Field(default=12, ge=4, le=MOST)
    ablation_draws: int = Field(default=20, ge=2, le=MOST)
    planning_examples: int = Field(default=30, ge=2, le=MOST)
    trust_examples: int = Field(default=4, ge=2, le=MOST)
    cue_examples: int = Field(default=200, ge=2, le=MOST)
    neuron_texts: int = Field(default=40, ge=4, le=MOST)
    lens_examples: int = Field(default=100, ge=2, le=MOST)
    lens_steps: int = Field(default=100, ge=1, le=MOST)
    dictionary_examples: int = Field(default=24, ge=2, le=MOST)
    dictionary_steps: int = Field(default=800, ge=1, le=MOST)
    signal_examples: int = Field(default=40, ge=2, le=MOST)
    error_studies: int = Field(default=1000, ge=10, le=MOST)
    ig_steps: int = Field(default=5, ge=1, le=MOST)
    estimator: Estimator = "eap-ig"
    bootstrap: int = Field(default=1000, ge=10, le=MOST)
    batch_size: int = Field(default=32, ge=1, le=MOST)


def _fault_of_name(name: str) -> str:
    """What is wrong with a pair's name; the empty text where nothing is."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.\-]{0,63}", name):
        return (
            "a pair's name has only lower-case letters, digits, '.' and '-', and at most 64 of them"
        )
    if not reads_as_text(name):
        return (
            "a pair's name must read as text, and YAML takes this one for something else: add a "
            f"word, such as pair-{name}"
        )
    return ""


def check_name(name: str) -> None:
    """Refuse a name that no pair can have.

    Raises:
        ConfigError: it has other characters, is too long, or YAML doesn't read it as text.
    """
    if fault := _fault_of_name(name):
        raise ConfigError(f"No pair can be named {shown(name)}: {fault}.")


class Pair(Strict):
    """An ARM, the MDM post-trained from it, and the control trained on with the ARM's loss.

    Attributes:
        parent: the ARM (``arm`` in the file); ``None`` for an MDM that was trained from scratch,
            which has no chapters.
        analyses: its chapters.
        full_analyses: chapters beside those, too long for a book, that the full budget has.
        tables: trainings whose tables the repository ships. ``later``: all but the first, which
            every book computes; ``all``: the first, too, where a book would take too long.
        cluster: what its jobs ask of a cluster.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_by_name=False, serialize_by_alias=True
    )

    name: str
    title: str
    description: str
    tasks: tuple[str, ...] = Field(min_length=1)
    task_options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    parent: ModelSpec | None = Field(default=None, alias="arm")
    mdm: ModelSpec
    continued: ModelSpec | None = None
    variants: dict[str, ModelSpec] = Field(default_factory=dict)
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = Field(default=(0,), min_length=1)
    analyses: tuple[Analysis, ...] = ANALYSES
    full_analyses: tuple[Analysis, ...] = ()
    tables: Literal["later", "all"] = "later"
    budgets: dict[BudgetName, Budget] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    cluster: Cluster = Field(default_factory=Cluster)

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if fault := _fault_of_name(name):
            raise ValueError(fault)
        return name

    @field_validator("analyses", "full_analyses")
    @classmethod
    def _in_order(cls, analyses: tuple[Analysis, ...]) -> tuple[Analysis, ...]:
        return tuple(name for name in ANALYSES if name in analyses)

    @field_validator("cluster")
    @classmethod
    def _of_chapters(cls, cluster: Cluster) -> Cluster:
        unknown = sorted(set(cluster.chapters) - set(ANALYSES))
        if unknown:
            raise ValueError(f"there is no chapter {shown(unknown[0])}")
        return cluster

    @model_validator(mode="after")
    def _once(self) -> Pair:
        if twice := set(self.analyses) & set(self.full_analyses):
            raise ValueError(
                f"{min(twice)} stands in both analyses and full_analyses: the full budget has all "
                "of analyses anyway"
            )
        return self

    @model_validator(mode="after")
    def _parent(self) -> Pair:
        chapters = self.analyses or self.full_analyses
        if self.parent is None and (chapters or self.continued is not None):
            raise ValueError(
                "chapters and a control compare with an ARM: give arm, or write 'analyses: []'"
            )
        return self

    @property
    def arm(self) -> ModelSpec:
        """The ARM as the file declares it, ``{seed}`` and all.

        Raises:
            ConfigError: the MDM was trained from scratch.
        """
        if self.parent is None:
            raise ConfigError(
                f"{self.name!r} is an MDM without an ARM that it was made from: ask for its mdm."
            )
        return self.parent

    @property
    def roles(self) -> tuple[Role, ...]:
        """The models that this pair has, in the order of every table; variants come beside them."""
        there = {"arm": self.parent, "mdm": self.mdm, "continued": self.continued}
        return tuple(role for role in ROLES if there[role] is not None)

    def model(self, role: str, seed: int | None = None) -> ModelSpec:
        """The spec of one model of the pair, ready to be loaded: a model of the hub in its folder.

        Raises:
            ConfigError: the pair has no such model or no such seed, or no revision is pinned.
            ModelError: it is of the hub and wasn't fetched yet.
        """
        spec = self.declared(role, seed)
        source = spec.source
        if isinstance(source, HubSource) and not source.pinned:
            raise ConfigError(self.unpinned(role, source))
        found = spec.fetched()
        if found is None:
            raise ModelError(
                f"The {role} of {self.name!r} isn't fetched yet: say mechshift fetch {self.name}."
            )
        return found

    def unpinned(self, role: str, source: HubSource) -> str:
        """What is said of a model whose revision nobody has filled in."""
        return (
            f"{self.name}.yaml pins no revision of {source.repo}, so nothing is fetched: copy the "
            f"40 hex digits of the newest commit at https://huggingface.co/{source.repo}"
            f"/commits/main to {role}.source.revision."
        )

    def declared(self, role: str, seed: int | None = None) -> ModelSpec:
        """The spec of one model as the file declares it, a role or a variant, seed filled in.

        Raises:
            ConfigError: the pair has no such model or no such seed.
        """
        own = {"arm": self.parent, "mdm": self.mdm, "continued": self.continued}
        spec = own.get(role) or self.variants.get(role)
        if spec is None:
            raise ConfigError(f"Pair {self.name!r} has no model {role!r}; it has {self.roles}.")
        seed = self.seeds[0] if seed is None else seed
        if seed not in self.seeds:
            raise ConfigError(f"Pair {self.name!r} has no seed {seed}; it has {self.seeds}.")
        return spec.at_seed(seed)

    def budget(self, name: str) -> Budget:
        """The named budget (``book`` or ``full``); its defaults where the file has none."""
        if name not in BUDGETS:
            raise ConfigError(f"Unknown budget {name!r}: choose 'book' or 'full'.")
        return self.budgets.get(name, Budget())  # type: ignore[call-overload]

    def at_budget(self, name: str) -> Pair:
        """The pair with the chapters that it has at a budget as its :attr:`analyses`."""
        if name == "book" or not self.full_analyses:
            return self
        chapters = {*self.analyses, *self.full_analyses}
        return self.model_copy(update={"analyses": tuple(x for x in ANALYSES if x in chapters)})
