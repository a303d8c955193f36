"""Models: where their parts are (anatomy), how they load, and how they are asked (readout)."""
