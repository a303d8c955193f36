"""A model spread over several devices: its weights lie where a map says, activations in one place.

Every module that has weights of its own runs where its weights are, takes its inputs from the first
device and gives its output back there. So all that a trace reads or writes is on one device, and
what is worked out from it is, too; between devices go the activations of prompts, which are small.
Weights on ``disk``, or in main memory beside a GPU, are brought in for each use.

accelerate's hooks do the moving; that weights are read in no other way than through
:func:`mechshift_lib.models.weights.tensor_of` is tested with all of them on disk.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import infer_auto_device_map
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from accelerate.utils import (
    OffloadedWeightsLoader,
    PrefixedDataset,
    get_balanced_memory,
    offload_state_dict,
)
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from mechshift_lib.choices import Place
from mechshift_lib.config import DeviceMap
from mechshift_lib.errors import ModelError, listed, shown
from mechshift_lib.models.anatomy import Anatomy
from mechshift_lib.models.devices import check_device
from mechshift_lib.models.sameness import differ, probe_logits

DISK = "disk"


class HomeHook(AlignDevicesHook):
    """Runs a module where its weights are, and gives its output back to where activations are.

    Attributes:
        home: where activations are.
    """

    def __init__(self, home: torch.device, **options: Any) -> None:
        super().__init__(io_same_device=True, **options)
        self.home = home


def spread(
    model: PreTrainedModel,
    anatomy: Anatomy,
    device_map: DeviceMap,
    max_memory: Mapping[str, str] | None = None,
) -> None:
    """Put a model's weights where a map says, in place.

    Args:
        model: the model, in main memory.
        anatomy: its anatomy; ``"auto"`` doesn't tear its layers apart.
        device_map: module path -> ``"cuda:1"``, ``"cpu"`` or ``"disk"``, the longest path that
            fits counting; or ``"auto"``, which fills the devices evenly.
        max_memory: device -> what ``"auto"`` may put there, such as ``"20GiB"``.

    Raises:
        ModelError: a module or device isn't there, weights have no place, they don't fit, or the
            model's code reads weights past their modules.
    """
    if device_map == "auto":
        device_map = _auto(model, anatomy, max_memory)
    places = {name: _device(place) for name, place in device_map.items()}
    _check_names(model, places)
    kept = [place for place in places.values() if place != DISK]
    before = probe_logits(model)
    home = torch.device(next((place for place in kept if place != "cpu"), "cpu"))
    try:
        if set(places.values()) == {str(home)}:
            model.to(home)  # type: ignore[arg-type]
        else:
            _attach(model, places, home)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            "The model doesn't fit where device_map puts it: put more of it on 'cpu' or 'disk', "
            "give max_memory with device_map 'auto', or load it in bfloat16."
        ) from error
    if not _same_logits(model, before):
        raise ModelError(
            f"The code of this {anatomy.model_type} model uses weights past their modules, so it "
            "can't be spread as device_map says: leave device_map out."
        )


class _Empty(TorchDispatchMode):
    """Notices operations that mix weights which aren't at hand with tensors that are.

    PyTorch doesn't refuse all of them: a linear map with a weight on ``meta`` gives memory that
    nothing was written to, which may hold the right numbers of a pass before it.

    Attributes:
        used: whether there was one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.used = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = [x for x in tree_leaves((args, kwargs or {})) if isinstance(x, Tensor)]
        self.used |= len({x.is_meta for x in given}) > 1
        return func(*args, **(kwargs or {}))


def _same_logits(model: PreTrainedModel, before: Tensor) -> bool:
    """Whether a model that was spread runs and computes what it computed before."""
    try:
        with _Empty() as empty:
            after = probe_logits(model)
    except (RuntimeError, NotImplementedError):
        return False
    if empty.used or after.is_meta:
        return False
    return not differ(after.cpu(), before.cpu())


