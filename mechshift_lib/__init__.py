"""mechshift: what post-training from autoregressive to masked diffusion does inside a model."""

__version__ = "0.1.0"
