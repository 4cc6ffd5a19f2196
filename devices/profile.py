"""Schema of a board profile: the capabilities that decide how a model is exported, run and estimated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgeact.schema import StrictModel

__all__ = ["DeviceProfile", "PowerMode", "Provenance", "TensorRtDialect"]

Count = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
BackendName = Literal["tensorrt", "tensorrt-rtx", "native", "openvino", "onnxruntime"]

_WITHOUT_PROVENANCE = frozenset({"id", "title", "family"})  # names that edgeact chooses


class Provenance(StrictModel):
    """Origin of a value: stated by `source` ('seen'), or derived as `source` describes ('inferred')."""

    mark: Literal["seen", "inferred"]
    source: str = Field(min_length=8)


class PowerMode(StrictModel):
    """One power mode of a board; unpublished values are None."""

    name: str
    watts: Rate | None = None
    gpu_mhz: Rate | None = None
    emc_mhz: Rate | None = None


class TensorRtDialect(StrictModel):
    """One TensorRT release that a board can have, and the ONNX graphs that it accepts."""

    name: str = Field(description="'jetpack-6.2', 'tensorrt-11.4'")
    product: Literal["tensorrt", "tensorrt-rtx"]
    version: str = Field(description="'10.3.0'")
    jetpack: str | None = Field(default=None, description="first JetPack with this release; None if not for Jetson")
    l4t: Mapping[str, str] = Field(default_factory=dict, description="L4T release -> JetPack release")
    cuda: str | None = None
    python: str | None = Field(default=None, description="the system Python, which the bindings are built for")
    max_opset: Count | None = Field(default=None, description="newest ONNX opset of the parser; None: not published")
    opset: Count = Field(description="ONNX opset of the export")
    typing: Literal["weak", "strong", "either"] = Field(
        description="weak: precision by builder flags; strong: precision in the graph"
    )
    qdq: bool = Field(description="graphs with Q/DQ pairs build: the release accepts them and the GPU has INT8")

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor number of the version."""
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)


class DeviceProfile(StrictModel):
    """One board, GPU or CPU family; unknown values are None, and every stated value has a provenance.

    Peak rates are dense (no sparsity), GPU only (no DLA), at `gpu_mhz_max`; a multiply-accumulate counts as two
    operations. Keys of `provenance` are field paths, e.g. `bandwidth_gb_per_s`, `modes.25W.watts`,
    `tensorrt.jetpack-6.2.version`.
    """

    id: str
    title: str
    family: Literal["jetson", "desktop", "cpu"]
    architecture: Literal["x86_64", "aarch64"]
    soc: str | None = Field(default=None, description="name in the device tree, 'tegra234'")
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
    fp16_tflops_dense: Rate | None = Field(default=None, description="with FP32 accumulation if the rates differ")
    int8_tops_dense: Rate | None = None
    supports_int8: bool
    dla: bool = Field(
        default=False, description="has a DLA; it supports 2-D convolution only, so 3-D CNNs do not use it"
    )
    channel_multiple_int8: Count | None = Field(
        default=None, description="multiple of channels that fills INT8 kernels"
    )
    channel_multiple_fp16: Count | None = Field(
        default=None, description="multiple of channels that fills FP16 kernels"
    )
    tensorrt: tuple[TensorRtDialect, ...] = Field(default=(), description="newest first")
    backends: tuple[BackendName, ...] = Field(min_length=1, description="in order of preference")
    notes: Mapping[str, str] = Field(default_factory=dict, description="topic -> pitfall of deployments")
    provenance: Mapping[str, Provenance]

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

    def values(self) -> Iterator[tuple[str, object]]:
        """Yield `(field path, value)` of every stated value; each path is a key of `provenance`."""
        fields = self.model_dump(exclude_unset=True, exclude={"provenance", *_WITHOUT_PROVENANCE})
        for name in ("modes", "tensorrt"):
            fields[name] = {part.pop("name"): part for part in fields.get(name, ())}
        for path, value in leaves(fields):
            yield ".".join(path), value


def leaves(tree: Mapping[str, object], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield `(path, value)` of every value in nested mappings that is not a mapping."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*prefix, key))
        else:
            yield (*prefix, key), value
