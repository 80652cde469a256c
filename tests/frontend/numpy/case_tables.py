"""Cases of reductions, scans, shapes, creation and products; see `cases`."""

from __future__ import annotations

ALL = "xb xi1 xu1 xi4 xi xh xf x xn xc xc8 xr xt"
REAL = "xb xi1 xu1 xi4 xi xh xf x xn xr xt"
NUMBERS = "xi1 xu1 xi xh xf x xc xr"
FLOATS = "xh xf x xn xc xr"

REDUCTIONS = f"""
np.sum(X) | {ALL} e z s v zi
np.sum(X, axis=0) | {ALL} e v
np.sum(X, axis=-1, keepdims=True) | {ALL} e
np.sum(X, axis=(0, 1)) | {ALL}
np.sum(X, (1, 0), keepdims=True) | x t z
np.sum(X, axis=()) | x xi4
np.sum(X, dtype='f4') | xi x xb
np.sum(X, dtype=np.int8) | xi xb
np.sum(X, dtype=bool) | xi xb
np.sum(X, axis=0, initial=10) | {NUMBERS} e
np.sum(X, axis=1, where=vb) | {NUMBERS} xn
np.sum(X, where=xb, initial=1.5) | x xf
np.sum(x, axis=2) | x
np.sum(x, axis=(0, 0)) | x
np.sum([1, 2, 3.5]) | x
np.sum(x, axis=0, out=x[0] * 1) | x
X.sum() | x xi4 xf z s
X.sum(1) | x xi4 xu1
X.sum(axis=0, keepdims=True) | x xb
np.prod(X) | xb xi4 xh xf x xc z
np.prod(X, axis=1) | {NUMBERS} e
np.prod(X, axis=0, where=xb, initial=2) | x xi4
X.prod(axis=0) | x xu1
np.max(X) | {ALL} z s v
np.max(X, axis=0) | {ALL}
np.max(X, axis=1, keepdims=True) | {ALL}
np.max(X, axis=(0, 2)) | t
np.max(X, axis=0, initial=0.5) | x xi xf e
np.max(X, axis=1, where=vb, initial=-9) | x xi
np.max(X, axis=1, where=vb) | x
np.max(X) | e
np.max(X, axis=1) | e
np.amax(X, 1) | x
X.max() | x xi xn z
X.max(axis=0) | x xi1
np.min(X) | {ALL} z
np.min(X, axis=0) | {ALL}
np.amin(X, axis=1, keepdims=True) | x xc
X.min(1) | x xu1
np.any(X) | {ALL} e z
np.any(X, axis=0) | {ALL} e
np.any(X, axis=1, keepdims=True, where=vb) | x xb
np.all(X) | {ALL} e z
np.all(X, axis=(0, 1)) | x xb
np.all(X, axis=1) | {ALL}
X.any() | x xb s
X.all(axis=1) | x xb
np.mean(X) | {ALL} z s
np.mean(X, axis=0) | {ALL}
np.mean(X, axis=(0, 1), keepdims=True) | {ALL}
np.mean(X, axis=1, dtype='f4') | x xi xh
np.mean(X, axis=1, where=vb) | x xf xi
X.mean() | x xh xi4 s
X.mean(axis=-1, keepdims=True) | x xf xh
np.var(X) | {REAL} xc xc8 z
np.var(X, axis=0) | {REAL} xc
np.var(X, axis=1, ddof=1, keepdims=True) | {REAL} xc
np.var(X, axis=1, correction=1) | x xf
np.var(X, axis=1, dtype='f8') | xf xi
np.var(X, axis=0, where=xb) | x xf
np.var(X, axis=1, mean=np.mean(x, axis=1, keepdims=True)) | x
np.var(X, ddof=20) | x
X.var(axis=0) | x xf xi
np.std(X) | {REAL} xc
np.std(X, axis=(0, 1), ddof=1) | x xf
X.std(axis=1) | x xi
np.argmax(X) | {REAL} xc z v
np.argmax(X, axis=0) | {REAL}
np.argmax(X, axis=1, keepdims=True) | x xi
np.argmin(X) | {REAL}
np.argmin(X, axis=-1) | {REAL} xc
np.argmin(X, keepdims=True) | x
X.argmax() | x xn
X.argmin(axis=0) | x xi
np.argmax(X, axis=1) | e
np.argmax(X, axis=0) | e
np.ptp(X) | xi1 xi x xf xr
np.ptp(X, axis=1) | x xi
np.ptp(X, axis=0, keepdims=True) | x
np.count_nonzero(X) | {ALL} z
np.count_nonzero(X, axis=1) | {ALL}
np.count_nonzero(X, axis=0, keepdims=True) | x
np.average(X) | x xi xf xb
np.average(X, axis=1) | x xf
np.average(X, axis=1, weights=v) | x xi
np.average(X, weights=np.abs(y)) | x xf xi
np.average(X, axis=0, weights=np.abs(w), returned=True) | x
np.average(X, axis=1, keepdims=True, weights=np.abs(y)) | x
np.average(X, weights=w) | x
np.nansum(X) | {ALL}
np.nansum(X, axis=1) | {ALL}
np.nansum(X, axis=0, keepdims=True) | xn
np.nanprod(X, axis=1) | xn x xi
np.nanmax(X) | {REAL}
np.nanmax(X, axis=0) | xn x xi
np.nanmax(X, axis=1, initial=-5) | xn
np.nanmin(X, axis=1) | xn x xi
np.nanmin(X * np.nan, axis=1) | x
np.nanmean(X) | xn x xi xf
np.nanmean(X, axis=0) | xn x xf
np.nanmean(X, axis=1, keepdims=True) | xn
np.nanvar(X[1:]) | xn x xi
np.nanvar(X, axis=1, ddof=1) | x xf xi
np.nanstd(X[1:2], axis=1) | xn
np.nanstd(X, axis=0) | x xf xi
np.nanargmax(X) | xn x xi
np.nanargmax(X, axis=1) | xn x
np.nanargmin(X, axis=0) | xn x xi
np.nancumsum(X, axis=1) | xn x xi
np.nancumsum(X) | xn
np.nancumprod(X, axis=0) | xn x
np.nanmedian(X) | xn x
np.nanmedian(X, axis=1) | xn x xf
np.nanpercentile(X[1:], 30, axis=1) | xn x
np.nanquantile(X[1:], [0.25, 0.5], axis=0) | xn x
np.median(X) | xi x xf xn v z
np.median(X, axis=0) | xi x xf xn
np.median(X, axis=(0, 1), keepdims=True) | x
np.median(X, axis=1) | x t xi
np.percentile(X, 30) | x xi xf xn
np.percentile(X, [10, 50, 99.5], axis=1) | x xi xf
np.percentile(X, r * 100, axis=0, keepdims=True) | x
np.quantile(X, 0.25, axis=(0, 1)) | x xf
np.quantile(X, [[0.1, 0.9], [0.5, 1.0]], axis=0) | x
np.quantile(X, 0.3, method='lower') | x xi
np.quantile(X, 0.3, method='higher', axis=1) | x xi
np.quantile(X, 0.3, method='midpoint', axis=1) | x xi
np.quantile(X, 0.3, method='nearest', axis=1) | x
"""

