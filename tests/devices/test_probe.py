from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from edgeact.devices import is_this_machine, load_profile, matching_profiles, probe_board, probe_machine
from edgeact.devices.host import run_command
from tests.devices import trees
from tests.devices.trees import Recorded

_JETSONS = {
    "orin-nano-8gb": (trees.ORIN_NANO_JP62, "36.4.3", "JetPack 6.2", "MAXN_SUPER", 1020.0, "SM 8.7"),
    "xavier-nx": (trees.XAVIER_NX_JP5, "35.4.1", "JetPack 5.1.2", "MODE_15W_6CORE", 1109.25, "SM 7.2"),
    "nano": (trees.NANO_JP4, "32.7.1", "JetPack 4.6.1", "MAXN", 921.6, "SM 5.3"),
    "agx-thor": (trees.THOR_JP7, "38.2.0", "JetPack 7.0", "120W", 1575.0, "SM 11.0"),
    "agx-orin-64gb": (trees.AGX_ORIN_JP6, "36.3.0", "JetPack 6.0", "MAXN", 1300.5, "SM 8.7"),
}


@pytest.mark.parametrize("board", _JETSONS)
def test_a_jetson_is_recognized(board: str, tmp_path: Path) -> None:
    recorded, l4t, jetpack, power_mode, clock_mhz, sm = _JETSONS[board]
    root = recorded.write(tmp_path)

    machine = probe_machine((), root=root, run=recorded.run)

    assert machine.board == probe_board(root=root, run=recorded.run) == board
    assert machine.processor.startswith("NVIDIA Jetson")
    assert "\0" not in machine.processor
    assert machine.versions == {"l4t": l4t}
    assert f"L4T {l4t} ({jetpack})" in machine.operating_system
    assert machine.power_mode == power_mode
    assert machine.clock_mhz == pytest.approx(clock_mhz)
    assert machine.accelerator is not None
    assert sm in machine.accelerator
    assert "asimddp" in machine.isa
    assert is_this_machine(load_profile(board), root=root, run=recorded.run)
    assert not is_this_machine(load_profile("rtx-4090"), root=root, run=recorded.run)


def test_a_plain_x86_machine_has_no_board(tmp_path: Path) -> None:
    machine = probe_machine((), root=trees.X86.write(tmp_path), run=trees.X86.run)

    assert machine.board is None
    assert machine.accelerator is None
    assert machine.power_mode is None
    assert machine.processor == "Intel(R) Xeon(R) Platinum 8481C"
    assert machine.isa == ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "amx_int8", "amx_bf16")
    assert machine.memory_bytes == 24731708 * 1024
    assert machine.operating_system == "Debian GNU/Linux 12 (bookworm)"
    assert machine.clock_mhz == 3400.0
    assert machine.versions == {}


def test_a_desktop_gpu_is_recognized_by_its_exact_name(tmp_path: Path) -> None:
    root = trees.X86_RTX4090.write(tmp_path)
    machine = probe_machine((), root=root, run=trees.X86_RTX4090.run)
    laptop = Recorded({}, {"nvidia-smi": "NVIDIA GeForce RTX 4090 Laptop GPU, 570.86.10, 8.9\n"})

    assert machine.board == "rtx-4090"
    assert machine.accelerator == "NVIDIA GeForce RTX 4090, SM 8.9"
    assert machine.versions == {"nvidia-driver": "570.86.10"}
    assert probe_board(root=root, run=laptop.run) is None
    assert probe_machine((), root=root, run=laptop.run).accelerator == "NVIDIA GeForce RTX 4090 Laptop GPU, SM 8.9"


def test_a_new_driver_is_still_the_same_machine(tmp_path: Path) -> None:
    root = trees.X86_RTX4090.write(tmp_path)
    newer = Recorded({}, {"nvidia-smi": "NVIDIA GeForce RTX 4090, 580.95.05, 8.9\n"})

    before, after = (probe_machine((), root=root, run=run) for run in (trees.X86_RTX4090.run, newer.run))
    assert before != after
    assert before.fingerprint == after.fingerprint


def test_a_power_mode_makes_another_machine(tmp_path: Path) -> None:
    root = trees.ORIN_NANO_JP62.write(tmp_path)
    slower = Recorded({}, {"nvpmodel": "NV Power Mode: 15W\n0\n"})

    machines = [probe_machine((), root=root, run=run) for run in (trees.ORIN_NANO_JP62.run, slower.run)]
    assert machines[0].fingerprint != machines[1].fingerprint


def test_an_unknown_module_of_a_known_soc_is_no_board(tmp_path: Path) -> None:
    root = trees.ORIN_NANO_JP62.write(tmp_path)
    (root / "proc/device-tree/compatible").write_bytes(b"vendor,carrier+p3767-0009\0nvidia,tegra234\0")

    machine = probe_machine((), root=root, run=trees.ORIN_NANO_JP62.run)
    assert machine.board is None
    assert machine.accelerator == "tegra234 GPU"


def test_l4t_comes_from_the_package_if_a_container_lacks_the_file(tmp_path: Path) -> None:
    root = trees.ORIN_NANO_JP62.write(tmp_path)
    (root / "etc/nv_tegra_release").unlink()
    packaged = Recorded({}, {"dpkg-query": "36.4.4-20250616085344"})

    assert probe_machine((), root=root, run=packaged.run).versions == {"l4t": "36.4.4"}
    assert probe_machine((), root=root, run=Recorded({}).run).versions == {}


@pytest.mark.parametrize("output", ["", "No devices were found\n", "NVIDIA-SMI has failed, x\n", "A, B, C\n"])
def test_a_driver_without_a_gpu_is_no_gpu(output: str, tmp_path: Path) -> None:
    failing = Recorded({}, {"nvidia-smi": output})

    assert probe_machine((), root=trees.X86.write(tmp_path), run=failing.run).accelerator is None


def test_an_empty_tree_still_gives_a_machine(tmp_path: Path) -> None:
    machine = probe_machine((), root=tmp_path, run=Recorded({}).run)

    assert machine.board is None
    assert machine.processor
    assert machine.memory_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_this_machine() -> None:
    machine = probe_machine()

    assert machine.cores == len(os.sched_getaffinity(0))
    assert machine.memory_bytes > 0
    assert machine.versions["numpy"] == importlib.metadata.version("numpy")
    assert ("intel-cpu" in matching_profiles()) == (platform.machine() in ("x86_64", "AMD64"))
    assert machine.fingerprint == probe_machine(()).fingerprint


def test_only_installed_packages_have_a_version(tmp_path: Path) -> None:
    versions = probe_machine(("pydantic", "no-such-package-at-all"), root=tmp_path, run=Recorded({}).run).versions

    assert versions == {"pydantic": importlib.metadata.version("pydantic")}


def test_versions_are_found_without_an_import() -> None:
    code = (
        "import sys; from edgeact.devices import probe_machine; assert probe_machine().versions; "
        "heavy = {'torch', 'onnx', 'onnxruntime', 'openvino', 'cv2', 'numpy'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_commands_that_fail_are_absent() -> None:
    assert run_command(("no-such-command-at-all",)) is None
    assert run_command((sys.executable, "-c", "raise SystemExit(3)")) is None
    assert run_command((sys.executable, "-c", "print('yes')")) == "yes\n"
