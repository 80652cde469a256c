"""Fusion and the kernel IR: from a graph to a program of loop nests, as plain data."""
