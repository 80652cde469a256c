"""What users touch: jit, tracing, NumPy's protocols, stages, explain, the command line."""
