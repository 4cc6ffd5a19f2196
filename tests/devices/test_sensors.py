from __future__ import annotations

from pathlib import Path

import pytest

from edgeact.devices import SensorReading, read_sensors
from tests.devices import trees


def test_an_orin_nano_shows_clocks_rails_and_zones(tmp_path: Path) -> None:
    reading = read_sensors(trees.ORIN_NANO_JP62.write(tmp_path))

    assert (reading.gpu_mhz, reading.emc_mhz) == pytest.approx((1020.0, 3199.0))
    assert reading.rails_w == pytest.approx({"VDD_IN": 4.992 * 1.4, "VDD_CPU_GPU_CV": 4.984 * 0.4})
    assert reading.power_w == pytest.approx(4.992 * 1.4)
    assert reading.temperatures_c == {"cpu-thermal": 51.25, "gpu-thermal": 49.5}  # the zone at -256 is powered down
    assert reading.throttling is False  # a turning fan is no throttling
    assert reading.throttle_events is None


def test_a_throttled_xavier_says_so(tmp_path: Path) -> None:
    reading = read_sensors(trees.XAVIER_NX_JP5.write(tmp_path))

    assert reading.throttling is True
    assert reading.gpu_mhz == 1109.25
    assert reading.power_w == pytest.approx(10.0)


def test_a_nano_shows_the_rails_of_jetpack_4(tmp_path: Path) -> None:
    reading = read_sensors(trees.NANO_JP4.write(tmp_path))

    assert reading.rails_w == pytest.approx({"POM_5V_IN": 4.12, "POM_5V_GPU": 1.23})
    assert reading.power_w == pytest.approx(4.12)
    assert reading.gpu_mhz == pytest.approx(921.6)


def test_a_thor_shows_the_clock_of_its_graphics_cluster(tmp_path: Path) -> None:
    reading = read_sensors(trees.THOR_JP7.write(tmp_path))

    assert reading.gpu_mhz == pytest.approx(1575.0)
    assert reading.power_w == pytest.approx(30.0)


def test_an_agx_adds_its_three_rails(tmp_path: Path) -> None:
    root = trees.AGX_ORIN_JP6.write(tmp_path)

    assert read_sensors(root).power_w == pytest.approx(4.0 + 2.0 + 4.0)
    (root / "sys/bus/i2c/devices/1-0040/hwmon/hwmon3/in2_input").unlink()
    assert read_sensors(root).power_w is None  # two of three would be too little


def test_a_cpu_machine_shows_what_it_has(tmp_path: Path) -> None:
    reading = read_sensors(trees.X86.write(tmp_path))

    assert reading == SensorReading(
        cpu_mhz=3400.0, temperatures_c={"x86-pkg-temp": 61.0}, throttling=False, throttle_events=5
    )


def test_a_machine_without_sensors_has_no_readings(tmp_path: Path) -> None:
    assert read_sensors(tmp_path) == SensorReading()


def test_unreadable_numbers_are_omitted(tmp_path: Path) -> None:
    root = trees.ORIN_NANO_JP62.write(tmp_path)
    (root / "sys/class/devfreq/17000000.gpu/cur_freq").write_text("busy\n")
    (root / "sys/class/thermal/thermal_zone0/temp").write_text("\n")

    reading = read_sensors(root)
    assert reading.gpu_mhz is None
    assert reading.temperatures_c == {"gpu-thermal": 49.5}


def test_zones_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    root = trees.X86.write(tmp_path)
    (root / "sys/class/thermal/thermal_zone1").mkdir()
    (root / "sys/class/thermal/thermal_zone1/type").write_text("x86-pkg-temp\n")
    (root / "sys/class/thermal/thermal_zone1/temp").write_text("58000\n")

    assert read_sensors(root).temperatures_c == {"x86-pkg-temp": 61.0, "x86-pkg-temp (thermal_zone1)": 58.0}
