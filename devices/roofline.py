"""A first guess of a latency from peak rates. It is an estimate: show it as one, and measure on the board.

How much of its peak a device reaches is known for one case only: 3-D ResNet-18 at 16x112x112 on a Jetson TX2 in
FP32, 17 clips/s (arXiv 1904.02422, table 8), is 21 % of the peak where the paper's 8.3 "GFLOPs" count a
multiply-accumulate twice, 42 % where they count it once. `DENSE` takes the lower figure. Depthwise and grouped
networks of the same table reach 0.4 to 4 %: `GROUPED` takes the lowest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgeact.devices.profile import DeviceProfile
from edgeact.errors import UsageError
from edgeact.records import Precision

__all__ = ["DENSE", "GROUPED", "Estimate", "Utilisation", "estimate_latency_ms"]


@dataclass(frozen=True)
class Utilisation:
    """The share of each peak that a network is taken to reach, 0 to 1."""

    fp32: float
    fp16: float
    int8: float  # half of fp16: reports of 3-D INT8 no faster than FP16 abound (TensorRT issues 1176, 1198, 1409)
    bandwidth: float  # an assumption; no 3-D CNN figure was found

    def of(self, precision: Precision) -> float:
        """The share of the arithmetic peak in that precision."""
        return {"fp32": self.fp32, "fp16": self.fp16, "int8": self.int8}[precision]


DENSE = Utilisation(fp32=0.21, fp16=0.21, int8=0.105, bandwidth=0.5)
GROUPED = Utilisation(fp32=0.004, fp16=0.004, int8=0.002, bandwidth=0.5)


@dataclass(frozen=True)
class Estimate:
    """An estimated latency of one clip, what bounds it, and the share of that peak it assumes."""

    latency_ms: float
    bound: Literal["compute", "memory"]
    utilisation: float


def estimate_latency_ms(
    profile: DeviceProfile,
    macs: int,
    bytes_moved: int,
    precision: Precision,
    utilisation: Utilisation = DENSE,
) -> Estimate | None:
    """The larger of the arithmetic's and the memory's time, at the profile's highest clock; never measured.

    `bytes_moved`: weights plus every activation written and read, in the precision's own size. None where the profile
    lacks the peak of that precision or the bandwidth. UsageError where a count is negative.
    """
    if macs < 0 or bytes_moved < 0:
        raise UsageError(f"macs and bytes_moved must be 0 or more, got {macs} and {bytes_moved}")
    peak_tops = {
        "fp32": profile.fp32_tflops,
        "fp16": profile.fp16_tflops_dense,
        "int8": profile.int8_tops_dense,
    }[precision]
    if peak_tops is None or profile.bandwidth_gb_per_s is None:
        return None
    share = utilisation.of(precision)
    compute_ms = 2 * macs / (peak_tops * 1e12 * share) * 1e3
    memory_ms = bytes_moved / (profile.bandwidth_gb_per_s * 1e9 * utilisation.bandwidth) * 1e3
    if compute_ms >= memory_ms:
        return Estimate(compute_ms, "compute", share)
    return Estimate(memory_ms, "memory", utilisation.bandwidth)
