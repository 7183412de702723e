"""The MTSpark network and its parts.

Read `config` first (sizes and constants, without PyTorch), then `network`, which is composed of
`neurons` and `dendrites`. `variants` names published networks, `limits` bounds the size of a file.
"""
