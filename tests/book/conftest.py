"""What the tests of the pages need besides a browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from mechshift_lib.config import ROOT

#: Where `make axe` puts it; not in git.
AXE = ROOT / ".cache" / "axe" / "axe.min.js"


@pytest.fixture(scope="session")
def axe() -> Path:
    """axe-core, which looks for faults of access; its absence is an error, never a skip."""
    if not AXE.is_file():
        raise RuntimeError("These tests need axe-core: run `make test`, or `make axe` once.")
    return AXE
