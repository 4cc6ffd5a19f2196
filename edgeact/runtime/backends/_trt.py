"""Common code of TensorRT and TensorRT for RTX; the module `tensorrt` or `tensorrt_rtx` is passed as `trt`.

Written against the APIs of TensorRT 8.5 to 11 and TensorRT for RTX 1.4 to 1.7: members that some releases lack are
looked up by name, never assumed from a version number.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import SupportsInt, TypeVar

from edgeact.errors import BackendUnavailableError, ConversionError, DeviceError, ModelError
from edgeact.runtime.backends import _trt_api as api
from edgeact.runtime.backends._cuda import Cuda, Gpu
from edgeact.runtime.backends._trt_lifetime import without_collection
from edgeact.runtime.backends.base import Array, OpenRequest

__all__ = ["BuildOptions", "Journal", "OpenedEngine", "TrtSession", "build_engine", "create", "deserialize", "pick_gpu"]

log = logging.getLogger("edgeact.runtime")

Created = TypeVar("Created")


@dataclass(frozen=True)
class BuildOptions:
    """Options of an engine build."""

    strongly_typed: bool
    """The graph alone decides the precisions; else `builder_flags` allow lower ones."""
    builder_flags: tuple[str, ...] = ()
    """Names of `BuilderFlag`, e.g. ('FP16', 'INT8')."""
    fp32_layers: tuple[str, ...] = ()
    """ONNX nodes that `builder_flags` must not lower; for weakly typed networks."""
    allow_tf32: bool = True
    workspace_bytes: int | None = None
    """Maximum memory of one layer during build and run; None: no limit."""
    compute_capability: str | None = None
    """TensorRT for RTX: name of `ComputeCapability`, 'CURRENT' or 'SM89'; None: its default, a portable engine."""


class Journal:
    """Collects TensorRT's messages, so that an error can quote them."""

    def __init__(self, trt: api.TensorRt) -> None:
        self.errors: list[str] = []
        self.logger = _make_logger(trt, self)
        self._error_level = int(trt.ILogger.ERROR)
        self._warning_level = int(trt.ILogger.WARNING)

    def add(self, severity: int, message: str) -> None:
        """Keep errors, log warnings."""
        if severity <= self._error_level:
            self.errors.append(message)
        elif severity <= self._warning_level:
            log.debug("%s", message)

    def take_errors(self) -> str:
        """Return the last few errors since the last call, in one line."""
        text = "; ".join(" ".join(message.split()) for message in self.errors[-3:])
        self.errors.clear()
        return text or "TensorRT gave no reason"


def _make_logger(trt: api.TensorRt, journal: Journal) -> api.Logger:
    class Logger(trt.ILogger):  # type: ignore[name-defined,misc]  # the base class is known at run time only
        def __init__(self) -> None:
            super().__init__()

        def log(self, severity: SupportsInt, message: str) -> None:
            journal.add(int(severity), message)

    logger: api.Logger = Logger()
    return logger


def create(make: Callable[[api.Logger], Created], journal: Journal, what: str) -> Created:
    """Make a Builder or Runtime. Without a usable GPU TensorRT's factories return null, which becomes a TypeError."""
    try:
        return make(journal.logger)
    except TypeError as error:
        raise BackendUnavailableError(
            f"TensorRT could not make its {what}: {journal.take_errors()}; check the GPU and its driver"
        ) from error


@without_collection
def build_engine(trt: api.TensorRt, graph: bytes, options: BuildOptions) -> bytes:
    """Parse an ONNX model and return the serialized engine.

    Raises ConversionError naming the node that was refused or not found, BackendUnavailableError without a usable GPU.
    """
    journal = Journal(trt)
    builder = create(trt.Builder, journal, "builder")
    network = builder.create_network(_network_flags(trt, options))
    parser = trt.OnnxParser(network, journal.logger)
    if not parser.parse(graph) or network.num_outputs == 0:
        raise ConversionError(f"{_label(trt)} refuses the graph: {_parser_errors(parser, journal)}")
    _keep_in_fp32(trt, network, options.fp32_layers)
    config = builder.create_builder_config()
    monitor = _configure(trt, config, options)
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise ConversionError(f"{_label(trt)} could not build the engine: {journal.take_errors()}")
    del monitor  # it had to outlive the build
    return bytes(serialized)


