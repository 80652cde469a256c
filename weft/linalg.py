"""Functions of matrices beyond `numpy.linalg`, under SciPy's names.

``numpy.linalg`` itself works on traced arrays; these are for what it lacks.
"""

from weft.frontend.linalg import cho_factor, cho_solve, expm, lu, solve_triangular

__all__ = ["cho_factor", "cho_solve", "expm", "lu", "solve_triangular"]
