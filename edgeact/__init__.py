"""edgeact: prune, quantize, convert and run lightweight attention 3-D CNNs for action recognition on edge devices.

    import edgeact

    bundle = edgeact.export("msf-r3d-fsam", "cpu")
    with edgeact.load(bundle) as recognizer:
        print(recognizer.predict(frames).label)

Importing this package loads no toolchain: not torch, onnx, OpenCV nor any inference backend. The functions are imported
when they are first used.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeact.api import benchmark, evaluate, export, report
    from edgeact.runtime import load

__version__ = "0.1.0"
__all__ = ["__version__", "benchmark", "evaluate", "export", "load", "report"]

_FRONT_DOOR: Mapping[str, str] = MappingProxyType(
    {
        "benchmark": "edgeact.api:benchmark",
        "evaluate": "edgeact.api:evaluate",
        "export": "edgeact.export:",
        "load": "edgeact.runtime:load",
        "report": "edgeact.report:",
    }
)
"""Name -> 'module:function'; `export` and `report` are packages that are callable themselves."""


def __getattr__(name: str) -> object:
    if name not in _FRONT_DOOR:
        raise AttributeError(f"module 'edgeact' has no attribute '{name}'")
    module, _, function = _FRONT_DOOR[name].partition(":")
    imported = importlib.import_module(module)
    return getattr(imported, function) if function else imported


def __dir__() -> list[str]:
    return sorted({*globals(), *_FRONT_DOOR})
