"""Notebooks executed with parameters: strictly, by this very Python, whole or not at all."""

from mechshift_lib.execution.running import NotebookError, run_notebook

__all__ = ["NotebookError", "run_notebook"]
