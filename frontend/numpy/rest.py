"""The families of NumPy functions that are loaded when the first of them is asked for."""

from weft.frontend.numpy import (
    einsum,
    factorizations,
    fft,
    histograms,
    info,
    joins,
    moves,
    nans,
    norms,
    numeric,
    padding,
    picks,
    scans,
    selection,
    signals,
    sorting,
    ufunc_methods,
    unsupported,
    updates,
    writes,
)

__all__ = ["einsum", "factorizations", "fft", "histograms", "info", "joins", "moves", "nans",
           "norms", "numeric", "padding", "picks", "scans", "selection", "signals", "sorting",
           "ufunc_methods", "unsupported", "updates", "writes"]
