"""Importing optional dependencies with an error that says what to install."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

from edgeact.errors import MissingExtraError

__all__ = ["is_installed", "need", "require"]


_L4T = Path("/etc/nv_tegra_release")
_ON_JETSON = {
    "cv2": "use JetPack's own OpenCV, which pip's would hide: 'sudo apt install nvidia-jetpack', and a virtual "
    "environment that sees it: 'python3 -m venv --system-site-packages'"
}


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, or raise MissingExtraError naming the edgeact extra that brings it.

    An import error from inside an installed module is not hidden.
    """
    need(extra, module)
    return importlib.import_module(module)


def need(extra: str, *modules: str) -> None:
    """Raise MissingExtraError for the first of `modules` that is not installed; imports none of them.

    For rooms that import third-party modules at the top of their files.
    """
    for module in modules:
        if not is_installed(module):
            raise MissingExtraError(module, extra, _ON_JETSON.get(module) if _L4T.is_file() else None)


def is_installed(module: str) -> bool:
    """Whether `module` could be imported, without importing it (its parents are)."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
