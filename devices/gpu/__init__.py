"""The GPU device: kernels as CUDA C++ by NVRTC, launched through CuPy.

CuPy is imported in this folder only, when a device is first asked for.
"""
