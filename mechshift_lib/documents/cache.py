"""Where what is fetched, converted or unpacked is kept between runs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from mechshift_lib.errors import ModelError


def cache_root() -> Path:
    """``$MECHSHIFT_CACHE``, else a folder in the user's cache."""
    if "MECHSHIFT_CACHE" in os.environ:
        return Path(os.environ["MECHSHIFT_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mechshift"


def made_once(folder: Path, fill: Callable[[Path], None]) -> Path:
    """A folder of the cache, filled where it isn't there yet: whole, or not there.

    Args:
        folder: the folder.
        fill: writes into the empty folder that it is given.

    Raises:
        ModelError: the cache can't be written.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    except OSError as error:
        raise ModelError(
            f"Can't write to {folder.parent}: set MECHSHIFT_CACHE to a folder that you own."
        ) from error
    try:
        fill(temporary)
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder
