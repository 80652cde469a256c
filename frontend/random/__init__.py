"""Random numbers: keys, the generator, and the distributions made of it."""