@dataclass(frozen=True)
class OpenedEngine:
    """A deserialized engine, with the objects that must live as long."""

    engine: api.Engine
    runtime: api.Runtime
    journal: Journal


@without_collection
def deserialize(trt: api.TensorRt, engine: bytes) -> OpenedEngine:
    """Open a serialized engine, which is executable code: the caller must have checked that it is trusted.

    Raises DeviceError if TensorRT refuses the engine.
    """
    journal = Journal(trt)
    runtime = create(trt.Runtime, journal, "runtime")
    opened = runtime.deserialize_cuda_engine(engine)
    if opened is None:
        raise DeviceError(
            f"{_label(trt)} does not open the engine: {journal.take_errors()}; "
            "an engine runs only on the version and kind of GPU it was built for: build it again from the graph"
        )
    return OpenedEngine(opened, runtime, journal)


def pick_gpu(cuda: Cuda, device: str | None) -> Gpu:
    """Return the GPU named `device`, by default the first; raises BackendUnavailableError."""
    gpus = cuda.gpus()
    for gpu in gpus:
        if device in (None, gpu.name, "CUDA"):
            return gpu
    available = ", ".join(gpu.name for gpu in gpus) or "no GPU"
    raise BackendUnavailableError(f"device '{device or 'CUDA'}' does not exist; this machine has {available}")


class TrtSession:
    """One engine on one GPU, with a stream, device buffers and page-locked host buffers of its own."""

    notes: tuple[str, ...] = ()

    def __init__(
        self,
        cuda: Cuda,
        gpu: Gpu,
        opened: OpenedEngine,
        request: OpenRequest,
        make_context: Callable[[api.Engine], api.ExecutionContext | None],
    ) -> None:
        self.device = f"{gpu.name} SM {gpu.sm}"
        self._cuda = cuda
        self._gpu = gpu
        self._to_release: list[tuple[str, SupportsInt]] = []
        _check_engine(opened.engine, request)
        cuda.call("cudaSetDevice", gpu.index)
        context = make_context(opened.engine)
        if context is None:
            raise DeviceError("TensorRT could not make an execution context; the GPU may be out of memory")
        self._context = context
        self._opened = opened
        try:
            self._stream = self._acquire("cudaStreamDestroy", cuda.query("cudaStreamCreate"))
            self._host_input, self._device_input = self._bind(request.input_name, request.input_shape)
            self._host_output, self._device_output = self._bind(request.output_name, (1, request.output_size))
        except BaseException:
            self.close()
            raise

    def run(self, clip: Array, /) -> Array:
        cuda, stream = self._cuda, self._stream
        cuda.call("cudaSetDevice", self._gpu.index)  # a setting of the calling thread
        self._host_input[...] = clip
        cuda.copy_async(self._device_input, self._host_input.ctypes.data, self._host_input.nbytes, stream)
        if not self._context.execute_async_v3(int(stream)):
            raise DeviceError("TensorRT did not start the inference")
        cuda.copy_async(self._host_output.ctypes.data, self._device_output, self._host_output.nbytes, stream)
        cuda.call("cudaStreamSynchronize", stream)
        return self._host_output.copy()

    def close(self) -> None:
        del self._context, self._opened
        while self._to_release:
            function, handle = self._to_release.pop()
            self._cuda.call(function, handle)

    def _bind(self, name: str, shape: tuple[int, ...]) -> tuple[Array, SupportsInt]:
        """Allocate host and device memory of one tensor."""
        address, host = self._cuda.pinned(shape)
        self._acquire("cudaFreeHost", address)
        device = self._acquire("cudaFree", self._cuda.query("cudaMalloc", host.nbytes))
        if not self._context.set_tensor_address(name, int(device)):
            raise DeviceError(f"TensorRT refuses the buffer of '{name}'")
        return host, device

    def _acquire(self, release: str, handle: SupportsInt) -> SupportsInt:
        """Let `close` release `handle` with the CUDA function `release`."""
        self._to_release.append((release, handle))
        return handle


