"""A package that is also a function: `edgeact.export(...)` beside `from edgeact.export.models import ...`.

A function and a subpackage of one name cannot both be the attribute of their parent: the import system binds the
subpackage whenever it is imported. So the subpackage itself is callable.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from types import ModuleType

__all__ = ["CallablePackage", "make_callable"]


class CallablePackage(ModuleType):
    """A package that forwards calls to a function, which is imported when it is first needed."""

    __callable__: str
    """'module:function' that a call is forwarded to."""

    def __call__(self, *arguments: object, **options: object) -> object:
        """Call the function."""
        return self._function()(*arguments, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        """The signature of the function, for `help` and editors."""
        return inspect.signature(self._function())

    def _function(self) -> Callable[..., object]:
        module, _, name = self.__callable__.partition(":")
        function: Callable[..., object] = getattr(importlib.import_module(module), name)
        return function


def make_callable(package: str, function: str) -> None:
    """Let the imported `package` forward calls to `function`, 'module:name', which is not imported yet."""
    module = sys.modules[package]
    module.__class__ = CallablePackage
    module.__dict__["__callable__"] = function
