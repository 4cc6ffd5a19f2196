from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeact.progress import counted, titled


@given(st.integers(0, 2000))
def test_counted_passes_everything_on_and_ends_complete(count: int) -> None:
    told: list[tuple[int, int]] = []
    items = list(range(count))
    assert list(counted(items, lambda done, total: told.append((done, total)))) == items
    assert told == sorted(set(told))
    assert told[-1:] == ([(count, count)] if count else [])
    assert len(told) <= 1 + count // 100


def test_an_item_counts_once_the_caller_is_through_with_it() -> None:
    told: list[int] = []
    for item in counted(["only"], lambda done, _total: told.append(done)):
        assert (item, told) == ("only", [])
    assert told == [1]


def test_a_title_is_reported_to_listeners_only() -> None:
    told: list[tuple[str, int, int]] = []
    tell = titled(lambda *step: told.append(step), "reading")
    assert tell is not None
    tell(1, 2)
    assert told == [("reading", 1, 2)]
    assert titled(None, "reading") is None
