"""hil.

More than a dozen names stand on this face because the host, the chip's process and the result each
have parts that a command chooses.
"""
