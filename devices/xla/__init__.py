"""The XLA device: graphs go whole to XLA through JAX, for TPUs and whatever else JAX runs on.

JAX is imported when the device is first used, and nowhere else in weft.
"""
