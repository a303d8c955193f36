"""Work that is cut off at any write leaves what was there, and is done by the next call.

At every change of a file by a kill, at many sizes by a kill in the middle of a write, and by a disk
on which there is no more room, which is one sentence. Takes a minute; `make test-faults` runs it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.writes import WORKS

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("work", WORKS)
def test_no_cut_at_any_write_loses_anything(work: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.writes", work, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    cuts = {kind: int(n) for kind, _, n in (x.partition("=") for x in done.stdout.split())}
    assert min(cuts.values()) >= 4, cuts  # else it wasn't where the writes are
