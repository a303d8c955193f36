"""What a notebook calls: a pair and a budget in, tidy tables out, each computed once."""

import warnings

# Without widgets tqdm warns as soon as it is imported; no page should begin with that.
warnings.filterwarnings("ignore", message="IProgress not found")

from mechshift_lib.analyses.study import Study  # noqa: E402

__all__ = ["Study"]