SCANS = f"""
np.cumsum(X) | {ALL} z
np.cumsum(X, axis=0) | {ALL} e
np.cumsum(X, axis=-1, dtype='f4') | x xi
X.cumsum(axis=1) | x xi1
np.cumprod(X, axis=1) | {NUMBERS} xb
X.cumprod() | v vi
np.cumulative_sum(X) | v vi
np.cumulative_sum(X, axis=1, include_initial=True) | x xi4
np.cumulative_prod(X, axis=0) | x
np.cumulative_sum(X) | x
np.diff(X) | {ALL} e
np.diff(X, n=2, axis=0) | x xi xb
np.diff(X, n=0) | x
np.diff(X, axis=1, prepend=0, append=[[1], [2], [3]]) | x
np.diff(X, n=5) | v
np.ediff1d(X) | x xi
np.ediff1d(X, to_end=[1.0, 2.0], to_begin=-9) | x v
np.trapezoid(X) | x xi v xf
np.trapezoid(X, dx=0.5, axis=0) | x
np.trapezoid(X, u) | x xf
np.trapezoid(X, y) | x
np.gradient(X) | x xi xf v long
np.gradient(X, axis=0) | x
np.gradient(X, 0.5) | x
np.gradient(X, 2.0, u, edge_order=2) | x
np.gradient(X, u) | v
np.gradient(X, edge_order=2) | v x
np.gradient(v[:1]) | v
"""

