"""The command line: one module a group of commands, and the files that they read and write."""

from mechshift_lib.cli.main import app, parse_parameters

__all__ = ["app", "parse_parameters"]
