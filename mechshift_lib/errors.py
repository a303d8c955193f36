"""Errors that a user can act on: each carries one clear sentence that says what to change.

The command line prints the sentence and exits with :attr:`MechshiftError.exit_code`; a
traceback means a defect of this library.
"""

from __future__ import annotations


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
