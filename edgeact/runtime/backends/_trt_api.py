"""The parts of the Python APIs of TensorRT and TensorRT for RTX that edgeact uses, as typed protocols.

Members that some releases lack are looked up by name and are not stated here, e.g. `Layer.metadata`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, SupportsInt, TypeAlias

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = [
    "Builder",
    "BuilderConfig",
    "Engine",
    "Enumeration",
    "ExecutionContext",
    "KernelCache",
    "Layer",
    "Logger",
    "Network",
    "Parser",
    "ParserError",
    "Runtime",
    "RuntimeConfig",
    "TensorRt",
]


class Enumeration(Protocol):
    """An enumeration class, e.g. `BuilderFlag`."""

    @property
    def __members__(self) -> Mapping[str, SupportsInt]: ...


class DataType(Protocol):
    """An element type, e.g. `float32`."""

    @property
    def name(self) -> str: ...


class Tensor(Protocol):
    """An `ITensor`."""

    @property
    def dtype(self) -> DataType: ...


class Layer(Protocol):
    """An `ILayer`."""

    name: str
    precision: DataType

    @property
    def num_outputs(self) -> int: ...

    def get_output(self, index: int) -> Tensor: ...

    def set_output_type(self, index: int, dtype: DataType) -> None: ...


class Network(Protocol):
    """An `INetworkDefinition`."""

    @property
    def num_layers(self) -> int: ...

    @property
    def num_outputs(self) -> int: ...

    def get_layer(self, index: int) -> Layer: ...


class BuilderConfig(Protocol):
    """An `IBuilderConfig`."""

    num_compute_capabilities: int
    progress_monitor: object

    def set_flag(self, flag: SupportsInt) -> None: ...

    def clear_flag(self, flag: SupportsInt) -> None: ...

    def set_memory_pool_limit(self, pool: SupportsInt, pool_size: int) -> None: ...

    def set_compute_capability(self, capability: SupportsInt, index: int) -> None: ...


class Builder(Protocol):
    """A `Builder`."""

    def create_network(self, flags: int) -> Network: ...

    def create_builder_config(self) -> BuilderConfig: ...

    def build_serialized_network(self, network: Network, config: BuilderConfig) -> Buffer | None: ...


class ParserError(Protocol):
    """An `IParserError`."""

    def node(self) -> int: ...

    def node_name(self) -> str: ...

    def node_operator(self) -> str: ...

    def desc(self) -> str: ...


class Parser(Protocol):
    """An `OnnxParser`."""

    @property
    def num_errors(self) -> int: ...

    def parse(self, model: bytes) -> bool: ...

    def get_error(self, index: int) -> ParserError: ...


class KernelCache(Protocol):
    """An `IRuntimeCache` of TensorRT for RTX: the kernels that it compiled for the GPU."""

    def serialize(self) -> Buffer: ...

    def deserialize(self, cache: bytes) -> bool: ...


class RuntimeConfig(Protocol):
    """An `IRuntimeConfig` of TensorRT for RTX."""

    def create_runtime_cache(self) -> KernelCache: ...

    def set_runtime_cache(self, cache: KernelCache) -> object: ...


class ExecutionContext(Protocol):
    """An `IExecutionContext`."""

    def set_tensor_address(self, name: str, address: int) -> bool: ...

    def execute_async_v3(self, stream_handle: int) -> bool: ...


class Engine(Protocol):
    """An `ICudaEngine`."""

    @property
    def num_io_tensors(self) -> int: ...

    def get_tensor_name(self, index: int) -> str: ...

    def get_tensor_shape(self, name: str) -> Sequence[int]: ...

    def get_tensor_dtype(self, name: str) -> DataType: ...

    def create_runtime_config(self) -> RuntimeConfig: ...

    def create_execution_context(self, config: RuntimeConfig = ..., /) -> ExecutionContext | None: ...


class Runtime(Protocol):
    """A `Runtime`."""

    def deserialize_cuda_engine(self, engine: bytes) -> Engine | None: ...


class Logger(Protocol):
    """An `ILogger`."""


_BuilderObject: TypeAlias = Builder  # `TensorRt` has members named Builder and Runtime
_RuntimeObject: TypeAlias = Runtime


class LoggerClass(Protocol):
    """The class `ILogger`."""

    @property
    def ERROR(self) -> SupportsInt: ...

    @property
    def WARNING(self) -> SupportsInt: ...


class MemoryPools(Protocol):
    """The enumeration `MemoryPoolType`."""

    @property
    def WORKSPACE(self) -> SupportsInt: ...


class TensorRt(Protocol):
    """The module `tensorrt` or `tensorrt_rtx`."""

    @property
    def __name__(self) -> str: ...

    @property
    def __version__(self) -> str: ...

    @property
    def float32(self) -> DataType: ...

    @property
    def BuilderFlag(self) -> Enumeration: ...

    @property
    def ComputeCapability(self) -> Enumeration: ...

    @property
    def NetworkDefinitionCreationFlag(self) -> Enumeration: ...

    @property
    def MemoryPoolType(self) -> MemoryPools: ...

    @property
    def ILogger(self) -> LoggerClass: ...

    def Builder(self, logger: Logger) -> _BuilderObject: ...

    def Runtime(self, logger: Logger) -> _RuntimeObject: ...

    def OnnxParser(self, network: Network, logger: Logger) -> Parser: ...
