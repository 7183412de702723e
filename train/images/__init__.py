"""Training on image sets: one network, a task for each set.

Read `data` (loading), `trainer` (learning) and `run` (the folder of a run), in this order.
"""
