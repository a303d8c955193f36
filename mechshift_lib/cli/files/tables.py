"""Tables as files: ``.csv``, ``.parquet``, or ``.json`` with more than the table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mechshift_lib.circuits.graph.circuit import check_suffix, write_file

#: What a table can be written as.
SUFFIXES = (".csv", ".json", ".parquet")


def write_table(
    table: pd.DataFrame, out: str | Path, rows: str, more: Mapping[str, Any] | None = None
) -> None:
    """Write a table, whole or not at all.

    Args:
        table: the table.
        out: the file; its suffix says the kind.
        rows: what the list of rows is called in JSON.
        more: what stands beside the rows in JSON; a value that isn't known is ``None`` there.

    Raises:
        CircuitError: another suffix, or the file can't be written.
    """
    suffix = check_suffix(out, SUFFIXES)
    if suffix == ".json":
        listed = json.loads(table.to_json(orient="records", double_precision=15))
        write_file(out, json.dumps({rows: listed, **(more or {})}, indent=1).encode())
    elif suffix == ".csv":
        write_file(out, table.to_csv(index=False).encode())
    else:
        write_file(out, table.to_parquet(index=False))
