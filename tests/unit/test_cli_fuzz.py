"""Nothing that a user can hand over ends in a traceback: some hundred tries of each kind.

The tries are the same every time; `make test-faults` makes many more, by chance.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.fuzz import KINDS, hunt

BOUNDED = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=150,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_ends_in_a_traceback(kind: str, tmp_path: Path) -> None:
    hunt(kind, tmp_path, BOUNDED)
