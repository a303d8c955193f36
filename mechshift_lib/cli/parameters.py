"""Parameters of a notebook as they are typed: ``--set NAME=VALUE``. Text stays text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mechshift_lib.errors import ConfigError, shown

#: How values are read, in the words of ``--help``.
RULE = (
    "Decimal numbers, true, false, null and JSON lists such as [1, 2] are read as such; all else "
    "is text, exactly as typed, and so is \"...\" in JSON's quotes. Where the notebook's own value "
    "is text, everything stays text."
)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")


def split_settings(settings: Sequence[str]) -> dict[str, str]:
    """``["pair=x", "n=3"]`` → ``{"pair": "x", "n": "3"}``.

    Raises:
        ConfigError: a setting isn't ``NAME=VALUE`` or not UTF-8, or a name comes twice.
    """
    given: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(f"--set takes NAME=VALUE, not {shown(setting)}.")
        if name in given:
            raise ConfigError(f"--set gives {shown(name)} twice.")
        if not _is_unicode(value):
            raise ConfigError(f"--set {shown(name)}: the value is not UTF-8 text.")
        given[name] = value
    return given


def read_values(given: Mapping[str, str], texts: Collection[str] = ()) -> dict[str, Any]:
    """Values as :data:`RULE` says.

    Args:
        given: names and what was typed.
        texts: names whose values stay text.

    Raises:
        ConfigError: a value begins like a list or quoted text but isn't one, or is out of range.
    """
    return {k: v if k in texts else _value(k, v) for k, v in given.items()}


def parse_parameters(settings: Sequence[str], texts: Collection[str] = ()) -> dict[str, Any]:
    """``["pair=x", "n=3"]`` → ``{"pair": "x", "n": 3}``; see :func:`read_values`."""
    return read_values(split_settings(settings), texts)


def _value(name: str, text: str) -> Any:
    is_json = text in ("true", "false", "null") or _NUMBER.fullmatch(text)
    if not (is_json or text.startswith("[") or re.fullmatch(r'"[\s\S]*"', text)):
        return text
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"--set {name}={shown(text)} is no number, list or quoted text that can be read "
            f"({str(error).split(':')[0]}): write it as JSON."
        ) from error


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("the number is too large")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
