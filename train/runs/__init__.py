"""What all kinds of runs share: checks at the start, the folder, and callbacks.

Read `callbacks` first: log, TensorBoard, checkpoints and progress are callbacks of a training loop.
"""
