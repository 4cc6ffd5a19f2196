"""Every backend of the table answers; those that run here give the right numbers."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
import openvino
import pytest

from edgeact.bundle.manifest import Kind
from edgeact.devices import list_profiles, load_profile
from edgeact.devices.profile import BackendName
from edgeact.errors import (
    BackendUnavailableError,
    DeviceError,
    EdgeactError,
    MissingExtraError,
    UnknownNameError,
)
from edgeact.runtime import BACKENDS, FakeBackend, Session, get_backend
from tests.messages import names
from tests.runtime.making import random_clip, reference, request, tiny_onnx, tiny_request

RUN_HERE = [name for name in BACKENDS if get_backend(name).why_unavailable() is None]


def test_the_two_cpu_backends_run_here() -> None:
    assert {"onnxruntime", "openvino"} <= set(RUN_HERE)


def test_every_table_of_backends_has_the_same_names() -> None:
    assert set(get_args(BackendName)) == set(BACKENDS)
    by_boards = {name for board in list_profiles() for name in load_profile(board).backends}
    assert by_boards == set(BACKENDS)
    assert set(get_args(Kind)) == {kind for name in BACKENDS for kind in get_backend(name).kinds}


def test_unknown_backend_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, check=names("unknown backend 'openvno'; did you mean openvino")):
        get_backend("openvno")


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_answers(name: str) -> None:
    backend = get_backend(name)
    assert backend.name == name
    assert backend.kinds
    reason = backend.why_unavailable()
    if reason is None:
        assert backend.version()[0].isdigit()
        assert backend.devices()
        assert backend.facts()[name] == backend.version()
        assert all(issubclass(error, Exception) for error in backend.errors())
    else:
        assert len(reason) > 20
        with pytest.raises((BackendUnavailableError, MissingExtraError, DeviceError)):
            Session(backend, request())


@pytest.mark.parametrize("name", RUN_HERE)
def test_logits_are_the_references(name: str) -> None:
    clip = random_clip()
    with Session(get_backend(name), tiny_request(name)) as session:
        logits, inference_ms = session.run(clip)
        assert session.device.startswith("CPU")
    np.testing.assert_allclose(logits, reference(tiny_onnx(), clip), atol=0.2 if name == "native" else 1e-4)
    assert inference_ms > 0


@pytest.mark.parametrize("name", RUN_HERE)
def test_results_belong_to_the_caller(name: str) -> None:
    """A reused input buffer is read at every call, and an old result does not change with a new one."""
    buffer = random_clip(1)
    with Session(get_backend(name), tiny_request(name)) as session:
        first = session.run(buffer).logits
        kept = first.copy()
        buffer[...] = random_clip(2)
        second = session.run(buffer).logits
        third = session.run(random_clip(2)).logits
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_allclose(second, third, rtol=1e-6)
    assert not np.allclose(first, second)


@pytest.mark.parametrize("name", RUN_HERE)
def test_two_sessions_do_not_disturb_each_other(name: str) -> None:
    requests, clip = [tiny_request(name, seed) for seed in (0, 1)], random_clip()
    with Session(get_backend(name), requests[0]) as first, Session(get_backend(name), requests[1]) as second:
        before = first.run(clip).logits
        assert not np.array_equal(second.run(clip).logits, before)
        np.testing.assert_array_equal(first.run(clip).logits, before)


@pytest.mark.parametrize("name", RUN_HERE)
@pytest.mark.parametrize("graph", [b"", b"no model at all", tiny_onnx()[:200]])
def test_a_graph_that_does_not_open_is_a_mapped_error(name: str, graph: bytes) -> None:
    with pytest.raises(EdgeactError, check=names(name)):
        Session(get_backend(name), request(graph))


@pytest.mark.parametrize("name", RUN_HERE)
def test_a_device_that_is_not_here(name: str) -> None:
    device = {"onnxruntime": "CUDA", "openvino": "NPU", "native": "GPU"}[name]
    if device in get_backend(name).devices():
        pytest.skip(f"{device} is here")
    with pytest.raises(BackendUnavailableError, check=names(device)):
        Session(get_backend(name), request(device=device))


@pytest.mark.parametrize("name", sorted({"onnxruntime", "openvino"} & set(RUN_HERE)))
def test_a_session_binds_the_calling_thread_to_no_core(name: str) -> None:
    """Two models of one thread in a process would share the first core, and leave the others idle."""
    everywhere, seen = os.sched_getaffinity(0), set()
    numbers: queue.Queue[int] = queue.Queue()

    def run(session: Session, until: float) -> None:
        numbers.put(threading.get_native_id())
        while time.monotonic() < until:
            session.run(random_clip())

    with Session(get_backend(name), request(threads=1)) as session:
        worker = threading.Thread(target=run, args=(session, time.monotonic() + 0.4))
        worker.start()
        number = numbers.get()
        while worker.is_alive():
            with contextlib.suppress(ProcessLookupError):
                seen.add(frozenset(os.sched_getaffinity(number)))
        worker.join()
    assert seen == {frozenset(everywhere)}


def test_openvino_maps_an_unknown_device() -> None:
    with pytest.raises(DeviceError, check=names("openvino failed while opening")):
        Session(get_backend("openvino"), request(device="ABACUS"))


def test_openvino_opens_its_ir(tmp_path: Path) -> None:
    graph, clip = tiny_onnx(), random_clip()
    openvino.save_model(openvino.Core().read_model(graph), tmp_path / "tiny.xml", compress_to_fp16=False)
    changes: dict[str, Any] = {"kind": "openvino-ir", "weights": (tmp_path / "tiny.bin").read_bytes()}
    opened = request((tmp_path / "tiny.xml").read_bytes(), **changes)
    with Session(get_backend("openvino"), opened) as session:
        np.testing.assert_allclose(session.run(clip).logits, reference(graph, clip), atol=1e-4)


def test_all_of_onnxruntimes_errors_are_mapped() -> None:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    native = [value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(native) > 10
    assert set(native) <= set(get_backend("onnxruntime").errors())


def test_onnxruntimes_tensorrt_cache_is_keyed_by_the_graph(tmp_path: Path) -> None:
    """The provider's key ignores weights: two models of the same structure got each other's engine."""
    from edgeact.runtime.backends.onnxruntime import _tensorrt_options

    paths = {
        _tensorrt_options(request(tiny_onnx(seed), cache_folder=tmp_path))["trt_engine_cache_path"] for seed in (0, 1)
    }
    assert len(paths) == 2


def test_the_fake_backend_is_a_backend() -> None:
    backend = FakeBackend(logits=np.array([0, 1, 0, 0], np.float32))
    with Session(backend, request()) as session:
        assert session.run(random_clip()).logits.argmax() == 1
    assert len(backend.opened) == backend.closed == 1
