"""What a deployed network does: episodes of its games (`games`), or plain inputs (`inputs`).

`data` turns arrays, tensors and data loaders into what a chip is sent.
"""
