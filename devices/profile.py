"""What a board profile holds: the capabilities that decide how a model is exported, run and estimated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["DeviceProfile", "PowerMode", "Provenance", "TensorRtDialect"]

Count = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
BackendName = Literal["tensorrt", "tensorrt-rtx", "native", "openvino", "onnxruntime"]

_NAMED_BY_US = frozenset({"id", "title", "family"})


class _Part(BaseModel):
    """Common behaviour: immutable, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class Provenance(_Part):
    """Where a value comes from: stated by `source` ('seen'), or derived as `source` tells ('inferred')."""

    mark: Literal["seen", "inferred"]
    source: str = Field(min_length=8)


class PowerMode(_Part):
    """One power mode of a board; figures nobody published are None."""

    name: str
    watts: Rate | None = None
    gpu_mhz: Rate | None = None
    emc_mhz: Rate | None = None


class TensorRtDialect(_Part):
    """One TensorRT release a board can have, and the ONNX graphs it takes."""

    name: str = Field(description="'jetpack-6.2', 'tensorrt-11.4'")
    product: Literal["tensorrt", "tensorrt-rtx"]
    version: str = Field(description="'10.3.0'")
    jetpack: str | None = Field(default=None, description="first JetPack that brings it; None off Jetson")
    l4t: dict[str, str] = Field(default_factory=dict, description="L4T release -> JetPack release")
    cuda: str | None = None
    python: str | None = Field(default=None, description="the system Python, which its bindings are built for")
    max_opset: Count | None = Field(default=None, description="newest ONNX opset it parses; None: not published")
    opset: Count = Field(description="opset to export with")
    typing: Literal["weak", "strong", "either"] = Field(
        description="weak: precision by builder flags; strong: precision is in the graph"
    )
    qdq: bool = Field(description="a graph with Q/DQ pairs builds: the release takes them and the GPU has INT8")


class DeviceProfile(_Part):
    """One board, GPU or CPU family; what is not known is None, and every stated value has a provenance.

    Peak rates are dense (no sparsity), GPU only (no DLA), at `gpu_mhz_max`; operations count a multiply-accumulate
    as two. `provenance` is keyed by field path, e.g. `bandwidth_gb_per_s`, `modes.25W.watts`,
    `tensorrt.jetpack-6.2.version`.
    """

    id: str
    title: str
    family: Literal["jetson", "desktop", "cpu"]
    architecture: Literal["x86_64", "aarch64"]
    soc: str | None = Field(default=None, description="as the device tree names it, 'tegra234'")
    sm: Annotated[str, Field(pattern=r"^\d+\.\d$")] | None = Field(default=None, description="CUDA compute capability")
    part_numbers: tuple[str, ...] = Field(default=(), description="module part numbers, or prefixes of them")
    gpu_names: tuple[str, ...] = Field(default=(), description="exactly as nvidia-smi prints them")
    cuda_cores: Count | None = None
    tensor_cores: Annotated[int, Field(ge=0)] | None = None
    gpu_mhz_max: Rate | None = None
    modes: tuple[PowerMode, ...] = ()
    memory_bytes: Count | None = None
    memory_shared: bool = Field(description="CPU and GPU share one memory")
    bandwidth_gb_per_s: Rate | None = None
    fp32_tflops: Rate | None = None
    fp16_tflops_dense: Rate | None = Field(default=None, description="with FP32 accumulation where the rates differ")
    int8_tops_dense: Rate | None = None
    supports_int8: bool
    dla: bool = Field(default=False, description="has a DLA; it takes 2-D convolution only, so 3-D CNNs do not use it")
    channel_multiple_int8: Count | None = Field(default=None, description="channel counts that fill INT8 kernels")
    channel_multiple_fp16: Count | None = Field(default=None, description="channel counts that fill FP16 kernels")
    tensorrt: tuple[TensorRtDialect, ...] = Field(default=(), description="newest first")
    backends: tuple[BackendName, ...] = Field(min_length=1, description="in order of preference")
    notes: dict[str, str] = Field(default_factory=dict, description="topic -> a trap to know before deploying")
    provenance: dict[str, Provenance]

    @model_validator(mode="after")
    def _check(self) -> DeviceProfile:
        stated = {path for path, _ in self.values()}
        if bare := stated - set(self.provenance):
            raise ValueError(f"profile '{self.id}': no provenance for {', '.join(sorted(bare))}")
        if stray := set(self.provenance) - stated:
            raise ValueError(f"profile '{self.id}': provenance without a value for {', '.join(sorted(stray))}")
        if self.int8_tops_dense is not None and not self.supports_int8:
            raise ValueError(f"profile '{self.id}': states int8_tops_dense, but supports_int8 is false")
        return self

    def values(self) -> Iterator[tuple[str, Any]]:
        """`(field path, value)` of every stated value; each path has its entry in `provenance`."""
        fields = self.model_dump(exclude_unset=True, exclude={"provenance", *_NAMED_BY_US})
        for name in ("modes", "tensorrt"):
            fields[name] = {part.pop("name"): part for part in fields.get(name, ())}
        for path, value in leaves(fields):
            yield ".".join(path), value


def leaves(tree: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """`(path, value)` of everything in nested mappings that is not itself a mapping."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*prefix, key))
        else:
            yield (*prefix, key), value
