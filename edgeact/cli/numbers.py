"""Parse options of several numbers: `128x171`, `0.5,0.5,0.5`."""

from __future__ import annotations

from edgeact.errors import UsageError

__all__ = ["parse_channels", "parse_size"]


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) in pixels of `HEIGHTxWIDTH`; raises UsageError for any other text."""
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise UsageError(f"expected --resize HEIGHTxWIDTH in pixels, e.g. 128x171, got '{text}'")
    return int(height), int(width)


def parse_channels(option: str, text: str) -> tuple[float, float, float]:
    """Return the three numbers within [0, 1] of `A,B,C`, one a channel; raises UsageError for any other text."""
    malformed = UsageError(
        f"expected {option} with three numbers for pixels within 0..1, e.g. 0.5,0.5,0.5, got '{text}'"
    )
    try:
        first, second, third = (float(part) for part in text.split(","))
    except ValueError as error:
        raise malformed from error
    if not all(0 <= value <= 1 for value in (first, second, third)):
        raise malformed
    return first, second, third
