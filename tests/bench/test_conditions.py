from __future__ import annotations

from pathlib import Path

import pytest

from edgeact.bench import notable_changes, take_sensors
from edgeact.records import Sensors


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_take_sensors_converts_units(tmp_path: Path) -> None:
    cpu = "sys/devices/system/cpu"
    root = _write(
        tmp_path,
        {
            f"{cpu}/cpu0/cpufreq/scaling_cur_freq": "1200000\n",
            f"{cpu}/cpu1/cpufreq/scaling_cur_freq": "3400000\n",
            f"{cpu}/cpu0/thermal_throttle/core_throttle_count": "2\n",
            "sys/class/devfreq/17000000.ga10b/cur_freq": "624750000\n",
            "sys/class/devfreq/memory/cur_freq": "3199000000\n",
            "sys/class/thermal/thermal_zone0/temp": "48500\n",
            "sys/class/thermal/thermal_zone1/temp": "-256000\n",
            "sys/class/thermal/thermal_zone2/temp": "not a number\n",
        },
    )
    expected = Sensors(cpu_clock_mhz=3400, gpu_clock_mhz=624.75, temperature_c=48.5, throttle_events=2)
    assert take_sensors(root) == expected


def test_take_sensors_of_a_machine_without_sensors_is_empty(tmp_path: Path) -> None:
    assert take_sensors(tmp_path) == Sensors()
    assert notable_changes(Sensors(), Sensors()) == ()


def test_take_sensors_of_this_machine() -> None:
    assert isinstance(take_sensors(), Sensors)


@pytest.mark.parametrize(("after_mhz", "is_noted"), [(3000, False), (2941, False), (2939, True), (3061, True)])
def test_notable_changes_names_a_clock_that_changed_by_more_than_two_percent(after_mhz: float, is_noted: bool) -> None:
    notes = notable_changes(Sensors(cpu_clock_mhz=3000), Sensors(cpu_clock_mhz=after_mhz))
    assert bool(notes) == is_noted
    assert all(f"from 3000 to {after_mhz} MHz" in note for note in notes)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Sensors(throttle_events=4), Sensors(throttle_events=7)),
        (Sensors(is_throttling=False), Sensors(is_throttling=True)),
    ],
)
def test_notable_changes_names_throttling(before: Sensors, after: Sensors) -> None:
    (note,) = notable_changes(before, after)
    assert "throttled" in note


def test_notable_changes_ignores_a_constant_count_of_throttle_events() -> None:
    assert notable_changes(Sensors(throttle_events=4), Sensors(throttle_events=4, is_throttling=False)) == ()
