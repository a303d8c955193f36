"""What directions, neurons and components stand for: lenses, probes, dictionaries."""
