"""edgeact: prune, quantize, convert and run lightweight attention 3-D CNNs for action recognition on edge devices.

Importing this package loads no toolchain: not torch, onnx, OpenCV nor any inference backend.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
