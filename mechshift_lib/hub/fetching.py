"""Fetching: from the hub's repository at its pinned revision to a folder that loading reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from huggingface_hub import constants, snapshot_download

from mechshift_lib.config import FolderSource, HubSource, ModelSpec
from mechshift_lib.errors import ModelError
from mechshift_lib.hub.failures import RESUMES, spoken
from mechshift_lib.hub.folders import as_folder, sha256
from mechshift_lib.hub.planning import Plan, check_disk, plan


def fetch(
    specs: Sequence[ModelSpec], check: Callable[[list[Plan]], None] | None = None
) -> list[Path]:
    """Fetch models of the hub, all of them or, where one doesn't fit, none.

    What was fetched by an interrupted call isn't fetched again.

    Args:
        specs: how they are declared; folders and wheels are passed over.
        check: called with all plans before anything is fetched; raises what it refuses.

    Returns:
        The folders that loading reads, in order, of the models that are of the hub.

    Raises:
        ModelError: with what to change: no network, no permission, no room, a wrong hash.
    """
    wanted = [spec for spec in specs if isinstance(spec.source, HubSource)]
    plans = [plan(spec.source) for spec in missing(wanted) if isinstance(spec.source, HubSource)]
    check_disk(plans)
    if check is not None:
        check(plans)
    for one in plans:
        spec = next(spec for spec in wanted if spec.source == one.source)
        as_folder(_download(one), one, spec)
    found = [spec.fetched() for spec in wanted]
    return [
        Path(spec.source.path)
        for spec in found
        if spec is not None and isinstance(spec.source, FolderSource)
    ]


def missing(specs: Sequence[ModelSpec]) -> list[ModelSpec]:
    """Those that aren't there yet, each repository once."""
    found: dict[HubSource, ModelSpec] = {}
    for spec in specs:
        if isinstance(spec.source, HubSource) and (not spec.source.pinned or not spec.fetched()):
            found.setdefault(spec.source, spec)
    return list(found.values())


def local(specs: Sequence[ModelSpec]) -> list[ModelSpec]:
    """The same models in the folders that they were fetched to.

    Raises:
        ModelError: one isn't fetched.
    """
    found = [spec.fetched() for spec in specs]
    for spec, here in zip(specs, found, strict=True):
        if here is None and isinstance(spec.source, HubSource):
            raise ModelError(f"{spec.source.repo} isn't fetched yet: say mechshift fetch.")
    return [spec for spec in found if spec is not None]


def _download(one: Plan) -> Path:
    """The files of a plan in the hub's cache, every weights file with the hash that the hub states.

    Raises:
        ModelError: they can't be fetched, or a file isn't the one that the hub names.
    """
    source = one.source
    with spoken(source):
        raw = snapshot_download(
            source.repo,
            revision=source.revision,
            allow_patterns=list(one.sizes),
            endpoint=constants.ENDPOINT,
        )
    for name, expected in one.hashes.items():
        path = Path(raw) / name
        found = sha256(path)
        if found != expected:
            real = path.resolve()
            path.unlink()
            real.unlink(missing_ok=True)
            raise ModelError(
                f"{name} of {source.repo} has sha256 {found[:12]}… instead of {expected[:12]}…, so "
                f"it was deleted: {RESUMES}."
            )
    return Path(raw)
