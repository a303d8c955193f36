"""Masked diffusion: noise schedule, objectives, samplers, and training of the pairs."""
