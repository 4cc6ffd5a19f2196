"""Objects of TensorRT are destroyed by reference counts, before an error reaches the caller."""

from __future__ import annotations

import gc
import weakref

import pytest

from edgeact.errors import ConversionError
from edgeact.runtime.backends._trt_lifetime import without_collection


class _Builder:
    """Stands for an object whose destruction takes TensorRT's lock."""


class _Build:
    def __init__(self) -> None:
        self.builders: list[weakref.ref[_Builder]] = []
        self.collecting: list[bool] = []

    @without_collection
    def refuse(self) -> None:
        self._fail()

    def _fail(self) -> None:
        builder = _Builder()
        self.builders.append(weakref.ref(builder))
        self.collecting.append(gc.isenabled())
        try:
            raise TypeError(builder.__class__.__name__)
        except TypeError as error:
            raise ConversionError("refused") from error

    @without_collection
    def succeed(self) -> _Builder:
        self.collecting.append(gc.isenabled())
        return _Builder()


def test_error_releases_what_was_made() -> None:
    build = _Build()
    with pytest.raises(ConversionError) as caught:
        build.refuse()
    assert caught.value.__traceback__ is not None  # the exception still lives, with its traceback and cause
    assert isinstance(caught.value.__cause__, TypeError)
    assert [builder() for builder in build.builders] == [None]


@pytest.mark.parametrize("enabled", [True, False])
def test_collector_pauses_and_is_as_before(enabled: bool) -> None:
    build, before = _Build(), gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        build.succeed()
        with pytest.raises(ConversionError):
            build.refuse()
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()
    assert build.collecting == [False, False]