def _auto(
    model: PreTrainedModel, anatomy: Anatomy, max_memory: Mapping[str, str] | None
) -> dict[str, Place]:
    whole = [type(anatomy.layer(model, 0)).__name__]
    limits: dict[int | str, int | str] | None = None
    if max_memory is not None:
        limits = {}
        for name, size in max_memory.items():
            place = _device(name)
            index = torch.device(place).index if place != DISK else None
            limits[place if index is None else index] = size
    try:
        balanced = get_balanced_memory(model, limits, no_split_module_classes=whole)
        found = infer_auto_device_map(model, balanced, no_split_module_classes=whole)
    except ValueError as error:
        raise ModelError(
            "max_memory takes sizes such as 20GiB for cuda:0, cuda:1 … and cpu: "
            f"{str(error).splitlines()[0][:120]}"
        ) from error
    return dict(found)


def _device(place: Place) -> str:
    """A device's one name; numbers are GPUs."""
    if place == DISK:
        return DISK
    name = f"cuda:{place}" if isinstance(place, int) else place
    check_device(name)
    device = torch.device(name)
    if device.type != "cpu" and device.index is None:
        return f"{device.type}:0"
    return str(device)


def _check_names(model: PreTrainedModel, places: Mapping[str, str]) -> None:
    """Every path is a module's, and every weight has a place."""
    known = {name for name, _ in model.named_modules()}
    if unknown := sorted(set(places) - known):
        raise ModelError(
            f"device_map names {shown(unknown[0])}, which this model doesn't have: name modules "
            f"such as {listed([name for name, _ in model.named_children()])}, or say 'auto'."
        )
    left = [name for name, _ in model.named_parameters() if _place(places, name) is None]
    if left:
        raise ModelError(
            f"device_map gives no place to {len(left)} weights, such as {left[0][:100]}: add their "
            "module, or a place for '', which is all that isn't named."
        )


def _place(places: Mapping[str, str], name: str) -> str | None:
    """The place of what has this path: that of the longest path that leads to it."""
    while name and name not in places:
        name = name.rpartition(".")[0]
    return places.get(name)


def _attach(model: PreTrainedModel, places: Mapping[str, str], home: torch.device) -> None:
    """Move every module's own weights, and hook it."""
    own = {name: module for name, module in model.named_modules() if _has_tensors(module)}
    where = {name: _place(places, name) or str(home) for name in own}
    weights = _on_disk(model, {name: own[name] for name in own if where[name] == DISK})
    pointers = Counter(x.data_ptr() for module in own.values() for x in _parameters(module))
    # Tied weights are moved once.
    shared: dict[int, dict[torch.device, Tensor]] = {x: {} for x, n in pointers.items() if n > 1}
    for name, module in own.items():
        away = where[name] == DISK or (where[name] == "cpu" and home.type != "cpu")
        held = PrefixedDataset(weights, f"{name}." if name else "") if weights else None
        hook = HomeHook(
            home,
            execution_device=home if away else torch.device(where[name]),
            offload=away,
            weights_map=held if where[name] == DISK else None,
            tied_params_map=None if away else shared,
        )
        add_hook_to_module(module, hook)


def _parameters(module: nn.Module) -> list[Tensor]:
    return list(module.parameters(recurse=False))


def _has_tensors(module: nn.Module) -> bool:
    return bool(_parameters(module) or list(module.buffers(recurse=False)))


def _on_disk(
    model: PreTrainedModel, modules: Mapping[str, nn.Module]
) -> OffloadedWeightsLoader | None:
    """Their weights in a folder of their own, which is deleted with the model."""
    if not modules:
        return None
    folder = tempfile.mkdtemp(prefix="mechshift-weights-")
    weakref.finalize(model, shutil.rmtree, folder, ignore_errors=True)
    state = {
        f"{name}.{key}".lstrip("."): value
        for name, module in modules.items()
        for key, value in module.named_parameters(recurse=False)
    }
    try:
        offload_state_dict(folder, state)
    except OSError as error:
        raise ModelError(
            f"Weights that device_map puts on disk can't be written to {folder} "
            f"({type(error).__name__}): free room there, or set TMPDIR to another folder."
        ) from error
    return OffloadedWeightsLoader(save_folder=folder)
