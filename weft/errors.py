"""The exceptions that weft raises. Each is also the built-in one that NumPy would raise.

>>> import weft
>>> issubclass(weft.errors.ShapeError, ValueError)
True
"""

from weft.compiler.errors import (
    DataDependentError,
    DTypeError,
    EscapedTracerError,
    IndexOutOfBoundsError,
    LinAlgError,
    ShapeError,
    TextError,
    TracerValueError,
    UnsupportedError,
    VerifyError,
    WeftError,
)
from weft.devices.protocol import DeviceError, DeviceLostError, OutOfMemoryError

__all__ = ["DTypeError", "DataDependentError", "DeviceError", "DeviceLostError",
           "EscapedTracerError", "IndexOutOfBoundsError", "LinAlgError", "OutOfMemoryError",
           "ShapeError", "TextError", "TracerValueError", "UnsupportedError", "VerifyError",
           "WeftError"]
