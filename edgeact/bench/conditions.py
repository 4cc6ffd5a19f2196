"""What the machine was doing around a measurement: clocks, heat and throttling, read from Linux's sysfs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edgeact.records import Sensors

__all__ = ["notable_changes", "read_sensors"]

_GPU_DRIVERS = ("gpu", "gp10b", "gv11b", "ga10b", "gb10b")  # ends of the devfreq names of Jetson GPUs


def read_sensors(sysfs: Path = Path("/sys")) -> Sensors:
    """The sensors as they stand now; a virtual machine often has none of them."""
    cpu = sysfs / "devices/system/cpu"
    clocks_khz = _numbers(cpu.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    gpus = (path for path in sysfs.glob("class/devfreq/*/cur_freq") if path.parent.name.endswith(_GPU_DRIVERS))
    gpu_hz = _numbers(gpus)
    millidegrees = [value for value in _numbers(sysfs.glob("class/thermal/thermal_zone*/temp")) if value > 0]
    throttles = _numbers(cpu.glob("cpu[0-9]*/thermal_throttle/*_throttle_count"))
    return Sensors(
        cpu_clock_mhz=max(clocks_khz) / 1e3 if clocks_khz else None,
        gpu_clock_mhz=max(gpu_hz) / 1e6 if gpu_hz else None,
        temperature_c=max(millidegrees) / 1e3 if millidegrees else None,
        throttle_events=sum(throttles) if throttles else None,
    )


def notable_changes(before: Sensors, after: Sensors, *, tolerance: float = 0.02) -> tuple[str, ...]:
    """One sentence for each clock that moved by more than `tolerance` (a fraction), and one for throttling."""
    notes = []
    for name in ("cpu", "gpu"):
        was, now = (getattr(side, f"{name}_clock_mhz") for side in (before, after))
        if was and now and abs(now / was - 1) > tolerance:
            notes.append(f"the {name.upper()} clock moved from {was:.0f} to {now:.0f} MHz during the measurement")
    events = (after.throttle_events or 0) - (before.throttle_events or 0)
    if events > 0:
        notes.append(f"the processor throttled {events} times during the measurement")
    return tuple(notes)


def _numbers(paths: Iterable[Path]) -> list[int]:
    """The whole numbers in those of `paths` that can be read now; a sensor may vanish or refuse."""
    values = []
    for path in paths:
        try:
            values.append(int(path.read_text()))
        except (OSError, ValueError):
            continue
    return values
