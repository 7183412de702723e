"""environments.

More than a dozen names stand on this face because the protocol is stored, checked and played by
different packages.
"""
