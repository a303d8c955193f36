"""Every nnsight trace of circuits, and what keeps long series of them within memory."""
