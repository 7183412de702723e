"""Learning: spiking networks in PyTorch and snntorch, trained on Atari games or images.

It never imports Lava, numba or the chip. Read `config` first (what a run is made of), then
`networks` (what learns), `rl` or `images` (how it learns), `runs` (the folder of a run),
`checkpoint` (agent files) and `training`, the one call for every recipe.
"""
