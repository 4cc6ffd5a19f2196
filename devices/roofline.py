"""Roofline estimate of a latency from peak rates: show it as an estimate, and measure on the board.

The share of its peak that a device reaches is known for one case only: 3-D ResNet-18 at 16x112x112 on a Jetson TX2 in
FP32, 17 clips/s (arXiv 1904.02422, table 8), is 21 % of the peak if the paper's 8.3 "GFLOPs" count a
multiply-accumulate twice, 42 % if they count it once. `DENSE` uses the lower value. Depthwise and grouped networks of
the same table reach 0.4 to 4 %: `GROUPED` uses the lowest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgeact.devices.profile import DeviceProfile
from edgeact.errors import UsageError
from edgeact.precision import Precision

__all__ = ["DENSE", "GROUPED", "Estimate", "Utilization", "estimate_latency_ms"]


@dataclass(frozen=True)
class Utilization:
    """The assumed share of each peak that a network reaches, 0 to 1."""

    fp32: float
    fp16: float
    int8: float  # half of fp16: 3-D INT8 is often reported no faster than FP16 (TensorRT issues 1176, 1198, 1409)
    bandwidth: float  # an assumption; no value for a 3-D CNN is published

    def of(self, precision: Precision) -> float:
        """Return the share of the arithmetic peak in a precision."""
        return {"fp32": self.fp32, "fp16": self.fp16, "int8": self.int8}[precision]


DENSE = Utilization(fp32=0.21, fp16=0.21, int8=0.105, bandwidth=0.5)
GROUPED = Utilization(fp32=0.004, fp16=0.004, int8=0.002, bandwidth=0.5)


@dataclass(frozen=True)
class Estimate:
    """An estimated latency of one clip, its bound, and the assumed share of that peak."""

    latency_ms: float
    bound: Literal["compute", "memory"]
    utilization: float


def estimate_latency_ms(
    profile: DeviceProfile,
    macs: int,
    bytes_moved: int,
    precision: Precision,
    utilization: Utilization = DENSE,
) -> Estimate | None:
    """Return the larger of arithmetic time and memory time, at the profile's highest clock.

    `bytes_moved`: weights plus every activation written and read, in the size of the precision. None if the profile
    lacks the peak of that precision or the bandwidth. Raises UsageError for a negative count.
    """
    if macs < 0 or bytes_moved < 0:
        raise UsageError(f"macs and bytes_moved: expected 0 or more, got {macs} and {bytes_moved}")
    peak_tops = {
        "fp32": profile.fp32_tflops,
        "fp16": profile.fp16_tflops_dense,
        "int8": profile.int8_tops_dense,
    }[precision]
    if peak_tops is None or profile.bandwidth_gb_per_s is None:
        return None
    share = utilization.of(precision)
    compute_ms = 2 * macs / (peak_tops * 1e12 * share) * 1e3
    memory_ms = bytes_moved / (profile.bandwidth_gb_per_s * 1e9 * utilization.bandwidth) * 1e3
    if compute_ms >= memory_ms:
        return Estimate(compute_ms, "compute", share)
    return Estimate(memory_ms, "memory", utilization.bandwidth)
