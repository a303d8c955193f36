"""A host that serves a model in this process, as NDIF does: from bytes to saved values."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from nnsight.intervention.backends.local import LocalSimulationBackend
from nnsight.schema.request import RequestModel
from nnsight.tracing.tracer import _saves

from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.serving import Host, Served
from mechshift_lib.remote import NDIF, SIMULATED, Remote


class Process(Host):
    """Runs what arrived, with what arrived alone: nothing of the caller's frame or modules.

    Attributes:
        payloads: the bytes of each trace.
    """

    payloads: list[bytes]

    def __init__(self, lm: Served, payloads: list[bytes]) -> None:
        super().__init__("key", lm.repo_id, host="http://nowhere.invalid")
        self.lm, self.payloads, self.display.enabled = lm, payloads, False

    def request(self, request: RequestModel, tracer: Any) -> Any:
        """Serialise, forget the library, run, and send back only what was saved."""
        self.compress = False
        blob = self._serialize(tracer)
        self.payloads.append(blob)
        hiding = LocalSimulationBackend(self.lm)
        hidden = hiding._hide_local_modules()
        try:
            arrived = RequestModel.deserialize(blob, self.lm._remoteable_persistent_objects())
            with torch.enable_grad():  # a caller's no_grad stays with the caller
                arrived.execute(arrived.info.code)
            names = arrived.info.frame.f_locals
            saved = {name: x for name, x in names.items() if id(x) in _saves()}
            buffer = io.BytesIO()
            torch.save(saved, buffer)
        finally:
            hiding._restore(hidden)
        buffer.seek(0)
        return torch.load(buffer, map_location="cpu", weights_only=False)


def simulated(model: LoadedModel, where: str = SIMULATED) -> LoadedModel:
    """The same model, its passes in nnsight's simulation, or where a test says."""
    return replace(model, lm=Served(model.hf, Remote(where, "someone/tiny")))


@contextmanager
def serving() -> Iterator[list[bytes]]:
    """Let a :class:`Process` be the host; yields what it was sent."""
    payloads: list[bytes] = []
    with patch.object(Served, "_remote_backend", lambda lm, *_: _process(lm, payloads)):
        yield payloads


def _process(lm: Served, payloads: list[bytes]) -> Process:
    import nnsight

    nnsight.register("mechshift_lib")
    return Process(lm, payloads)


def elsewhere(model: LoadedModel) -> LoadedModel:
    """The same model, its passes on a host (within :func:`serving`)."""
    return simulated(model, NDIF)
