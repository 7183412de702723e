"""float_network.

More than a dozen names stand on this face because one data structure, the network, has many parts
that every importer builds.
"""
