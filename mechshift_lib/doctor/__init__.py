"""Says whether the library understands a pair of models, and proposes its file."""
