"""Learning: PyTorch and snntorch only. Never Lava, numba or the chip."""
