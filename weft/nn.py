"""Functions of neural networks, on arrays and, inside compiled functions, on traced values.

Names and arguments are those of `jax.nn` and `torch.nn.functional` where these agree. Results have
the arguments' own element type. Outside a compiled function each is compiled for itself.
"""

from weft.frontend.nn.convolution import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
)

__all__ = [
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
]
