"""Clocks, power and temperatures from /sys, read only; only the EMC clock requires root."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeact.devices.host import read_int, read_text

__all__ = ["SensorReading", "read_sensors"]

_GPU_NODES = frozenset({"gpu", "gp10b", "gv11b", "ga10b", "gb10b"})
_TOTAL_RAILS = ("VDD_IN", "POM_5V_IN", "VIN")
_AGX_RAILS = ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
_INA3221_SUM_CHANNEL = 7
_COOLING_DEVICES = ("throttle", "processor")


@dataclass(frozen=True)
class SensorReading:
    """One reading of all sensors; None or an empty mapping if a sensor does not exist or is not readable."""

    gpu_mhz: float | None = None
    emc_mhz: float | None = None
    cpu_mhz: float | None = None  # of the fastest core
    power_w: float | None = None  # of the whole board
    rails_w: Mapping[str, float] = field(default_factory=dict)
    temperatures_c: Mapping[str, float] = field(default_factory=dict)
    throttling: bool | None = None  # a thermal governor reduces a clock at present
    throttle_events: int | None = None  # counted by an x86 processor over all cores since boot


def read_sensors(root: Path = Path("/")) -> SensorReading:
    """Read every sensor below `root`, the root of the file system or of a recorded copy."""
    rails = dict(_ina3221_hwmon(root)) or dict(_ina3221_iio(root))
    return SensorReading(
        gpu_mhz=_gpu_mhz(root),
        emc_mhz=_scaled(root / "sys/kernel/debug/bpmp/debug/clk/emc/rate", 1e-6),
        cpu_mhz=_cpu_mhz(root),
        power_w=_board_power_w(rails),
        rails_w=rails,
        temperatures_c=_temperatures_c(root),
        throttling=_throttling(root),
        throttle_events=_throttle_events(root),
    )


def _scaled(path: Path, factor: float) -> float | None:
    value = read_int(path)
    return None if value is None else value * factor


def _gpu_mhz(root: Path) -> float | None:
    for folder in sorted((root / "sys/class/devfreq").glob("*")):
        node = read_text(folder / "device/of_node/name") or folder.name.rpartition(".")[2]
        if node in _GPU_NODES or folder.name.startswith("gpu-gpc"):
            return _scaled(folder / "cur_freq", 1e-6)
    return None


def _cpu_mhz(root: Path) -> float | None:
    clocks = (read_int(path) for path in (root / "sys/devices/system/cpu").glob("cpu*/cpufreq/scaling_cur_freq"))
    return max((clock / 1000 for clock in clocks if clock is not None), default=None)


def _ina3221_hwmon(root: Path) -> Iterator[tuple[str, float]]:
    """Yield the power rails of JetPack 5 and later: millivolts and milliamperes by channel."""
    for chip in sorted((root / "sys/bus/i2c/devices").glob("*/hwmon/hwmon*")):
        if "ina3221" not in (read_text(chip.parents[1] / "name") or ""):
            continue
        for path in sorted(chip.glob("in*_label")):
            channel = path.name[len("in") : -len("_label")]
            label = read_text(path)
            volts, amperes = _scaled(chip / f"in{channel}_input", 1e-3), _scaled(chip / f"curr{channel}_input", 1e-3)
            if not label or label == "NC" or channel == str(_INA3221_SUM_CHANNEL) or volts is None or amperes is None:
                continue
            yield label, volts * amperes


def _ina3221_iio(root: Path) -> Iterator[tuple[str, float]]:
    """Yield the power rails of JetPack 4: milliwatts by channel."""
    for path in sorted((root / "sys/bus/i2c/devices").glob("*/iio:device*/rail_name_*")):
        label = read_text(path)
        watts = _scaled(path.parent / f"in_power{path.name.rpartition('_')[2]}_input", 1e-3)
        if label and label != "NC" and watts is not None:
            yield label, watts


def _board_power_w(rails_w: Mapping[str, float]) -> float | None:
    for rail in _TOTAL_RAILS:
        if rail in rails_w:
            return rails_w[rail]
    if all(rail in rails_w for rail in _AGX_RAILS):
        return sum(rails_w[rail] for rail in _AGX_RAILS)
    return None


def _temperatures_c(root: Path) -> dict[str, float]:
    temperatures: dict[str, float] = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        celsius = _scaled(zone / "temp", 1e-3)
        if celsius is not None and celsius > 0:  # a zone that is powered down reads -256 or nothing
            name = read_text(zone / "type") or zone.name
            temperatures[name if name not in temperatures else f"{name} ({zone.name})"] = celsius
    return temperatures


def _throttling(root: Path) -> bool | None:
    states = [
        read_int(device / "cur_state")
        for device in (root / "sys/class/thermal").glob("cooling_device*")
        if any(name in (read_text(device / "type") or "").lower() for name in _COOLING_DEVICES)
    ]
    known = [state for state in states if state is not None]
    return any(state > 0 for state in known) if known else None


def _throttle_events(root: Path) -> int | None:
    paths = (root / "sys/devices/system/cpu").glob("cpu*/thermal_throttle/core_throttle_count")
    counts = [count for count in map(read_int, paths) if count is not None]
    return sum(counts) if counts else None
