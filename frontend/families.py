"""Which module implements which NumPy functions, so that it is loaded when one is first traced.

By module of `weft.frontend.numpy`: functions without their ``numpy.``, methods and attributes of
arrays with a dot before them. What is not listed is found too, after all modules have been loaded.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["FAMILIES", "HOOK_HOMES"]

FAMILIES: Mapping[str, str] = {
    "shapes": """
        reshape ravel transpose matrix_transpose linalg.matrix_transpose swapaxes moveaxis
        rollaxis squeeze expand_dims atleast_1d atleast_2d atleast_3d broadcast_to
        broadcast_arrays copy astype real imag .reshape .ravel .flatten .transpose .swapaxes
        .squeeze .copy .astype .conj .conjugate .flat .T .mT .real .imag""",
    "creation": """
        zeros ones empty full zeros_like ones_like empty_like full_like asarray asanyarray
        ascontiguousarray asfortranarray require array arange linspace logspace geomspace
        meshgrid indices fromfunction""",
    "matrices": """
        eye identity tri tril triu vander diagonal linalg.diagonal diag diagflat .diagonal""",
    "reductions": """
        sum prod max amax min amin all any count_nonzero ptp argmax argmin mean var std
        average .sum .prod .max .min .all .any .argmax .argmin .mean .var .std""",
    "linalg_core": """
        linalg.matmul linalg.vecdot dot vdot inner outer linalg.outer tensordot
        linalg.tensordot kron cross linalg.cross trace linalg.trace linalg.multi_dot
        linalg.matrix_power .dot .trace""",
    "einsum": "einsum einsum_path",
    "picks": """
        take take_along_axis compress extract ix_ unravel_index ravel_multi_index
        tril_indices_from triu_indices_from diag_indices_from
        lib.stride_tricks.sliding_window_view .take .compress""",
    "factorizations": """
        linalg.solve linalg.inv linalg.tensorsolve linalg.tensorinv linalg.lstsq linalg.det
        linalg.slogdet linalg.cholesky linalg.qr linalg.svd linalg.svdvals linalg.eigh
        linalg.eigvalsh linalg.eig linalg.eigvals linalg.pinv linalg.matrix_rank linalg.cond""",
    "fft": """
        fft.fft fft.ifft fft.rfft fft.irfft fft.hfft fft.ihfft fft.fftn fft.ifftn fft.fft2
        fft.ifft2 fft.rfftn fft.rfft2 fft.irfftn fft.irfft2 fft.fftshift fft.ifftshift""",
    "joins": """
        concatenate stack vstack hstack dstack column_stack append block array_split split
        hsplit vsplit dsplit unstack delete insert""",
    "moves": "flip flipud fliplr rot90 roll tile repeat .repeat",
    "sorting": """
        sort argsort partition argpartition sort_complex lexsort searchsorted digitize isin
        percentile quantile nanpercentile nanquantile median nanmedian .argsort .sort
        .partition .argpartition .searchsorted""",
    "histograms": """
        bincount histogram_bin_edges histogram histogramdd histogram2d""",
    "info": """
        shape ndim size iscomplexobj isrealobj result_type common_type can_cast
        min_scalar_type array_repr array_str array2string array_equal array_equiv isclose
        allclose""",
    "nans": """
        nansum nanprod nanmax nanmin nanargmax nanargmin nanmean nanvar nanstd""",
    "norms": "linalg.norm linalg.vector_norm linalg.matrix_norm",
    "numeric": """
        round around fix nan_to_num isposinf isneginf angle isreal iscomplex sinc i0 cov
        corrcoef .round""",
    "padding": "pad",
    "scans": """
        cumsum cumprod cumulative_sum cumulative_prod nancumsum nancumprod diff ediff1d
        trapezoid gradient .cumsum .cumprod""",
    "selection": "where clip select choose piecewise .clip .choose",
    "signals": """
        interp unwrap convolve correlate polyval polyadd polysub polymul polyder polyint""",
    "updates": "put putmask place put_along_axis fill_diagonal .put",
    "writes": "copyto apply_over_axes .fill",
}

HOOK_HOMES: Mapping[str, str] = {"getitem": "indexing", "sequence": "creation", "namespace": "info"}
"""The modules that fill these fields of `weft.frontend.table.HOOKS`."""
