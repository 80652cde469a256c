"""Program transforms as users see them: functions from function to function.

Inside of `weft.jit` they work on the trace that runs; called on arrays, what they give is compiled
and kept like a jitted function.
"""
