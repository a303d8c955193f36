"""What is asked of a model: items, metrics, and where a run is read."""
