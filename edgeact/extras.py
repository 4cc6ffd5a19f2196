"""Import of optional dependencies, with an error that names the extra to install."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

from edgeact.errors import MissingExtraError

__all__ = ["is_installed", "need", "require"]

_L4T = Path("/etc/nv_tegra_release")
_ON_JETSON = {
    "cv2": "use the OpenCV of JetPack, which pip's would hide: 'sudo apt install nvidia-jetpack', and a virtual "
    "environment with access to system packages: 'python3 -m venv --system-site-packages'"
}


def require(module: str, extra: str) -> ModuleType:
    """Import `module`; raises MissingExtraError, which names the edgeact extra, if the module is not installed.

    Import errors inside an installed module pass unchanged.
    """
    need(extra, module)
    return importlib.import_module(module)


def need(extra: str, *modules: str) -> None:
    """Raise MissingExtraError for the first of `modules` that is not installed, without importing any.

    For packages that import third-party modules at the top of their files.
    """
    for module in modules:
        if not is_installed(module):
            raise MissingExtraError(module, extra, _ON_JETSON.get(module) if _L4T.is_file() else None)


def is_installed(module: str) -> bool:
    """Return whether `module` is installed, without importing it (its parent packages are imported)."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
