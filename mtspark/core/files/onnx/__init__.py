"""ONNX files: `scan` reads those of strangers under guard, `graph` builds and saves our own.

A file is scanned as plain protocol buffers before ONNX sees it. What refers to other files is
refused.
"""
