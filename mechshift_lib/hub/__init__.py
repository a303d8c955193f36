"""Models of the Hugging Face hub: planned, fetched at a pinned revision, kept as plain folders."""