SHAPES = f"""
np.reshape(X, (4, 3)) | x xi xb xc xr xt
np.reshape(X, -1) | x xt z
np.reshape(X, (2, -1, 3)) | x
np.reshape(X, (3, 4), order='F') | x xt
np.reshape(X, (5, -1)) | x
np.reshape(X, (-1, -1)) | x
np.reshape(X, (7,)) | x
X.reshape(4, 3) | x xi
X.reshape((2, 6)) | x
X.reshape(n, -1) | x
X.reshape(()) | z s
X.reshape(-1, 4)[0] | x
np.ravel(X) | x xt z s e r
np.ravel(X, order='F') | x
X.ravel() | x xt
X.flatten() | x xt z s
X.flatten('F') | x
np.transpose(X) | x t v z
np.transpose(X, (2, 0, 1)) | t
np.transpose(X, (0, 0, 1)) | t
np.transpose(X, (0, 1)) | t
X.transpose() | x t
X.transpose(1, 0, 2) | t
X.transpose((1, 2, 0)) | t
X.T | x t v z s
X.mT | x t v
np.permute_dims(X, (1, 0)) | x
np.matrix_transpose(X) | t v
np.swapaxes(X, 0, -1) | t x
X.swapaxes(0, 5) | x
np.moveaxis(X, 0, -1) | t
np.moveaxis(X, [0, 1], [-1, 0]) | t
np.moveaxis(X, [0, 1], [0]) | t
np.rollaxis(X, 2) | t
np.rollaxis(X, 0, 3) | t
np.squeeze(X[:, None]) | x v
np.squeeze(X[None, :1, None]) | x
np.squeeze(X[None], axis=0) | x
np.squeeze(X, axis=1) | x
X[:1].squeeze() | x
np.expand_dims(X, 1) | x v z s r
np.expand_dims(X, (0, -1)) | x
np.expand_dims(X, 4) | x
np.atleast_1d(X) | z s r x
np.atleast_2d(X) | z v x t
np.atleast_3d(X) | z v x t
np.atleast_1d(z, v) | x
np.broadcast_to(X, (3, 4)) | v z x r
np.broadcast_to(X, (4, 3)) | v
np.broadcast_to(X, (2, 3, 4)) | x s
np.broadcast_to(X, (4,)) | x
np.broadcast_arrays(X, w[:, None], 2.0) | v
np.flip(X) | x v z
np.flip(X, 1) | x xi
np.flip(X, (0, 2)) | t
np.flipud(X) | x v z
np.fliplr(X) | x v
np.rot90(X) | x q
np.rot90(X, 2) | x
np.rot90(X, -1, (1, 2)) | t
np.rot90(X, 1, (1, 1)) | t
np.roll(X, 1) | x v xi
np.roll(X, -2, axis=1) | x
np.roll(X, (1, 5), axis=(0, 1)) | x
np.roll(X, 2, axis=(0, 1)) | x
np.roll(X, 3, axis=0) | e
np.tile(X, 2) | x v z
np.tile(X, (2, 3)) | x v
np.tile(X, (2, 1, 2)) | x
np.repeat(X, 2) | x z
np.repeat(X, 3, axis=1) | x
np.repeat(X, [1, 0, 2], axis=0) | x
np.repeat(X, [1, 2], axis=0) | x
X.repeat(2, 0) | x
np.copy(X) | x z s
X.copy() | x z s
X.astype('f4') | {ALL}
X.astype(int) | xb xi1 xf x z s
X.astype(bool) | {ALL}
X.astype('i1') | xi x
X.astype(complex) | x xi
X.astype('f4', casting='safe') | x
np.astype(X, np.float32) | x xi
X.astype(np.float16) | x
np.real(X) | {ALL} z s r
np.imag(X) | {ALL} z s r
X.real | x xc s
X.imag | x xc
X.conj() | xc x xi
X.conjugate() | xc8
np.concatenate((X, X)) | {ALL}
np.concatenate((X, xi, xf), axis=1) | x xb xc
np.concatenate((X, x), axis=None) | v
np.concatenate((X, x), axis=0) | v t q
np.concatenate((x, X), axis=1, dtype='f4') | xi
np.concatenate((x, [[1, 2, 3, 4]])) | x
np.concat([X, X], axis=-1) | x
np.concatenate([z, z]) | x
np.concatenate(X) | t
np.stack([X, X]) | {ALL} z s
np.stack((X, y), axis=1) | x xi
np.stack((X, y), axis=-1) | x
np.stack((X, v)) | x
np.vstack((X, X)) | x v z
np.hstack((X, X)) | x v z
np.hstack((v, w)) | x
np.dstack((X, X)) | x v
np.column_stack((X, X)) | x v
np.column_stack((w, x)) | x
np.block([[X, X], [X, X]]) | x
np.block([x, w[:, None]]) | x
np.block([[np.eye(3), x], [w, 1.0, 2.0, 3.0, 4.0]]) | x
np.append(X, [1, 2]) | x v
np.append(X, x, axis=0) | xi
np.split(X, 3) | x
np.split(X, 2, axis=1) | x
np.split(X, [1, 3], axis=1) | x
np.split(X, 2) | x
np.array_split(X, 3, axis=1) | x
np.array_split(X, [1, 5], axis=1) | x
np.hsplit(X, 2) | x v
np.vsplit(X, 3) | x v
np.dsplit(X, 2) | t x
np.unstack(X) | x v
np.unstack(X, axis=1) | x
np.delete(X, 1, axis=0) | x
np.delete(X, [0, -1], axis=1) | x
np.delete(X, slice(0, 4, 2), axis=1) | x
np.delete(X, 3) | x
np.insert(X, 1, 9.0, axis=1) | x
np.insert(X, [1, 3], [7, 8]) | v
np.insert(X, 2, w, axis=1) | x
np.insert(X, [1, 2], v, axis=0) | x
np.insert(X, 4, 1.5) | v
np.pad(X, 1) | {ALL}
np.pad(X, ((1, 2), (0, 3)), constant_values=5) | x xi
np.pad(X, (1, 2), 'constant', constant_values=(1, 2)) | x
np.pad(X, ((1, 2), (2, 1)), 'edge') | x xi
np.pad(X, ((2, 2), (3, 1)), 'reflect') | x
np.pad(X, ((5, 2), (9, 1)), 'symmetric') | x
np.pad(X, ((2, 4), (6, 1)), 'wrap') | x
np.pad(X, 2, 'reflect', reflect_type='odd') | x
np.pad(X, 2, 'symmetric', reflect_type='odd') | x
np.pad(X, ((1, 2), (2, 1)), 'linear_ramp', end_values=3) | x
np.pad(X, ((1, 2), (2, 1)), 'maximum') | x xi
np.pad(X, ((1, 2), (2, 1)), 'minimum', stat_length=2) | x xi
np.pad(X, ((1, 2), (2, 1)), 'mean') | x xi
np.pad(X, {{1: 2}}) | x
np.pad(X, r) | x
np.pad(X, -1) | x
np.shape(X) | x z r
np.ndim(X) | x z r
np.size(X) | x e z
np.size(X, 1) | x
len(X) | x v
X.shape | x z s
X.size, X.ndim, X.itemsize, X.nbytes, X.dtype | x xi1 xc8
np.iscomplexobj(X), np.isrealobj(X) | x xc
np.result_type(X, np.float32, 3) | x xi4 xf
np.can_cast(X.dtype, 'f4') | x xf
np.common_type(X, xf) | x xi
"""

