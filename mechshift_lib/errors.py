"""Errors that a user can act on: each carries one clear sentence that says what to change.

The command line prints the sentence and exits with :attr:`MechshiftError.exit_code`; a
traceback means a defect of this library.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable


class MechshiftError(Exception):
    """Base of every error that the user can mend. The message is one sentence."""

    exit_code = 2


class ConfigError(MechshiftError):
    """A pair file, parameter or option is unknown, malformed or contradicts another."""


class ModelError(MechshiftError):
    """A model can't be loaded, or isn't what its pair declares (attention, mask token, depth)."""


class TaskError(MechshiftError):
    """A task can't be built with this tokenizer, or an example is malformed."""


class CircuitError(MechshiftError):
    """An attribution can't be computed: unknown edge, unequal lengths, a metric that is NaN."""


class ResultError(MechshiftError):
    """A stored result is missing, damaged or of another schema."""


#: What torch says where main memory ran out; it raises a plain RuntimeError then.
_NO_MEMORY = ("DefaultCPUAllocator", "not enough memory", "can't allocate memory")


def out_of_memory(error: BaseException) -> str | None:
    """The sentence for an error that says that memory ran out, or ``None`` for any other.

    Torch isn't imported to be asked: its error for a GPU's memory is known by its name.
    """
    if type(error).__name__ == "OutOfMemoryError":
        return (
            "The GPU's memory ran out: free some of it, use a smaller batch size or bfloat16, or "
            "use device 'cpu'."
        )
    text = str(error) if isinstance(error, RuntimeError) else ""
    if isinstance(error, MemoryError) or any(word in text for word in _NO_MEMORY):
        return (
            "The memory ran out: close other programs, use a smaller batch size, shorter examples "
            "or bfloat16, or use a larger machine."
        )
    return None


#: Characters that a message has at most.
LONGEST = 400


def in_one_line(message: object, longest: int = LONGEST) -> str:
    """A message as it is printed: one line, with its middle left out where it is too long.

    The beginning says what is wrong and the end what to change, so that both stay; all of the
    message is in the exception.
    """
    line = " ".join(str(message).split())
    if len(line) <= longest:
        return line
    tail = longest // 3
    return f"{line[: longest - tail - 1]}…{line[-tail:]}"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlevel = 3


def shown(value: object) -> str:
    """A value that a user gave, quoted and short enough for a sentence however large it is."""
    return _SHORT.repr(value)


def listed(names: Iterable[object], most: int = 12) -> str:
    """``"a, b, c"``, and how many more where there are more than ``most``."""
    known = [str(name) for name in names]
    more = len(known) - most
    return ", ".join(known[:most]) + (f" and {more} more" if more > 0 else "")
