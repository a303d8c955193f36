"""The forms of a circuit's file by name. Light, so that the command line knows its choices."""

from __future__ import annotations

from typing import Literal, get_args

#: ``"eap-ig"``: the graph that EAP-IG's ``Graph.to_json`` wrote for Hanna et al. 2024, in which a
#: node is true or false. ``"mib"``: what it writes since the MIB benchmark (Mueller et al. 2025),
#: in which a node is an object, too; MIB's circuit track takes these files.
PeerForm = Literal["eap-ig", "mib"]
#: ``"mechshift"`` is ``{edge name: score}``, or a table in parquet.
Form = Literal["mechshift", PeerForm]
FORMS: tuple[Form, ...] = get_args(Form)

#: Shares of all edges that MIB wants a circuit of each of, where it isn't given scores.
SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
