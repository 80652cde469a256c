"""What programs mean: types, graphs, ops, rewrites, passes, kernels. No device, no array of its own."""
