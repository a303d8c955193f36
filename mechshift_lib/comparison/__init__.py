"""Comparing circuits: overlap, depth, and how sure we are of either. Arrays in, numbers out."""
