"""The session: arrays, state, errors, threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from edgeact.errors import BackendUnavailableError, DeviceError, InputError, ModelError, UsageError
from edgeact.runtime import BackendSession, FakeBackend, OpenRequest, Session, get_backend
from tests.messages import names
from tests.runtime.making import CLIP, random_clip, request

WRONG: dict[str, tuple[Any, str]] = {
    "list": ([1.0], r"expected a numpy array, got list"),
    "shape": (np.zeros((1, 3, 4, 8, 16), np.float32), r"shape \(1, 3, 4, 16, 16\), got float32 of shape \(1, 3, 4, 8"),
    "dtype": (np.zeros(CLIP.input_shape), r"expected float32 .* got float64"),
    "nan": (np.full(CLIP.input_shape, np.nan, np.float32), r"got 3072 NaN or infinite values of 3072"),
    "infinity": (np.full(CLIP.input_shape, np.inf, np.float32), r"expected finite values"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_named(case: str) -> None:
    array, message = WRONG[case]
    with Session(FakeBackend(), request()) as session, pytest.raises(InputError, match=message):
        session.run(array)


def test_one_nan_among_thousands_is_found() -> None:
    clip = random_clip()
    clip[0, 2, 3, 15, 15] = np.nan
    with Session(FakeBackend(), request()) as session, pytest.raises(InputError, check=names("got 1 NaN")):
        session.run(clip)


def test_huge_but_finite_values_pass() -> None:
    clip = np.full(CLIP.input_shape, np.finfo(np.float32).max, np.float32)
    with Session(FakeBackend(), request()) as session:
        assert session.run(clip).logits.shape == (1, 4)


def test_any_memory_layout_gives_the_same() -> None:
    clip = random_clip()
    with Session(get_backend("onnxruntime"), request()) as session:
        strange = np.asfortranarray(clip)
        assert not strange.flags.c_contiguous
        np.testing.assert_array_equal(session.run(strange).logits, session.run(clip).logits)


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (np.array([0, 1], np.float32), ("expected logits float32 of shape (1, 4), got float32 of shape (1, 2)",)),
        (np.array([0, np.nan, 0, 0], np.float32), ("expected finite logits",)),
    ],
)
def test_wrong_output_is_named(logits: Any, message: tuple[str, ...]) -> None:
    with Session(FakeBackend(logits=logits), request()) as session, pytest.raises(ModelError, check=names(*message)):
        session.run(random_clip())


def test_closed_sessions_say_so() -> None:
    backend = FakeBackend()
    session = Session(backend, request())
    session.close()
    session.close()
    assert backend.closed == 1
    with pytest.raises(UsageError, check=names("closed")):
        session.run(random_clip())


def test_errors_of_the_library_are_mapped() -> None:
    with pytest.raises(DeviceError, check=names("fake failed while opening the model: FakeBackendError: no memory")):
        Session(FakeBackend(fail_open="no memory"), request())
    with (
        Session(FakeBackend(fail_run="lost"), request()) as session,
        pytest.raises(DeviceError, check=names("fake failed while running the model: FakeBackendError: lost")),
    ):
        session.run(random_clip())


def test_bugs_remain_bugs() -> None:
    def broken(clip: Any) -> Any:
        raise TypeError("a bug")

    with Session(FakeBackend(logits=broken), request()) as session, pytest.raises(TypeError, check=names("a bug")):
        session.run(random_clip())


def test_out_of_memory_is_mapped() -> None:
    def hungry(clip: Any) -> Any:
        raise MemoryError

    with (
        Session(FakeBackend(logits=hungry), request()) as session,
        pytest.raises(DeviceError, check=names("out of memory")),
    ):
        session.run(random_clip())


def test_threads_may_share_a_session() -> None:
    clips = [random_clip(seed) for seed in range(16)]
    with Session(get_backend("openvino"), request()) as session, ThreadPoolExecutor(4) as pool:
        alone = [session.run(clip).logits for clip in clips]
        shared = list(pool.map(lambda clip: session.run(clip).logits, clips))
    np.testing.assert_array_equal(np.stack(alone), np.stack(shared))


def test_a_library_that_does_not_load_is_mapped() -> None:
    class Broken(FakeBackend):
        def open(self, request: OpenRequest, /) -> BackendSession:
            raise ImportError("libnvinfer.so.10: cannot open shared object file")

    with pytest.raises(BackendUnavailableError, check=names("fake is installed but does not load: libnvinfer")):
        Session(Broken(), request())
