"""What programs mean: types, graphs, ops, rewrites, passes, kernels; no device."""
