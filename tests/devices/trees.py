"""Small copies of what /proc, /sys and /etc of other machines look like, in the formats their kernels use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Recorded:
    """A recorded machine: files by path, and what commands print; a command not listed is absent."""

    files: Mapping[str, str]
    commands: Mapping[str, str] = field(default_factory=dict)

    def write(self, root: Path) -> Path:
        for name, text in self.files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
        return root

    def run(self, command: Sequence[str]) -> str | None:
        return self.commands.get(command[0])


def _jetson(model: str, compatible: Sequence[str], l4t: str, memory_kb: int) -> dict[str, str]:
    return {
        "proc/device-tree/model": f"{model}\0",
        "proc/device-tree/compatible": "\0".join(compatible) + "\0",
        "etc/nv_tegra_release": l4t,
        "proc/meminfo": f"MemTotal:       {memory_kb} kB\nMemFree:         1000 kB\n",
        "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd aes crc32 atomics asimdhp asimdrdm asimddp\n",
    }


def _devfreq(name: str, node: str | None, hertz: int) -> dict[str, str]:
    folder = f"sys/class/devfreq/{name}"
    files = {f"{folder}/cur_freq": f"{hertz}\n", f"{folder}/max_freq": "1300500000\n"}
    if node:
        files[f"{folder}/device/of_node/name"] = f"{node}\0"
    return files


def _ina3221(channels: Sequence[tuple[int, str, int, int]]) -> dict[str, str]:
    chip = "sys/bus/i2c/devices/1-0040"
    files = {f"{chip}/name": "ina3221\n"}
    for number, label, millivolts, milliamperes in channels:
        files[f"{chip}/hwmon/hwmon3/in{number}_label"] = f"{label}\n"
        files[f"{chip}/hwmon/hwmon3/in{number}_input"] = f"{millivolts}\n"
        files[f"{chip}/hwmon/hwmon3/curr{number}_input"] = f"{milliamperes}\n"
    return files


def _zones(**celsius: float) -> dict[str, str]:
    files: dict[str, str] = {}
    for number, (name, value) in enumerate(celsius.items()):
        folder = f"sys/class/thermal/thermal_zone{number}"
        files |= {f"{folder}/type": f"{name.replace('_', '-')}\n", f"{folder}/temp": f"{round(value * 1000)}\n"}
    return files


def _cooling(number: int, kind: str, state: int) -> dict[str, str]:
    folder = f"sys/class/thermal/cooling_device{number}"
    return {f"{folder}/type": f"{kind}\n", f"{folder}/cur_state": f"{state}\n"}


ORIN_NANO_JP62 = Recorded(
    {
        **_jetson(
            "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
            ["nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005", "nvidia,tegra234"],
            "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 2025\n",
            7802000,
        ),
        **_devfreq("15340000.vic", "vic", 115200000),
        **_devfreq("17000000.gpu", "gpu", 1020000000),
        **_ina3221(
            [(1, "VDD_IN", 4992, 1400), (2, "VDD_CPU_GPU_CV", 4984, 400), (3, "NC", 5000, 9), (7, "sum", 0, 99)]
        ),
        **_zones(cpu_thermal=51.25, gpu_thermal=49.5, cv0_thermal=-256.0),
        **_cooling(0, "pwm-fan", 3),
        **_cooling(1, "gpu-throttle-alert", 0),
        "sys/kernel/debug/bpmp/debug/clk/emc/rate": "3199000000\n",
        "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
    },
    {"nvpmodel": "NV Power Mode: MAXN_SUPER\n2\n", "nvidia-smi": "Orin (nvgpu), 540.4.0, [N/A]\n"},
)

XAVIER_NX_JP5 = Recorded(
    {
        **_jetson(
            "NVIDIA Jetson Xavier NX Developer Kit",
            ["nvidia,p3449-0000+p3668-0000", "nvidia,tegra194"],
            "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64, DATE: Tue Aug  1 2023\n",
            7000000,
        ),
        **_devfreq("17000000.gv11b", "gv11b", 1109250000),
        **_ina3221([(1, "VDD_IN", 5000, 2000), (2, "VDD_CPU_GPU_CV", 5000, 500)]),
        **_zones(CPU_therm=88.0, GPU_therm=90.5),
        **_cooling(2, "gpu-throttle-alert", 1),
    },
    {"nvpmodel": "NV Fan Mode:quiet\nNV Power Mode: MODE_15W_6CORE\n2\n"},
)

NANO_JP4 = Recorded(
    {
        **_jetson(
            "NVIDIA Jetson Nano Developer Kit",
            ["nvidia,jetson-nano", "nvidia,tegra210"],
            "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, EABI: aarch64, DATE: Sat Feb 19 2022\n",
            4059000,
        ),
        "proc/device-tree/nvidia,dtsfilename": "/dvs/hardware/nvidia/tegra210-p3448-0000-p3449-0000-b00.dts\0",
        **_devfreq("57000000.gpu", None, 921600000),
        "sys/bus/i2c/devices/6-0040/iio:device0/rail_name_0": "POM_5V_IN\n",
        "sys/bus/i2c/devices/6-0040/iio:device0/in_power0_input": "4120\n",
        "sys/bus/i2c/devices/6-0040/iio:device0/rail_name_1": "POM_5V_GPU\n",
        "sys/bus/i2c/devices/6-0040/iio:device0/in_power1_input": "1230\n",
    },
    {"nvpmodel": "NV Power Mode: MAXN\n0\n"},
)

THOR_JP7 = Recorded(
    {
        **_jetson(
            "NVIDIA Jetson AGX Thor Developer Kit",
            ["nvidia,p4071-0000+p3834-0008", "nvidia,p3834-0008", "nvidia,tegra264"],
            "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64, DATE: Fri Aug 22 2025\n",
            128_700_000,
        ),
        **_devfreq("gpu-gpc-0", None, 1575000000),
        **_devfreq("gpu-nvd-0", None, 1692000000),
        **_ina3221([(1, "VDD_GPU", 12000, 500), (2, "VIN", 20000, 1500)]),
    },
    {"nvpmodel": "NV Power Mode: 120W\n1\n", "nvidia-smi": "NVIDIA Thor, 580.00, 11.0\n"},
)

AGX_ORIN_JP6 = Recorded(
    {
        **_jetson(
            "NVIDIA Jetson AGX Orin Developer Kit",
            ["nvidia,p3737-0000+p3701-0005", "nvidia,p3701-0005", "nvidia,tegra234"],
            "# R36 (release), REVISION: 3.0, GCID: 36191598, BOARD: generic, EABI: aarch64, DATE: Mon May  6 2024\n",
            64_300_000,
        ),
        **_devfreq("17000000.ga10b", "ga10b", 1300500000),
        **_ina3221([(1, "VDD_GPU_SOC", 20000, 200), (2, "VDD_CPU_CV", 20000, 100), (3, "VIN_SYS_5V0", 5000, 800)]),
    },
    {"nvpmodel": "NV Power Mode: MAXN\n0\n"},
)

X86 = Recorded(
    {
        "proc/cpuinfo": (
            "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) Platinum 8481C\nflags\t\t: fpu sse2 avx2 avx512f avx_vnni "
            "avx512_vnni amx_bf16 amx_int8\n\nprocessor\t: 1\nmodel name\t: Intel(R) Xeon(R) Platinum 8481C\n"
        ),
        "proc/meminfo": "MemTotal:       24731708 kB\n",
        "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2100000\n",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "3400000\n",
        "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "2\n",
        "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "3\n",
        **_zones(x86_pkg_temp=61.0),
        **_cooling(0, "Processor", 0),
    }
)

X86_RTX4090 = Recorded(X86.files, {"nvidia-smi": "NVIDIA GeForce RTX 4090, 570.86.10, 8.9\n"})
