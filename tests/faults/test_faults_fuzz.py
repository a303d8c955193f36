"""Thousands of things that a user can hand over, by chance: none ends in a traceback.

The kinds are those of tests/unit/test_cli_fuzz.py. Takes minutes; `make test-faults` runs it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.fuzz import KINDS, hunt

pytestmark = pytest.mark.faults
LONG = settings(
    deadline=None, database=None, max_examples=3000, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_ends_in_a_traceback(kind: str, tmp_path: Path) -> None:
    hunt(kind, tmp_path, LONG)
