"""files.

More than a dozen names stand on this face because it is the one door to the disk: one writer, one
guarded reader for each format, and the limits of both.
"""
