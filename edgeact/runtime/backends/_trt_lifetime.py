"""When TensorRT's objects are destroyed: never by Python's cyclic garbage collector inside one of TensorRT's calls.

TensorRT holds a lock while it passes a message to a logger written in Python, and takes the same lock when a builder or
runtime is destroyed (seen with TensorRT for RTX 1.7.1: the thread waits for itself and the process stands still). A
message allocates Python objects, so it can start a collection; a collection that finds an unreachable builder destroys
it. An exception is the usual cause: its traceback refers to frames, whose local variables are such objects.
"""

from __future__ import annotations

import functools
import gc
import traceback
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["without_collection"]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def without_collection(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Wrap a function that creates objects of TensorRT.

    The garbage collector pauses during each call, and local variables of a failed call are released before its
    exception reaches the caller. Everything that TensorRT made and the function does not return is destroyed by then.
    """

    @functools.wraps(function)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            _release_locals(error)
            raise
        finally:
            if was_enabled:
                gc.enable()

    return wrapped


def _release_locals(error: BaseException) -> None:
    """Clear the local variables of all finished frames of an exception and of those that led to it."""
    chained: BaseException | None = error
    while chained is not None:
        traceback.clear_frames(chained.__traceback__)
        chained = chained.__cause__ or chained.__context__
