"""When programs run: caches, dispatch, and what stands between arrays and native code."""
