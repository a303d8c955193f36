"""What directions, neurons and components stand for, and what heads look at."""
