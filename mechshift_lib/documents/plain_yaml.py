"""YAML in which text stays text: the core rules of YAML 1.2, bounded, and written to match.

PyYAML follows YAML 1.1, in which ``no`` is false, ``1:30`` is 90, ``010`` is 8 and ``2024-01-01``
is a date. Here only numbers in decimal, ``true``, ``false`` and ``null`` are more than text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

_TAG = "tag:yaml.org,2002:"
#: Values that a document may have once every alias is replaced by what it stands for.
MOST_VALUES = 100_000


class DocumentError(ValueError):
    """A text isn't YAML that is read here; the message says why, without a full stop."""


class _Resolver(BaseResolver):
    """What an unquoted scalar is."""


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
):
    _Resolver.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), _first)


def _number(text: str) -> float:
    """A float as YAML writes it: ``.inf`` and ``.nan`` have a point."""
    return float(re.sub(r"\.(?=[iInN])", "", text))


class _Loader(Reader, Scanner, Parser, Composer, SafeConstructor, _Resolver):
    """Reads only what :class:`_Resolver` knows: other tags are refused."""

    yaml_constructors = {  # noqa: RUF012 - PyYAML's own way
        _TAG + "null": SafeConstructor.construct_yaml_null,
        _TAG + "bool": SafeConstructor.construct_yaml_bool,
        _TAG + "int": lambda self, node: int(self.construct_scalar(node)),
        _TAG + "float": lambda self, node: _number(self.construct_scalar(node)),
        _TAG + "str": SafeConstructor.construct_yaml_str,
        _TAG + "seq": SafeConstructor.construct_yaml_seq,
        _TAG + "map": SafeConstructor.construct_yaml_map,
        None: SafeConstructor.construct_undefined,
    }

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        _Resolver.__init__(self)


class _Dumper(yaml.SafeDumper):
    """Quotes whatever either YAML takes for something other than text."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = _tag(_Resolver(), text) == _TAG + "str"
    return dumper.represent_scalar(_TAG + "str", text, style=None if plain else "'")


_Dumper.add_representer(str, _represent_text)


def load(text: str) -> Any:
    """The value of a YAML document.

    Raises:
        DocumentError: it isn't YAML, has a tag of its own, is nested too deeply, or its aliases
            stand for more than :data:`MOST_VALUES` values or for themselves.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_aliases(node)
        return loader.construct_document(node)
    except DocumentError:
        raise
    except RecursionError as error:
        raise DocumentError("it is nested too deeply") from error
    except (yaml.YAMLError, ValueError, KeyError) as error:  # of an explicit tag such as !!int x
        raise DocumentError(" ".join(str(error).split()).rstrip(".")) from error


def dump(value: Any) -> str:
    """A YAML document that :func:`load` and PyYAML read alike."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=98)


def reads_as_text(value: str) -> bool:
    """Whether an unquoted ``value`` is the same text to every reader of the project.

    Those are YAML here, YAML 1.1 and Snakemake's ``--config``, which takes for a number whatever
    Python does.
    """
    try:
        float(value)
    except ValueError:
        return all(_tag(reader, value) == _TAG + "str" for reader in (_Resolver(), _SAFE))
    return False


_SAFE = yaml.resolver.Resolver()


def _tag(resolver: Any, text: str) -> str:
    return str(resolver.resolve(yaml.ScalarNode, text, (True, False)))


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value


def _check_aliases(root: yaml.Node) -> None:
    """Count the values with every alias expanded, without expanding one."""
    sizes: dict[int, int] = {}
    begun: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting[-1]
        if id(node) in sizes:
            waiting.pop()
        elif id(node) in begun:  # all below it are counted
            size = 1 + sum(sizes[id(child)] for child in _children(node))
            if size > MOST_VALUES:
                raise DocumentError(
                    f"its aliases stand for more than {MOST_VALUES} values: write them out"
                )
            sizes[id(waiting.pop())] = size
        else:
            begun.add(id(node))
            for child in _children(node):
                if id(child) in begun and id(child) not in sizes:
                    raise DocumentError("an alias stands for itself: write its value out")
                waiting.append(child)
