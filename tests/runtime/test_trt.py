"""TensorRT without a GPU: the real TensorRT for RTX parses, builds, serializes and refuses."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeact.errors import BackendUnavailableError, BundleSchemaError, ConversionError, DeviceError, ModelError
from edgeact.runtime import Session, get_backend
from edgeact.runtime.backends._cuda import Cuda, Gpu
from edgeact.runtime.backends._trt import (
    BuildOptions,
    Journal,
    OpenedEngine,
    TrtSession,
    _configure,
    _keep_in_fp32,
    _network_flags,
    build_engine,
    deserialize,
)
from edgeact.runtime.backends.tensorrt import build_options
from tests.messages import names
from tests.runtime.making import CLIP, random_clip, request, tiny_onnx

STRONG = BuildOptions(strongly_typed=True, compute_capability="SM89")


@pytest.fixture(scope="module")
def rtx() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")


@pytest.fixture
def no_gpu() -> None:
    pytest.importorskip("cuda.bindings", reason="cuda-python is not installed")
    try:
        gpus = Cuda().gpus()
    except DeviceError:
        return
    pytest.skip(f"there is a GPU: {gpus}")


def test_a_conv3d_graph_becomes_an_engine(rtx: Any) -> None:
    engine = build_engine(rtx, tiny_onnx(), STRONG)
    assert len(engine) > 10_000
    assert engine != build_engine(rtx, tiny_onnx(seed=1), STRONG)


def test_options_are_taken_by_the_real_api(rtx: Any) -> None:
    options = BuildOptions(True, allow_tf32=False, workspace_bytes=64 << 20, compute_capability="SM120")
    assert build_engine(rtx, tiny_onnx(), options)


def test_a_refused_node_is_named(rtx: Any) -> None:
    with pytest.raises(ConversionError, match=r"tensorrt_rtx 1\.\d.* refuses the graph: .*node spectrum \(DFT\)"):
        build_engine(rtx, tiny_onnx(bad_node=True), STRONG)


@pytest.mark.parametrize("graph", [b"", b"no graph"])
def test_garbage_is_refused(rtx: Any, graph: bytes) -> None:
    with pytest.raises(ConversionError, check=names("refuses the graph")):
        build_engine(rtx, graph, STRONG)


@pytest.mark.parametrize("engine", [b"", b"garbage" * 100])
def test_a_broken_engine_is_a_device_error(rtx: Any, engine: bytes) -> None:
    with pytest.raises(DeviceError, check=names("does not open the engine:", "build it again from the graph")):
        deserialize(rtx, engine)


@pytest.mark.usefixtures("no_gpu")
def test_a_real_engine_needs_a_gpu(rtx: Any) -> None:
    with pytest.raises(DeviceError, check=names("CUDA driver version is insufficient")):
        deserialize(rtx, build_engine(rtx, tiny_onnx(), STRONG))


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_the_backend_says_so(rtx: Any) -> None:
    backend = get_backend("tensorrt-rtx")
    assert "tensorrt-rtx needs an NVIDIA RTX GPU with its driver: CUDA: cudaGetDeviceCount" in str(
        backend.why_unavailable()
    )
    with pytest.raises(DeviceError, check=names("cudaGetDeviceCount failed")):
        Session(backend, request())


def test_tensorrt_is_never_installed_by_pip_on_a_jetson() -> None:
    reason = get_backend("tensorrt").why_unavailable()
    if reason is None:
        pytest.skip("TensorRT is here")
    assert "python3-libnvinfer" in reason
    assert "--system-site-packages" in reason
    assert "pip install" not in reason


def _names(*names: str) -> Any:
    return SimpleNamespace(__members__={name: index for index, name in enumerate(names)})


RELEASES = {
    "8.5": SimpleNamespace(
        __version__="8.5.2.2",
        BuilderFlag=_names("FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"),
        NetworkDefinitionCreationFlag=_names("EXPLICIT_BATCH"),
    ),
    "10.3": SimpleNamespace(
        __version__="10.3.0.30",
        BuilderFlag=_names("FP16", "INT8", "TF32"),
        NetworkDefinitionCreationFlag=_names("EXPLICIT_BATCH", "STRONGLY_TYPED"),
    ),
    "11.0": SimpleNamespace(
        __version__="11.0.0", BuilderFlag=_names("TF32"), NetworkDefinitionCreationFlag=_names("STRONGLY_TYPED")
    ),
}
WEAK, TYPED = b'{"typing": "weak", "workspace_mib": 1024}', b'{"typing": "strong", "workspace_mib": null}'


@pytest.mark.parametrize(
    ("release", "precision", "recipe", "strong", "flags"),
    [
        ("8.5", "int8", None, False, ("FP16", "INT8")),
        ("8.5", "fp16", WEAK, False, ("FP16",)),
        ("8.5", "fp32", WEAK, False, ()),
        ("10.3", "int8", WEAK, False, ("FP16", "INT8")),
        ("10.3", "fp16", TYPED, True, ()),
        ("11.0", "fp16", TYPED, True, ()),
        ("11.0", "int8", None, True, ()),
        ("11.0", "fp32", WEAK, False, ()),
    ],
)
def test_every_release_gets_what_it_knows(
    release: str, precision: str, recipe: bytes | None, strong: bool, flags: tuple[str, ...]
) -> None:
    options = build_options(RELEASES[release], request(precision=precision, recipe=recipe))
    assert (options.strongly_typed, options.builder_flags) == (strong, flags)
    assert options.workspace_bytes == (1 << 30 if recipe is WEAK else None)


@pytest.mark.parametrize(("release", "recipe"), [("8.5", TYPED), ("11.0", WEAK)])
def test_a_recipe_for_another_release_is_refused(release: str, recipe: bytes) -> None:
    with pytest.raises(BackendUnavailableError, check=names("typing, which", "does not have")):
        build_options(RELEASES[release], request(precision="fp16", recipe=recipe))


@pytest.mark.parametrize(
    "recipe",
    [
        b"",
        b"[]",
        b"{}",
        b'{"typing": "loose"}',
        b'{"typing": "weak", "workspace_mib": "x"}',
        b'{"typing": "weak", "fp32_layers": "conv1"}',
        b'{"typing": "weak", "fp32_layers": [1]}',
        b'{"typing": "strong", "fp32_layers": ["conv1"]}',
    ],
)
def test_broken_recipes(recipe: bytes) -> None:
    with pytest.raises(BundleSchemaError, check=names("'typing' is 'weak' or 'strong'")):
        build_options(RELEASES["10.3"], request(recipe=recipe))


HELD = b'{"typing": "weak", "fp32_layers": ["conv1", "fc"]}'


@pytest.mark.parametrize(("precision", "flags"), [("fp16", ("FP16",)), ("int8", ("FP16", "INT8"))])
def test_layers_that_must_remain_in_fp32_are_part_of_the_options(precision: str, flags: tuple[str, ...]) -> None:
    options = build_options(RELEASES["8.5"], request(precision=precision, recipe=HELD))
    assert options.fp32_layers == ("conv1", "fc")
    assert options.builder_flags == (*flags, "OBEY_PRECISION_CONSTRAINTS")
    free = build_options(RELEASES["8.5"], request(precision=precision, recipe=b'{"typing": "weak"}'))
    assert repr(free) != repr(options), "engines are kept by it"
    config: Any = StandInConfig()
    _configure(RELEASES["8.5"], config, options)
    assert config.flags == [RELEASES["8.5"].BuilderFlag.__members__[flag] for flag in options.builder_flags]


def test_an_fp32_engine_needs_no_constraints() -> None:
    options = build_options(RELEASES["11.0"], request(precision="fp32", recipe=HELD))
    assert (options.fp32_layers, options.builder_flags) == ((), ())


class StandInConfig:
    def __init__(self) -> None:
        self.flags: list[int] = []

    def set_flag(self, flag: int) -> None:
        self.flags.append(flag)

    def clear_flag(self, flag: int) -> None:
        raise AssertionError(f"{flag} was not to be cleared")


class StandInLayer:
    """A layer of a weakly typed network: remembers what it was constrained to."""

    def __init__(self, name: str, metadata: str | None = None, outputs: tuple[str, ...] = ("FLOAT",)) -> None:
        self.name = name
        if metadata is not None:
            self.metadata = metadata
        self.precision: str | None = None
        self.types: dict[int, str] = {}
        self.num_outputs = len(outputs)
        self._outputs = outputs

    def get_output(self, index: int) -> Any:
        return SimpleNamespace(dtype=self._outputs[index])

    def set_output_type(self, index: int, dtype: str) -> None:
        self.types[index] = dtype


TRT = SimpleNamespace(__name__="tensorrt", __version__="8.5.2", float32="FLOAT")


def _network(*layers: StandInLayer) -> Any:
    return SimpleNamespace(num_layers=len(layers), get_layer=lambda index: layers[index])


def test_the_named_layers_are_constrained_and_no_others() -> None:
    loud, other = StandInLayer("loud", outputs=("FLOAT", "INT32", "FLOAT")), StandInLayer("loud_1")
    _keep_in_fp32(TRT, _network(other, loud), ("loud",))
    assert (loud.precision, loud.types) == ("FLOAT", {0: "FLOAT", 2: "FLOAT"})
    assert (other.precision, other.types) == (None, {})


def test_a_layer_that_is_not_there_is_named() -> None:
    shapes_only = StandInLayer("shapes", outputs=("INT32",))
    with pytest.raises(
        ConversionError, check=names("tensorrt 8.5.2 made no layer of gone, shapes, which", "FP32 artifact")
    ):
        _keep_in_fp32(TRT, _network(shapes_only, StandInLayer("loud")), ("loud", "shapes", "gone"))


def test_every_node_of_a_graph_is_found_among_the_layers_of_the_real_parser(rtx: Any) -> None:
    journal = Journal(rtx)
    network = rtx.Builder(journal.logger).create_network(0)
    assert rtx.OnnxParser(network, journal.logger).parse(tiny_onnx())
    parsed = [network.get_layer(index) for index in range(network.num_layers)]
    layers = [StandInLayer(layer.name, layer.metadata) for layer in parsed]
    nodes = ("conv1", "relu1", "pool", "flatten", "fc")
    _keep_in_fp32(TRT, _network(*layers), nodes)
    held = {layer.metadata for layer in layers if layer.precision == "FLOAT"}
    assert held == {f"[ONNX Layer: {node}]" for node in nodes}
    assert all((layer.precision is None) == (not layer.metadata) for layer in layers)


def test_network_flags_by_release() -> None:
    strong, weak = BuildOptions(True), BuildOptions(False)
    assert _network_flags(RELEASES["8.5"], weak) == 0b1
    assert _network_flags(RELEASES["10.3"], strong) == 0b11
    assert _network_flags(RELEASES["10.3"], weak) == 0b1
    assert _network_flags(RELEASES["11.0"], strong) == 0b1


class StandInCuda:
    """The CUDA runtime's calls on host memory: all allocations must be freed, and copies stay within them."""

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyDefault=4)

    def __init__(self) -> None:
        self.alive: dict[int, Any] = {}
        self.streams = 0

    def cudaSetDevice(self, index: int) -> tuple[int]:
        return (0 if index == 0 else 101,)

    def cudaMalloc(self, size: int) -> tuple[int, int]:
        buffer = ctypes.create_string_buffer(size)
        self.alive[ctypes.addressof(buffer)] = buffer
        return 0, ctypes.addressof(buffer)

    cudaMallocHost = cudaMalloc

    def cudaFree(self, address: int) -> tuple[int]:
        del self.alive[int(address)]
        return (0,)

    cudaFreeHost = cudaFree

    def cudaStreamCreate(self) -> tuple[int, int]:
        self.streams += 1
        return 0, 7

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:
        self.streams -= 1
        return (0,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:
        return (0,)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> tuple[int]:
        ctypes.memmove(target, source, size)
        return (0,)

    def cudaGetErrorString(self, code: int) -> tuple[int, bytes]:
        return 0, b"invalid device ordinal"


class StandInContext:
    """Doubles the first four values, on "device" addresses."""

    def __init__(self, starts: bool = True) -> None:
        self.addresses: dict[str, int] = {}
        self._starts = starts

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == 7
        source, target = ((ctypes.c_float * 4).from_address(self.addresses[name]) for name in ("clip", "logits"))
        target[:] = [2 * value for value in source]
        return self._starts


def _engine(shape: tuple[int, ...] = CLIP.input_shape, dtype: str = "FLOAT") -> Any:
    shapes = {"clip": shape, "logits": (1, 4)}
    return SimpleNamespace(
        num_io_tensors=2,
        get_tensor_name=lambda index: list(shapes)[index],
        get_tensor_shape=lambda name: shapes[name],
        get_tensor_dtype=lambda name: SimpleNamespace(name=dtype),
    )


@pytest.fixture
def cuda() -> Cuda:
    pytest.importorskip("cuda.bindings", reason="cuda-python is not installed")
    wrapper = Cuda()
    wrapper._runtime = StandInCuda()  # type: ignore[assignment]
    return wrapper


def _open(cuda: Cuda, engine: Any, context: Any, index: int = 0) -> TrtSession:
    opened = OpenedEngine(engine, None, SimpleNamespace())  # type: ignore[arg-type]
    return TrtSession(cuda, Gpu(index, "8.7", 8), opened, request(), lambda _: context)


def test_clips_go_through_the_devices_memory_and_everything_is_freed(cuda: Cuda) -> None:
    session = _open(cuda, _engine(), StandInContext())
    clips = [random_clip(seed) for seed in range(3)]
    results = [session.run(clip) for clip in clips]
    for clip, result in zip(clips, results, strict=True):
        np.testing.assert_array_equal(result, 2 * clip.reshape(-1)[np.newaxis, :4])
    assert session.device == "CUDA:0 SM 8.7"
    assert len(cuda._runtime.alive) == 4
    session.close()
    assert (len(cuda._runtime.alive), cuda._runtime.streams) == (0, 0)


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (_engine(shape=(1, 3, 8, 16, 16)), ("expected {'clip': (1, 3, 4, 16, 16)", "got {'clip': (1, 3, 8")),
        (_engine(dtype="HALF"), ("'clip': expected float32, got HALF",)),
    ],
)
def test_an_engine_of_another_model_is_refused(cuda: Cuda, engine: Any, message: tuple[str, ...]) -> None:
    with pytest.raises(ModelError, check=names(*message)):
        _open(cuda, engine, StandInContext())


def test_failures_on_the_device_are_device_errors_and_leave_nothing(cuda: Cuda) -> None:
    with pytest.raises(DeviceError, check=names("execution context")):
        _open(cuda, _engine(), None)
    with pytest.raises(DeviceError, check=names("cudaSetDevice failed: invalid device ordinal")):
        _open(cuda, _engine(), StandInContext(), index=1)
    refusing = StandInContext()
    refusing.set_tensor_address = lambda name, address: False  # type: ignore[method-assign]
    with pytest.raises(DeviceError, check=names("refuses the buffer of 'clip'")):
        _open(cuda, _engine(), refusing)
    assert (len(cuda._runtime.alive), cuda._runtime.streams) == (0, 0)
    session = _open(cuda, _engine(), StandInContext(starts=False))
    with pytest.raises(DeviceError, check=names("did not start")):
        session.run(random_clip())
