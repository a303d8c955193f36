"""Runs in which only a circuit is intact: ablations, faithfulness, completeness."""
