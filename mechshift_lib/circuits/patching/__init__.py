"""Runs into which single activations or paths of another run are patched, or attention is cut."""
