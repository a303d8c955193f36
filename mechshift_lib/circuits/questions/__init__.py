"""What is asked of a model: items, metrics, where a run is read, and how items become examples."""
