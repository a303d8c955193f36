"""Pair files: everything model-specific stands in ``data/pairs/*.yaml`` and is validated here."""

from mechshift_lib.config.files import (
    LARGEST_PAIR,
    ROOT,
    check_checkout,
    first_fault,
    load_pair,
    pair_names,
)
from mechshift_lib.config.pairs import ANALYSES, Analysis, Budget, Pair, check_name
from mechshift_lib.config.specs import (
    FILL_IN,
    ROLES,
    DeviceMap,
    FolderSource,
    HubSource,
    ModelSize,
    ModelSpec,
    ReadoutName,
    Role,
    Strict,
    WheelSource,
    placed,
)

__all__ = [
    "ANALYSES",
    "FILL_IN",
    "LARGEST_PAIR",
    "ROLES",
    "ROOT",
    "Analysis",
    "Budget",
    "DeviceMap",
    "FolderSource",
    "HubSource",
    "ModelSize",
    "ModelSpec",
    "Pair",
    "ReadoutName",
    "Role",
    "Strict",
    "WheelSource",
    "check_checkout",
    "check_name",
    "first_fault",
    "load_pair",
    "pair_names",
    "placed",
]
