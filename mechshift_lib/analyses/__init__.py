"""What a notebook calls: a pair and a budget in, tidy tables out, each computed once."""

from mechshift_lib.analyses.study import Study

__all__ = ["Study"]
