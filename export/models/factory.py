"""Call a user's factory, written 'package.module:factory'."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from torch import nn

from edgeact.errors import ModelError, UsageError

__all__ = ["call_factory", "first_line"]


def call_factory(source: str) -> nn.Module:
    """Import and call the factory 'package.module:factory'; the current folder is searched too, as by `python -m`.

    Raises UsageError if the factory cannot be found, ModelError if it fails or returns anything but a module.
    """
    module_name, attribute = _parts(source)
    with _current_folder_on_path():
        factory = _import_factory(source, module_name, attribute)
        try:
            module = factory()
        except Exception as error:  # whatever the user's code raises
            raise ModelError(
                f"calling '{source}' without arguments raised {first_line(error)}; "
                "expected a function that returns a torch.nn.Module"
            ) from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"'{source}' must return a torch.nn.Module, got {type(module).__name__}")
    return module


def first_line(error: Exception) -> str:
    """Return an error's class and the first line of its message."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _parts(source: str) -> tuple[str, str]:
    module_name, _, attribute = source.partition(":")
    if not (module_name and attribute):
        raise UsageError(f"expected package.module:factory, got '{source}'")
    if module_name.endswith(".py"):
        dotted = ".".join(part for part in Path(module_name).with_suffix("").parts if part not in (".", "/"))
        raise UsageError(
            f"expected package.module:factory, got the path of a file in '{source}'; write {dotted}:{attribute} "
            "and run from the folder that the path starts in"
        )
    return module_name, attribute


def _import_factory(source: str, module_name: str, attribute: str) -> Callable[[], object]:
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(
            f"cannot import '{module_name}' of '{source}': {error}; run from its folder or install it"
        ) from error
    factory: object = getattr(module, attribute, None)
    if factory is None:
        raise UsageError(f"'{module_name}' has no attribute '{attribute}'; expected package.module:factory")
    if not callable(factory):
        raise UsageError(f"'{source}' is not callable; expected a function that returns a torch.nn.Module")
    return factory


@contextlib.contextmanager
def _current_folder_on_path() -> Iterator[None]:
    before = list(sys.path)
    sys.path.insert(0, os.getcwd())
    try:
        yield
    finally:
        sys.path[:] = before
