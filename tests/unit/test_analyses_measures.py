"""Tables of other measures, kinds of edges and inclusion, from circuits whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from mechshift_lib.analyses import measures
from mechshift_lib.analyses.words import overlap as words
from tests.unit.test_analyses_shift import EDGES, drawn, scored


def test_a_control_shares_its_core_and_every_kind_adds_up() -> None:
    rng = np.random.default_rng(3)
    truth, other = rng.normal(size=(2, len(EDGES))) ** 3
    found = measures.compared(
        {
            "arm": scored("arm", drawn(truth, 1)[None], [0]),
            "mdm": scored("mdm", drawn(other, 2)[None], [0]),
            "continued": scored("continued", drawn(truth, 3)[None], [0]),
        }
    )
    count = round(0.05 * len(EDGES))
    kinds = found["kinds"]
    readers = kinds[kinds.kind.str.startswith("read by")].groupby("circuit")
    assert readers.edges.sum().tolist() == [len(EDGES)] * 2
    assert readers.other.sum().tolist() == readers.arm.sum().tolist() == [count] * 2
    assert readers.both.sum()["continued"] > readers.both.sum()["mdm"]
    by = found["inclusion"].set_index("circuit")
    assert by.shared["arm"] == by.core["arm"] > by.shared["mdm"]
    assert by.shared["continued"] > by.shared["mdm"]
    table = found["measures"].pivot(index="measure", columns="comparison", values="corrected")
    assert (table.continued > table.mdm).all()
    said = words.sureness(found["inclusion"].assign(task="ioi"))
    assert f"edges {by.core['arm']:,.0f} on IOI are in its circuit" in said.said
    assert said.table is not None
    assert said.table["core"].tolist() == [f"{x:.1f}" for x in by.core]


def test_a_folded_table_can_be_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    import base64
    import re

    import pandas as pd
    from IPython.display import HTML

    from mechshift_lib.analyses import page

    shown: list[HTML] = []
    monkeypatch.setattr(page, "display", shown.append)
    table = pd.DataFrame({"task": ["ioi"], "read": ["countdown/x"], "arm_low": [0.12345]})
    page.fold(table, "All of it", "toy")
    html = str(shown[0].data)
    assert "<summary>All of it (1 rows)</summary>" in html
    assert "0.123<" in html
    for written in ("<td>IOI</td>", "<td>Countdown, x</td>", "<th>ARM low</th>"):
        assert written in html
    link = re.search(r'download="toy.csv" href="data:text/csv;base64,([^"]+)"', html)
    assert link is not None
    assert base64.b64decode(link[1]).decode() == "task,read,arm_low\nioi,countdown/x,0.12345\n"
