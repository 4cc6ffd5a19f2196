"""What TensorRT and TensorRT for RTX have in common; the module `tensorrt` or `tensorrt_rtx` is passed in as `trt`.

Written against the APIs of TensorRT 8.5 to 11 and TensorRT for RTX 1.4 to 1.7: whatever one of them lacks is looked
up by name, never assumed from a version number.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgeact.errors import BackendUnavailableError, ConversionError, DeviceError, ModelError
from edgeact.runtime.backends._cuda import Cuda, Gpu
from edgeact.runtime.backends.base import Array, OpenRequest

__all__ = ["BuildOptions", "Journal", "OpenedEngine", "TrtSession", "build_engine", "create", "deserialize", "pick_gpu"]

log = logging.getLogger("edgeact.runtime")


@dataclass(frozen=True)
class BuildOptions:
    """How to build an engine."""

    strongly_typed: bool
    """The graph alone decides the precisions; else `builder_flags` allow lower ones."""
    builder_flags: tuple[str, ...] = ()
    """Names out of `BuilderFlag`, e.g. ('FP16', 'INT8')."""
    fp32_layers: tuple[str, ...] = ()
    """ONNX nodes that `builder_flags` must not lower; for weakly typed networks."""
    allow_tf32: bool = True
    workspace_bytes: int | None = None
    """Most memory a layer may use while the engine is built and run; None: all there is."""
    compute_capability: str | None = None
    """TensorRT for RTX: name out of `ComputeCapability`, 'CURRENT' or 'SM89'; None: its default, a portable engine."""


class Journal:
    """Collects TensorRT's messages, so that an error can tell what TensorRT said."""

    def __init__(self, trt: Any) -> None:
        journal = self

        class Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                journal.add(int(severity), message)

        self.errors: list[str] = []
        self.logger = Logger()
        self._error_level = int(trt.ILogger.ERROR)
        self._warning_level = int(trt.ILogger.WARNING)

    def add(self, severity: int, message: str) -> None:
        """Keep errors, log warnings."""
        if severity <= self._error_level:
            self.errors.append(message)
        elif severity <= self._warning_level:
            log.debug("%s", message)

    def told(self) -> str:
        """The last few errors since the last call, in one line."""
        text = "; ".join(" ".join(message.split()) for message in self.errors[-3:])
        self.errors.clear()
        return text or "it gave no reason"


def create(make: Callable[[Any], Any], journal: Journal, what: str) -> Any:
    """Make a Builder or Runtime; without a usable GPU TensorRT's factories return nothing, told as TypeError."""
    try:
        return make(journal.logger)
    except TypeError as error:
        raise BackendUnavailableError(
            f"TensorRT could not make its {what}: {journal.told()}; check the GPU and its driver"
        ) from error


