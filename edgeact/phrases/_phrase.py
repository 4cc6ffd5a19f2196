"""The function that turns a typed reason into English; the other modules of this package register the sentences."""

from __future__ import annotations

import functools
from collections.abc import Mapping

__all__ = ["phrase", "phrases"]


@functools.singledispatch
def phrase(value: object) -> str:
    """Return the English sentence of a reason, a decision or a latency cause, without a final period.

    Raises TypeError for any other value.
    """
    raise TypeError(f"expected a value of edgeact.reasons, got {type(value).__name__}")


def phrases(reasons: Mapping[str, object]) -> dict[str, str]:
    """Return the English sentence of every reason in `reasons`, by the same keys.

    Raises TypeError like `phrase`.
    """
    return {key: phrase(reason) for key, reason in reasons.items()}
