"""Options of several numbers: what is typed right comes out, the rest is refused naming the option."""

from __future__ import annotations

import pytest

from edgeact.cli.numbers import parse_channels, parse_size
from edgeact.errors import UsageError
from tests.messages import names


def test_numbers_are_read() -> None:
    assert parse_size("128x171") == (128, 171)
    assert parse_channels("--mean", "0.485, 0.456,0") == (0.485, 0.456, 0.0)


@pytest.mark.parametrize("text", ["", "128", "128x", "x171", "128x171x3", "-1x5", "1.5x2"])
def test_a_wrong_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, check=names("--resize HEIGHTxWIDTH", f"got '{text}'")):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "0.5", "0.5,0.5", "1,1,1,1", "a,b,c", "nan,0,0", "114.75,114.75,114.75"])
def test_wrong_channels_are_refused(text: str) -> None:
    with pytest.raises(UsageError, check=names("--std with three numbers", f"got '{text}'")):
        parse_channels("--std", text)