def _label(trt: api.TensorRt) -> str:
    return f"{trt.__name__} {trt.__version__}"


def _network_flags(trt: api.TensorRt, options: BuildOptions) -> int:
    """Return creation flags: EXPLICIT_BATCH (required by 8.5, unknown to 11), STRONGLY_TYPED (from 9 on)."""
    names = trt.NetworkDefinitionCreationFlag.__members__
    wanted = ("EXPLICIT_BATCH", *(("STRONGLY_TYPED",) if options.strongly_typed else ()))
    return sum(1 << int(names[name]) for name in wanted if name in names)


def _keep_in_fp32(trt: api.TensorRt, network: api.Network, nodes: tuple[str, ...]) -> None:
    """Constrain every layer that the parser made of these ONNX nodes to FP32, with its float outputs."""
    missing = set(nodes)
    for layer in map(network.get_layer, range(network.num_layers)) if nodes else ():
        # From 8.6 on every layer of a node has its name as metadata; before, only the first layer has the node's name.
        metadata = (getattr(layer, "metadata", "") or "").removeprefix("[ONNX Layer: ").removesuffix("]")
        node = next((name for name in (metadata, layer.name) if name in nodes), None)
        floats = [index for index in range(layer.num_outputs) if layer.get_output(index).dtype == trt.float32]
        if node is None or not floats:
            continue
        missing.discard(node)
        layer.precision = trt.float32
        for index in floats:
            layer.set_output_type(index, trt.float32)
    if missing:
        raise ConversionError(
            f"{_label(trt)} made no layer of {', '.join(sorted(missing))}, which the recipe keeps in FP32 because FP16 "
            "could overflow there; use the bundle's FP32 artifact, or export again"
        )


def _configure(trt: api.TensorRt, config: api.BuilderConfig, options: BuildOptions) -> object:
    """Apply the options and return the progress monitor, which the caller must keep alive during the build."""
    flags = trt.BuilderFlag.__members__
    for name in options.builder_flags:
        config.set_flag(flags[name])
    if not options.allow_tf32 and "TF32" in flags:
        config.clear_flag(flags["TF32"])
    if options.compute_capability is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.__members__[options.compute_capability], 0)
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if not hasattr(trt, "IProgressMonitor"):
        return None
    config.progress_monitor = monitor = _make_progress_monitor(trt.IProgressMonitor)
    return monitor


def _make_progress_monitor(base: type) -> object:
    class Monitor(base):  # type: ignore[misc]  # the base class is known at run time only
        def __init__(self) -> None:
            super().__init__()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                log.info("building the engine: %s (%d steps)", phase_name, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            pass

        def step_complete(self, phase_name: str, step: int) -> bool:
            return True

    return Monitor()


def _parser_errors(parser: api.Parser, journal: Journal) -> str:
    lines = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        # node_name and node_operator exist from 8.6 on; before, an error has only the node's index in the graph.
        node = getattr(error, "node_name", lambda: "")() or f"number {error.node()}"
        operator = getattr(error, "node_operator", lambda: "")()
        lines.append(f"node {node}{f' ({operator})' if operator else ''}: {' '.join(error.desc().split())}")
    return "; ".join(lines) or journal.take_errors()


def _check_engine(engine: api.Engine, request: OpenRequest) -> None:
    """Raise ModelError unless names, shapes and dtypes of the engine's tensors are the manifest's."""
    expected = {request.input_name: request.input_shape, request.output_name: (1, request.output_size)}
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    got = {name: tuple(engine.get_tensor_shape(name)) for name in names}
    if got != expected:
        raise ModelError(f"the engine's tensors: expected {expected}, got {got}")
    for name in names:
        if (dtype := engine.get_tensor_dtype(name).name) != "FLOAT":
            raise ModelError(f"the engine's '{name}': expected float32, got {dtype}")
