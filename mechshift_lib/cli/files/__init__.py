"""What the commands read and write: examples, circuits, curves, patches, finished parts of each."""
