"""``--remote``: a model of the hub that runs where it is served, or why it can't."""

from __future__ import annotations

import json
from pathlib import Path

from mechshift_lib.choices import KV, Attention, Quantization
from mechshift_lib.cli.files.hub import hub_name, model_folder
from mechshift_lib.config import DeviceMap
from mechshift_lib.remote import Remote, check_call, refused


def asked_remotely(
    where: str | None,
    call: str,
    model: str | Path,
    revision: str | None,
    *,
    attention: Attention,
    kv: KV,
    device: str,
    quantization: Quantization | None,
    device_map: DeviceMap | None,
) -> Remote | None:
    """Where a command's passes run; ``None`` for here.

    Before anything is fetched, what can't run remotely is refused; before weights are fetched,
    what the configuration alone tells.

    Args:
        where: what ``--remote`` was given.
        call: name of the call (:data:`mechshift_lib.remote.CALLS`).
        model: what the command was given, a folder or a model of the hub.
        revision: revision of a model of the hub.
        attention: as declared.
        kv: how key and value edges are counted.
        device: where the model would run here.
        quantization: how its weights would be stored.
        device_map: how it would be spread.

    Raises:
        ConfigError: it can't run remotely, or there is no key.
        ModelError: the hub doesn't give the configuration.
    """
    if where is None:
        return None
    check_call(call)
    name = hub_name(model, revision)
    changed = {
        "folder": name is None,
        "attention": attention == "full",
        "quantization": quantization is not None,
        "device": device != "cpu",
        "device_map": device_map is not None,
    }
    for what, is_so in changed.items():
        if is_so:
            raise refused(what)
    from mechshift_lib.models.serving import check_host

    check_host(where)
    _check_configuration(model_folder(model, revision, weights=False), kv)
    assert name is not None
    return Remote(where, *name)


def _check_configuration(folder: Path, kv: KV) -> None:
    """Refuse an adapter, and key/value heads that loading would copy apart."""
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise refused("adapter")
        return  # loading says what is wrong
    from transformers import AutoConfig

    from mechshift_lib.models.architectures import anatomy_of
    from mechshift_lib.models.shape import shape_of

    if "quantization_config" in json.loads((folder / "config.json").read_text(encoding="utf-8")):
        raise refused("quantization")
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    shape = shape_of(config, anatomy_of(config))
    if kv == "ungrouped" and shape.n_kv_heads < shape.n_heads:
        raise refused("kv")
