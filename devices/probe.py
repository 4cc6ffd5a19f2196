"""Probe of this machine, without imports of the probed packages and without changes."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgeact.devices.host import Command, read_bytes, read_text, run_command
from edgeact.devices.profile import DeviceProfile
from edgeact.devices.registry import jetpack_of_l4t, list_profiles, load_profile
from edgeact.devices.sensors import read_sensors
from edgeact.records import Machine

__all__ = [
    "PACKAGES",
    "instruction_sets",
    "is_this_machine",
    "machine_identity",
    "matching_profiles",
    "probe_board",
    "probe_machine",
    "usable_cores",
]

PACKAGES = (
    "edgeact",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "opencv-python",
    "openvino",
    "tensorrt",
    "tensorrt-rtx-cu13",
    "torch",
)
_ROOT = Path("/")
_ISA = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16", "amx_fp16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve"),
)
_PART_NUMBER = re.compile(r"p\d{4}-\d{4}")
_L4T = re.compile(r"R(\d+) \(release\), REVISION: (\d+)\.(\d+)")
_GPU_QUERY = ("nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader")


@dataclass(frozen=True)
class _Tegra:
    model: str
    soc: str
    part_numbers: frozenset[str]


@dataclass(frozen=True)
class _Gpu:
    name: str
    driver: str
    sm: str


def probe_machine(
    package_names: Iterable[str] = PACKAGES, *, root: Path = _ROOT, run: Command = run_command
) -> Machine:
    """Describe the machine below `root`, with the versions of the installed packages of `package_names`.

    `root` and `run` (which runs a command) allow recorded copies of other machines; core count, architecture and
    package versions are always those of this process.
    """
    tegra = _tegra(root)
    gpu = None if tegra else _nvidia_gpu(run)
    board = _board_profile(tegra, gpu)
    l4t = _l4t(root, run) if tegra else None
    sensors = read_sensors(root)
    versions = _package_versions(package_names)
    versions |= {"l4t": l4t} if l4t else {}
    versions |= {"nvidia-driver": gpu.driver} if gpu else {}
    return Machine(
        processor=tegra.model if tegra else _processor(root),
        architecture=_architecture(),
        cores=usable_cores(),
        memory_bytes=_memory_bytes(root),
        isa=instruction_sets(root),
        operating_system=_operating_system(root, l4t),
        board=board.id if board else None,
        accelerator=_accelerator(tegra, gpu, board),
        power_mode=_power_mode(run) if tegra else None,
        clock_mhz=sensors.gpu_mhz if tegra else sensors.cpu_mhz,
        versions=versions,
    )


def probe_board(*, root: Path = _ROOT, run: Command = run_command) -> str | None:
    """Return the profile id of this machine's Jetson module or NVIDIA GPU, or None without a known one."""
    tegra = _tegra(root)
    board = _board_profile(tegra, None if tegra else _nvidia_gpu(run))
    return board.id if board else None


def machine_identity(root: Path = _ROOT) -> dict[str, str]:
    """Return what decides which kernels a library runs below `root`: processor with all its flags, GPUs and driver.

    Reads a few small files and runs no command, so that it can be asked at every start. A virtual machine that moves to
    another host, or gets another driver, has another identity.
    """
    gpus = sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))
    facts = {
        "processor": _processor(root),
        "flags": _cpuinfo(root, "flags", "Features"),
        "architecture": _architecture(),
        "cores": str(usable_cores()),
        "nvidia-driver": read_text(root / "proc/driver/nvidia/version"),
        "nvidia-gpus": "\n".join(read_text(path) or "" for path in gpus),
        "l4t": read_text(root / "etc/nv_tegra_release"),
    }
    return {name: fact for name, fact in facts.items() if fact}


def is_this_machine(profile: DeviceProfile, *, root: Path = _ROOT, run: Command = run_command) -> bool:
    """Return whether this machine is the target: its board, or for a CPU target any CPU of that architecture."""
    return profile.id in matching_profiles(root=root, run=run)


def matching_profiles(*, root: Path = _ROOT, run: Command = run_command) -> frozenset[str]:
    """Return the ids of all targets that this machine is."""
    cpus = (load_profile(name) for name in list_profiles() if load_profile(name).family == "cpu")
    board = probe_board(root=root, run=run)
    return frozenset(cpu.id for cpu in cpus if cpu.architecture == _architecture()) | ({board} if board else set())


