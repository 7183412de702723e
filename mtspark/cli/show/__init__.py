"""Tables and lines of results in the terminal, one file a subject.

A function here takes a result and prints it; none of them computes what it shows.
"""
