"""Reads pair files, ``data/pairs/*.yaml``: plain YAML, checked whole before all else."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from mechshift_lib.config.pairs import Pair
from mechshift_lib.documents.files import read_text
from mechshift_lib.documents.plain_yaml import DocumentError, load
from mechshift_lib.errors import ConfigError, listed, shown

#: Root of the checkout: pair files name their folders relative to it.
ROOT = Path(__file__).resolve().parents[2]
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
            f"Unknown pair {shown(name)}: choose one of {listed(known)}, or add "
            "data/pairs/NAME.yaml."
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
