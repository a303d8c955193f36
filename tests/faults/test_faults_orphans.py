"""Runs that are killed at random moments, in every way, leave no process behind and lose no page.

Takes minutes; `make test-faults` runs it.
"""

from __future__ import annotations

import random
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support import toy

pytestmark = pytest.mark.faults
#: Kills, the seed of their moments, and seconds in which all processes have to be gone.
KILLS, SEED, SOON = 12, 3, 15
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def test_no_kill_leaves_a_process_or_takes_a_page(tmp_path: Path) -> None:
    folder = toy.make_toy(tmp_path / "toy")
    code, output = toy.run(folder)
    assert code == 0, output
    page = toy.page(folder).read_bytes()
    toy.write_chapter(folder, toy.ENDLESS)
    draw = random.Random(SEED)
    for kill in range(KILLS):
        marker = f"{folder}-{kill}"
        process = toy.start(folder, marker)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=draw.uniform(0.2, 9.0))
        process.send_signal(SIGNALS[kill % len(SIGNALS)])
        output, _ = process.communicate(timeout=SOON)
        assert process.returncode != 0, output
        assert toy.wait_for(lambda m=marker: not toy.running(m), SOON), toy.running(marker)
        assert toy.page(folder).read_bytes() == page
    toy.write_chapter(folder, "print('mended')")
    code, output = toy.run(folder)
    assert code == 0, output
    assert b"mended" in toy.page(folder).read_bytes()