def build_engine(trt: Any, graph: bytes, options: BuildOptions) -> bytes:
    """Parse an ONNX model and serialize the engine TensorRT makes of it.

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
        raise ConversionError(f"{_label(trt)} could not build the engine: {journal.told()}")
    del monitor  # it had to outlive the build
    return bytes(serialized)


@dataclass(frozen=True)
class OpenedEngine:
    """A deserialized engine with what must live as long as it does."""

    engine: Any
    runtime: Any
    journal: Journal


def deserialize(trt: Any, engine: bytes) -> OpenedEngine:
    """Open a serialized engine, which is executable code: ask for trust before.

    Raises DeviceError where TensorRT refuses it.
    """
    journal = Journal(trt)
    runtime = create(trt.Runtime, journal, "runtime")
    opened = runtime.deserialize_cuda_engine(engine)
    if opened is None:
        raise DeviceError(
            f"{_label(trt)} does not open the engine: {journal.told()}; "
            "an engine runs only on the version and kind of GPU it was built for: build it again from the graph"
        )
    return OpenedEngine(opened, runtime, journal)


def pick_gpu(cuda: Cuda, device: str | None) -> Gpu:
    """The GPU called `device`, by default the first; raises BackendUnavailableError."""
    gpus = cuda.gpus()
    for gpu in gpus:
        if device in (None, gpu.name, "CUDA"):
            return gpu
    raise BackendUnavailableError(
        f"device '{device or 'CUDA'}' is not here; found: {', '.join(gpu.name for gpu in gpus) or 'no GPU'}"
    )


class TrtSession:
    """One engine on one GPU, with its own stream, device buffers and page-locked host buffers."""

    notes: tuple[str, ...] = ()

    def __init__(
        self, cuda: Cuda, gpu: Gpu, opened: OpenedEngine, request: OpenRequest, make_context: Callable[[Any], Any]
    ) -> None:
        self.device = f"{gpu.name} SM {gpu.sm}"
        self._cuda = cuda
        self._gpu = gpu
        self._release: list[tuple[str, Any]] = []
        _check_engine(opened.engine, request)
        cuda.call("cudaSetDevice", gpu.index)
        self._context = make_context(opened.engine)
        if self._context is None:
            raise DeviceError("TensorRT could not make an execution context; the GPU may be out of memory")
        self._opened = opened
        try:
            self._stream = self._own("cudaStreamDestroy", cuda.call("cudaStreamCreate"))
            self._host_input, self._device_input = self._bind(request.input_name, request.input_shape)
            self._host_output, self._device_output = self._bind(request.output_name, (1, request.output_size))
        except BaseException:
            self.close()
            raise

    def run(self, clip: Array, /) -> Array:
        cuda, stream = self._cuda, self._stream
        cuda.call("cudaSetDevice", self._gpu.index)  # it belongs to the calling thread
        self._host_input[...] = clip
        cuda.copy_async(self._device_input, self._host_input.ctypes.data, self._host_input.nbytes, stream)
        if not self._context.execute_async_v3(int(stream)):
            raise DeviceError("TensorRT did not start the inference")
        cuda.copy_async(self._host_output.ctypes.data, self._device_output, self._host_output.nbytes, stream)
        cuda.call("cudaStreamSynchronize", stream)
        return self._host_output.copy()

    def close(self) -> None:
        del self._context, self._opened
        while self._release:
            function, handle = self._release.pop()
            self._cuda.call(function, handle)

    def _bind(self, name: str, shape: tuple[int, ...]) -> tuple[Array, Any]:
        pointer, host = self._cuda.pinned(shape)
        self._own("cudaFreeHost", pointer)
        device = self._own("cudaFree", self._cuda.call("cudaMalloc", host.nbytes))
        if not self._context.set_tensor_address(name, int(device)):
            raise DeviceError(f"TensorRT refuses the buffer of '{name}'")
        return host, device

    def _own(self, release: str, handle: Any) -> Any:
        self._release.append((release, handle))
        return handle


def _label(trt: Any) -> str:
    return f"{trt.__name__} {trt.__version__}"


def _network_flags(trt: Any, options: BuildOptions) -> int:
    """8.5 needs EXPLICIT_BATCH, 11 has no such flag; strong typing is a flag from 9 on and the only way in 11."""
    names = trt.NetworkDefinitionCreationFlag.__members__
    wanted = ("EXPLICIT_BATCH", *(("STRONGLY_TYPED",) if options.strongly_typed else ()))
    return sum(1 << int(names[name]) for name in wanted if name in names)


def _keep_in_fp32(trt: Any, network: Any, nodes: tuple[str, ...]) -> None:
    """Constrain every layer the parser made of these ONNX nodes to FP32, with those of its outputs that are float."""
    missing = set(nodes)
    for layer in map(network.get_layer, range(network.num_layers)) if nodes else ():
        # From 8.6 on, all layers of a node tell it; before, the first one has its name, the rest are numbered after it.
        told = (getattr(layer, "metadata", "") or "").removeprefix("[ONNX Layer: ").removesuffix("]")
        node = next((name for name in (told, layer.name) if name in nodes), None)
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


def _configure(trt: Any, config: Any, options: BuildOptions) -> Any:
    """Set flags; returns the progress monitor, which the caller must keep alive during the build."""
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
    config.progress_monitor = monitor = _progress_monitor(trt)
    return monitor


def _progress_monitor(trt: Any) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                log.info("building the engine: %s (%d steps)", phase_name, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            pass

        def step_complete(self, phase_name: str, step: int) -> bool:
            return True

    return Monitor()


def _parser_errors(parser: Any, journal: Journal) -> str:
    lines = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        # node_name and node_operator came with 8.6; before, only the index in the graph was told.
        node = getattr(error, "node_name", lambda: "")() or f"number {error.node()}"
        operator = getattr(error, "node_operator", lambda: "")()
        lines.append(f"node {node}{f' ({operator})' if operator else ''}: {' '.join(error.desc().split())}")
    return "; ".join(lines) or journal.told()


def _check_engine(engine: Any, request: OpenRequest) -> None:
    """An engine is opened as it is: its names, shapes and types must be the manifest's."""
    expected = {request.input_name: request.input_shape, request.output_name: (1, request.output_size)}
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    got = {name: tuple(engine.get_tensor_shape(name)) for name in names}
    if got != expected:
        raise ModelError(f"the engine's tensors: expected {expected}, got {got}")
    for name in names:
        if engine.get_tensor_dtype(name).name != "FLOAT":
            raise ModelError(f"the engine's '{name}': expected float32, got {engine.get_tensor_dtype(name).name}")
