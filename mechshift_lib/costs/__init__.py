"""What running a pair's chapters takes, before they are run."""
