"""A model whose passes run where it is served, on NDIF's machines or in nnsight's simulation.

What is here of it is the same checkpoint: the proofs at load (:mod:`mechshift_lib.models.proof`,
:mod:`mechshift_lib.models.attention`) run where it is served and hold that against the weights
that are here, so that another model or precision is found before anything is made of it.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import nnsight
import torch
from huggingface_hub import errors as hub_errors
from nnsight.intervention.backends.local import LocalSimulationBackend
from nnsight.intervention.backends.remote import RemoteBackend, RemoteError
from nnsight.modeling.huggingface import HuggingFaceModel
from nnsight.modeling.transformers import TransformersModel
from nnsight.schema.config import CONFIG
from nnsight.tracing.backend import Backend
from torch import Tensor
from transformers import PreTrainedModel
from websocket import WebSocketException

from mechshift_lib.errors import ConfigError, ModelError
from mechshift_lib.remote import NDIF, SIMULATED, Remote

#: What a host, or the way to it, fails with.
_FAILURES = (RemoteError, OSError, httpx.HTTPError, hub_errors.HTTPError, WebSocketException)


class Served(HuggingFaceModel):
    """nnsight's wrapper of a model of the hub, whose traces run where :class:`Remote` says.

    A trace takes along which model it is for, by the name that nnsight's own
    ``TransformersModel`` gives it, and no weight.
    """

    def __init__(self, model: PreTrainedModel, remote: Remote) -> None:
        super().__init__(model, revision=remote.revision)
        self.repo_id = remote.repo
        self.where = remote.where

    def trace(self, *inputs: Any, **arguments: Any) -> Any:
        """Open a trace that runs where the model is served."""
        return super().trace(*inputs, remote=self.where, **arguments)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """As nnsight's own class, which a host has."""
        return object.__new__, (HuggingFaceModel,), self.__getstate__()

    def _remote_backend(self, remote: Any, *_: Any) -> Backend:
        nnsight.register("mechshift_lib")  # helpers of a trace travel as their source
        if remote == SIMULATED:
            return LocalSimulationBackend(self)
        try:
            key = self.to_model_key()
        except _FAILURES as error:
            raise _unreached(self.repo_id, error) from error
        host = None if remote == NDIF else remote
        return Host(key, self.repo_id, host=host, env=self._remoteable_get_env())

    def _remoteable_class(self) -> type:
        return TransformersModel

    def _remoteable_model_key(self) -> str:
        return json.dumps(json.loads(super()._remoteable_model_key()) | {"task": "text-generation"})

    def _remoteable_get_env(self) -> dict[str, Any]:
        return {"attn_implementation": self._module.config._attn_implementation}


class Host(RemoteBackend):
    """NDIF as nnsight asks it, with failures in one sentence and values without a graph."""

    def __init__(self, key: str, repo: str, **options: Any) -> None:
        super().__init__(key, **options)
        self.repo = repo

    def __call__(self, tracer: Any = None) -> Any:
        """Run a trace there."""
        try:
            return super().__call__(tracer)
        except _FAILURES as error:
            raise _unreached(self.repo, error) from error

    def _push(self, result: Any, tracer: Any) -> None:
        super()._push({name: _detached(value) for name, value in result.items()}, tracer)


def check_host(where: str) -> None:
    """Refuse an address that is none, or NDIF without a key.

    Raises:
        ConfigError: so it is.
    """
    if where == SIMULATED:
        return
    if where != NDIF and not where.startswith(("http://", "https://")):
        raise ConfigError(
            f"--remote takes {NDIF}, {SIMULATED} or the address of a host, https://..., not "
            f"{where!r}."
        )
    if not CONFIG.API.APIKEY:
        raise ConfigError(
            "NDIF answers only those who have a key: get one at https://login.ndif.us and set the "
            "variable NDIF_API_KEY to it."
        )


@torch.no_grad()
def check_precision(lm: Served, embed: Any, dtype: torch.dtype) -> None:
    """Ask one token, and refuse a model that is served in another precision than is declared.

    Raises:
        ConfigError: it is.
        ModelError: it isn't served, or can't be reached.
    """
    with lm.trace(input_ids=torch.zeros(1, 1, dtype=torch.long), use_cache=False) as tracer:
        found: Tensor = embed.output.save()
        tracer.stop()
    if found.dtype != dtype:
        name = str(found.dtype).removeprefix("torch.")
        raise ConfigError(f"{lm.repo_id} is served in {name}: say --dtype {name}.")


def _detached(value: Any) -> Any:
    """Tensors without a graph, in lists, tuples and dictionaries too."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, dict):
        return {key: _detached(x) for key, x in value.items()}
    return type(value)(map(_detached, value)) if isinstance(value, list | tuple) else value


def _unreached(repo: str, error: Exception) -> ModelError:
    said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return ModelError(
        f"{repo} wasn't run remotely ({said}): see whether https://nnsight.net/status lists it, "
        "try again later, or leave out --remote."
    )
