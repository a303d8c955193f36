"""Where what is fetched, converted or unpacked is kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """``$MECHSHIFT_CACHE``, else a folder in the user's cache."""
    if "MECHSHIFT_CACHE" in os.environ:
        return Path(os.environ["MECHSHIFT_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mechshift"