def _tegra(root: Path) -> _Tegra | None:
    tree = root / "proc/device-tree"
    compatible = read_bytes(tree / "compatible") or b""
    names = compatible.decode("utf-8", "replace").split("\0")
    soc = next((name.partition(",")[2] for name in names if name.startswith("nvidia,tegra")), None)
    if soc is None:
        return None
    parts = _PART_NUMBER.findall(" ".join((*names, read_text(tree / "nvidia,dtsfilename") or "")))
    return _Tegra(read_text(tree / "model") or soc, soc, frozenset(parts))


def _nvidia_gpu(run: Command) -> _Gpu | None:
    """Return the first NVIDIA GPU that the driver lists."""
    for line in (run(_GPU_QUERY) or "").splitlines():
        fields = [part.strip() for part in line.split(",")]
        if len(fields) == 3 and re.fullmatch(r"\d+\.\d", fields[2]):
            return _Gpu(*fields)
    return None


def _board_profile(tegra: _Tegra | None, gpu: _Gpu | None) -> DeviceProfile | None:
    for profile in map(load_profile, list_profiles()):
        if tegra and profile.soc == tegra.soc and _holds_part(profile, tegra.part_numbers):
            return profile
        if gpu and gpu.name in profile.gpu_names:
            return profile
    return None


def _holds_part(profile: DeviceProfile, part_numbers: Iterable[str]) -> bool:
    return any(f"{part}-".startswith(f"{known}-") for part in part_numbers for known in profile.part_numbers)


def _l4t(root: Path, run: Command) -> str | None:
    """Return the L4T release, e.g. '36.4.3'; a container may lack the file, the package, or both."""
    if match := _L4T.search(read_text(root / "etc/nv_tegra_release") or ""):
        return ".".join(match.groups())
    package = run(("dpkg-query", "-W", "-f=${Version}", "nvidia-l4t-core")) or ""
    return package.partition("-")[0].strip() or None


def _power_mode(run: Command) -> str | None:
    match = re.search(r"NV Power Mode:\s*(\S+)", run(("nvpmodel", "-q")) or "")
    return match.group(1) if match else None


def _accelerator(tegra: _Tegra | None, gpu: _Gpu | None, board: DeviceProfile | None) -> str | None:
    if gpu:
        return f"{gpu.name}, SM {gpu.sm}"
    if tegra:
        return f"{tegra.soc} GPU, SM {board.sm}" if board else f"{tegra.soc} GPU"
    return None


def _architecture() -> str:
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


def usable_cores() -> int:
    """Return the number of CPUs that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _cpuinfo(root: Path, *keys: str) -> str:
    text = read_text(root / "proc/cpuinfo") or ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in keys:
            return value.strip()
    return ""


def _processor(root: Path) -> str:
    """Return the CPU model; most ARM CPUs do not state one, then the board's name."""
    name = _cpuinfo(root, "model name") or read_text(root / "proc/device-tree/model")
    return name or platform.processor() or platform.machine()


def instruction_sets(root: Path = Path("/")) -> tuple[str, ...]:
    """Return the instruction sets of this CPU that decide the speed of INT8 and BF16, as Linux names them."""
    flags = frozenset(_cpuinfo(root, "flags", "Features").split())
    return tuple(name for name in _ISA if name in flags)


def _memory_bytes(root: Path) -> int:
    match = re.search(r"^MemTotal:\s*(\d+) kB", read_text(root / "proc/meminfo") or "", re.MULTILINE)
    if match:
        return int(match.group(1)) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not a POSIX system
        return 0


def _operating_system(root: Path, l4t: str | None) -> str:
    release = read_text(root / "etc/os-release") or ""
    match = re.search(r'^PRETTY_NAME="?([^"\n]+)', release, re.MULTILINE)
    name = match.group(1) if match else f"{platform.system()} {platform.release()}"
    if l4t is None:
        return name
    jetpack = jetpack_of_l4t(l4t)
    return f"{name}, L4T {l4t}" + (f" (JetPack {jetpack})" if jetpack else "")


def _package_versions(names: Iterable[str]) -> dict[str, str]:
    import importlib.metadata  # slow to import, and the runtime needs no versions

    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
