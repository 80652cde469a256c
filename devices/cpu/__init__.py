"""The CPU: kernels as LLVM IR text, native code, the native runtime around it."""
