"""Importing optional dependencies with an error that says what to install."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from edgeact.errors import MissingExtraError

__all__ = ["is_installed", "require"]


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, or raise MissingExtraError naming the edgeact extra that brings it.

    An import error from inside an installed module is not hidden.
    """
    if not is_installed(module):
        raise MissingExtraError(module, extra)
    return importlib.import_module(module)


def is_installed(module: str) -> bool:
    """Whether `module` could be imported, without importing it (its parents are)."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