CREATION = """
np.zeros_like(X) | x xi xb xc z s
np.ones_like(X, dtype='f4') | x xi
np.empty_like(X) * 0 | x
np.full_like(X, 3) | x xi xb
np.full_like(X, 300) | xu1
np.zeros_like(X, shape=(2, 2)) | x xi4
np.full(3, 2.5, like=X) | x
np.zeros(3, like=X) | x
np.ones((2, 1), 'i4', like=X) | x
np.array([1, 2], like=X) | x
np.arange(5, like=X) | x
np.arange(2, 10, 3, dtype='f4', like=X) | x
np.eye(3, 4, k=-1, like=X) | x
np.identity(2, like=X) | x
np.tri(3, like=X) | x
np.linspace(X, 3.0, 5) | z s r
np.linspace(X, x + 1, 4) | x
np.linspace(0, X, 3, endpoint=False) | x z
np.linspace(X, 2, 5, retstep=True) | z
np.linspace(X, x * 2, 3, axis=-1) | x
np.linspace(X, 9, 4, dtype=int) | z
np.linspace(X, 9, 1) | z
np.logspace(X, 2.0, 4) | z r
np.logspace(0, X, 3, base=2) | z
np.geomspace(X, 100.0, 5) | z
np.geomspace(np.abs(X), 50.0, 4) | v
np.tril(X) | x q t v xi
np.tril(X, 1) | x
np.triu(X, -1) | x t
np.triu(X) | q xb xc
np.vander(X) | v vi
np.vander(X, 3, increasing=True) | v
np.vander(X, 0) | v
np.diag(X) | v q x vi
np.diag(X, 1) | v q
np.diag(X, -2) | v q x
np.diag(X) | t
np.diagflat(X, 1) | v ii
np.diagonal(X) | q x t
np.diagonal(X, 1, 1, 2) | t
X.diagonal(-1) | q x
np.meshgrid(X, w) | v
np.meshgrid(X, w, indexing='ij') | v
np.meshgrid(X, w, sparse=True) | v
np.meshgrid(v, w, X) | v
np.fromfunction(lambda i, j: i + 2 * j, (3, 2), like=X) | x
np.tril_indices_from(X) | q x
np.triu_indices_from(X, 1) | q
np.diag_indices_from(X) | q
np.ix_(X, vi) | i
np.lib.stride_tricks.sliding_window_view(X, 2) | v
np.lib.stride_tricks.sliding_window_view(X, (2, 3)) | x
np.lib.stride_tricks.sliding_window_view(X, 3, axis=1) | x
np.lib.stride_tricks.sliding_window_view(X, 9, axis=1) | x
np.unravel_index(X, (3, 4)) | iu
np.ravel_multi_index((X, X), (3, 4)) | iu
np.ravel_multi_index((X, X), (3, 4), mode='clip') | i
"""

