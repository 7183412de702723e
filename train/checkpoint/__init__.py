"""Agent files and other PyTorch files of training runs, also untrusted ones.

`agent` reads and writes agents; `archive` checks a file before anything in it is read.
"""
