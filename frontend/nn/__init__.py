"""Neural networks' functions on arrays and on traced values; `weft.nn` has the public names."""
