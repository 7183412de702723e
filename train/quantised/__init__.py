"""Networks that act and learn on the chip's integers (quantisation-aware training).

`integers` makes differentiable integers of weights; `twin` runs a network on them.
"""
