"""Notebooks that are to be executed, and the parameters that they take.

papermill only warns where a notebook has no ``parameters`` cell (and then the notebook's own
defaults win) or where a parameter is unknown. Both would put a wrong page into the book, so both
are errors here.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

from mechshift_lib.config import ROOT
from mechshift_lib.documents.files import real_path
from mechshift_lib.errors import ConfigError, listed, shown

#: What the default of a parameter asks of its value: the kinds, and what they are called.
KINDS: dict[type, tuple[tuple[type, ...], str]] = {
    str: ((str,), "text"),
    bool: ((bool,), "true or false"),
    int: ((int, float), "a number"),
    float: ((int, float), "a number"),
}


def read_notebook(source: Path) -> nbformat.NotebookNode:
    """A notebook, not yet executed.

    Raises:
        ConfigError: it is missing or isn't a notebook.
    """
    name = relative(source)
    if not source.is_file():
        raise ConfigError(f"There is no notebook {name}: look into the folder notebooks/.")
    try:
        return nbformat.read(source, as_version=4)
    except Exception as error:  # nbformat fails in as many ways as there are files
        raise ConfigError(f"{name} is not a Jupyter notebook: save it as .ipynb again.") from error


def parameter_defaults(notebook: nbformat.NotebookNode, name: str) -> dict[str, Any]:
    """The parameters and their defaults; ``None`` stands for one that isn't a plain constant.

    Args:
        notebook: the notebook, not yet executed.
        name: what to call it in an error.

    Raises:
        ConfigError: there is no such cell, more than one, or it isn't plain assignments.
    """
    tagged = [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and "parameters" in cell.metadata.get("tags", [])
    ]
    if len(tagged) != 1:
        raise ConfigError(
            f"{name} has {len(tagged)} code cells tagged 'parameters': give exactly one cell that "
            "tag, and let it hold the defaults."
        )
    defaults: dict[str, Any] = {}
    try:
        body = ast.parse(tagged[0].source).body
    except SyntaxError as error:
        raise ConfigError(f"{name}: the 'parameters' cell is not Python: {error.msg}.") from error
    for statement in body:
        if isinstance(statement, ast.Assign):
            targets: list[ast.expr] = statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        else:
            targets = []
        if not targets or not all(isinstance(target, ast.Name) for target in targets):
            raise ConfigError(
                f"{name}: the 'parameters' cell may hold only assignments such as `pair = ...`."
            )
        value = getattr(statement, "value", None)
        default = value.value if isinstance(value, ast.Constant) else None
        defaults |= {target.id: default for target in targets if isinstance(target, ast.Name)}
    return defaults


def text_parameters(notebook: nbformat.NotebookNode, name: str) -> set[str]:
    """Names of the parameters whose default is text: what is given for them stays text."""
    defaults = parameter_defaults(notebook, name)
    return {key for key, default in defaults.items() if isinstance(default, str)}


def check_parameters(
    notebook: nbformat.NotebookNode, parameters: Mapping[str, Any], name: str
) -> None:
    """Refuse parameters that the notebook doesn't have, or that aren't of their default's kind.

    Raises:
        ConfigError: the ``parameters`` cell is missing or doesn't assign one of ``parameters``, or
            text is given for a number and the like.
    """
    known = parameter_defaults(notebook, name)
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise ConfigError(
            f"{name} has no parameter {listed(map(shown, unknown))}: its parameters are "
            f"{listed(known)}."
        )
    for key, value in parameters.items():
        kinds, called = KINDS.get(type(known[key]), ((object,), ""))
        true_for_one = isinstance(value, bool) and called == "a number"  # bool is an int in Python
        if true_for_one or not isinstance(value, kinds):
            raise ConfigError(f"{name}: {key} takes {called}, not {shown(value)}.")


def relative(path: Path) -> str:
    """A path as messages and pages show it: within the checkout from there, else its name."""
    path = real_path(path)
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
