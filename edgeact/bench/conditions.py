"""Read the conditions of a measurement: clocks, temperature and throttling."""

from __future__ import annotations

from pathlib import Path

from edgeact.devices import read_sensors
from edgeact.records import Sensors

__all__ = ["notable_changes", "take_sensors"]


def take_sensors(root: Path = Path("/")) -> Sensors:
    """Read the sensors of this machine; a virtual machine often has none. `root` is the root of the file system."""
    reading = read_sensors(root)
    return Sensors(
        cpu_clock_mhz=reading.cpu_mhz,
        gpu_clock_mhz=reading.gpu_mhz,
        temperature_c=max(reading.temperatures_c.values(), default=None),
        power_w=reading.power_w,
        is_throttling=reading.throttling,
        throttle_events=reading.throttle_events,
    )


def notable_changes(before: Sensors, after: Sensors, *, tolerance: float = 0.02) -> tuple[str, ...]:
    """Return a sentence for each clock that changed by more than `tolerance` (a fraction), and one for throttling."""
    notes = []
    for name in ("cpu", "gpu"):
        was, now = (getattr(side, f"{name}_clock_mhz") for side in (before, after))
        if was and now and abs(now / was - 1) > tolerance:
            notes.append(f"the {name.upper()} clock changed from {was:.0f} to {now:.0f} MHz during the measurement")
    events = (after.throttle_events or 0) - (before.throttle_events or 0)
    if events > 0 or before.is_throttling or after.is_throttling:
        notes.append("the machine throttled during the measurement")
    return tuple(notes)
