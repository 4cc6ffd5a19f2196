"""What an error's message must name, whatever its wording."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["names"]


def names(*parts: str) -> Callable[[BaseException], bool]:
    """Return a check for `pytest.raises`: the message contains every part, in any order.

    Parts are the subject, the expected and received values and the remedy; sentences are not compared, so a message
    can be reworded.
    """

    def check(error: BaseException) -> bool:
        missing = [part for part in parts if part not in str(error)]
        assert not missing, f"the message names no {missing}: {error}"
        return True

    return check