PRODUCTS = """
X @ x.T | x xf xi xc xh
X @ v | x t
w @ X | x t
X @ v | v
X @ X | q qi t
X @ X.swapaxes(1, 2) | t tf
t @ t5 | x
t[:, None] @ t5 | x
q @ X | t.mT t
X @ 2.0 | x
np.matmul(X, x) | x z
np.matmul(xb, X) | xb.T
np.matmul(t5, t, axes=[(0, 1), (0, 1), (1, 2)]) | x
np.dot(X, v) | x t v z s
np.dot(X, x.T) | x xi t
np.dot(x, 3) | x
np.dot(t5[0], c.T) | x
np.dot(X, x) | x
X.dot(v) | x v
np.vdot(X, x) | x xc
np.inner(X, x) | x t
np.inner(X, v) | v x
np.inner(2.0, X) | x
np.outer(X, w) | v x vi
np.linalg.outer(X, w) | v x
np.tensordot(X, x, axes=1) | x.T
np.tensordot(X, t, axes=2) | t
np.tensordot(X, t, axes=([1, 2], [1, 2])) | t
np.tensordot(X, v, axes=(1, 0)) | x
np.tensordot(x, X, axes=0) | v
np.tensordot(X, w, axes=1) | x
np.kron(X, q) | x v z
np.kron(X, v) | v
np.cross(X, q[0]) | q w
np.cross(q, X, axis=0) | q
np.cross(X, w) | v
np.linalg.cross(q, X) | q
np.trace(X) | x q t qi xb
np.trace(X, 1, 1, 2) | t
X.trace() | q
np.linalg.trace(X) | t
np.linalg.diagonal(X) | q
np.vecdot(X, x) | x xc v
np.vecdot(X, t, axis=1) | t
np.matvec(x, X) | v
np.matvec(t, X) | x
np.vecmat(w, X) | x
np.vecmat(q, X) | x.T x
np.vecmat(t[:, 0], X) | t5
np.linalg.vecdot(X, x) | x
np.linalg.matmul(X, x.T) | x
np.linalg.tensordot(X, x.T, axes=1) | x
np.linalg.multi_dot([X, x.T, x]) | x
np.linalg.multi_dot([w, X, v]) | x
np.linalg.matrix_power(X, 3) | q qi
np.linalg.matrix_power(X, 0) | q
np.linalg.matrix_power(X, 1) | q
np.linalg.matrix_power(X, 2) | x
np.linalg.matrix_transpose(X) | t
np.linalg.norm(X) | x v xc xi xf t
np.linalg.norm(X, axis=1) | x xf xc
np.linalg.norm(X, axis=(0, 1)) | t
np.linalg.norm(X, 1, axis=1, keepdims=True) | x
np.linalg.norm(X, np.inf) | v x
np.linalg.norm(X, -np.inf, axis=0) | x
np.linalg.norm(X, 0) | v vi
np.linalg.norm(X, 3) | v
np.linalg.norm(X, 1) | x
np.linalg.norm(X, -1, axis=(1, 2), keepdims=True) | t
np.linalg.norm(X, 'fro') | x
np.linalg.norm(X, keepdims=True) | x
np.linalg.vector_norm(X) | x t
np.linalg.vector_norm(X, axis=(0, 2), keepdims=True) | t
np.linalg.vector_norm(X, ord=1, axis=1) | x
np.linalg.matrix_norm(X) | t
np.linalg.matrix_norm(X, ord=1) | x
np.einsum('ij,kj->ik', X, x) | x xf xi
np.einsum('ij,jk', X, c) | x
np.einsum('ij->ji', X) | x
np.einsum('ij->', X) | x xb
np.einsum('ij->j', X) | x xh
np.einsum('ii', X) | q
np.einsum('ii->i', X) | q
np.einsum('ij,ij->', X, y) | x
np.einsum('i,j->ij', X, w) | v vi
np.einsum('i,i', X, v) | v
np.einsum('...j,j->...', X, v) | t x
np.einsum('...ij,...jk->...ik', X, t5) | t
np.einsum('bij,bjk,bik->b', t, t5, t[:, :, :1]) | x
np.einsum('ij,jk,kl->il', X, c, c.T) | x
np.einsum('ij,kj,k->i', X, x, w) | x
np.einsum('ijk->kij', X) | t
np.einsum('iij->j', X) | np.stack([q,q,q])
np.einsum(X, [0, 1], c, [1, 2], [0, 2]) | x
np.einsum(X, [0, 1], v, [1]) | x
np.einsum(X, [0, Ellipsis]) | x
np.einsum('ij,j', X, w) | x
np.einsum('ij,j', X) | x
np.einsum('ijk', X) | x
np.einsum('ij->ijk', X) | x
np.einsum('ij,jk->ik', X, xb.T) | xb
np.einsum('ij,jk->ik', X, c, dtype='f4', casting='unsafe') | x
np.einsum(' i j , j -> i', X, v) | x
np.einsum('ab,bc,cd,de->ae', q, q, q, X, optimize=True) | q
np.einsum('i->', X) | v
np.einsum_path('ij,jk,kl->il', X, c, c.T)[0] | x
np.einsum('i,->i', X, z) | v
np.einsum('ij,ij->ij', X, x) | x v[None]
"""
