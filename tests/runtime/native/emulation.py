"""Emulation of the engine for aarch64: `python -m tests.runtime.native.emulation FOLDER` replays recordings."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from edgeact.runtime.native.library import ISA_CODES, Isa

__all__ = ["PROCESSORS", "build_replay", "replay", "why_unavailable"]

PROCESSORS: Mapping[Isa, str] = MappingProxyType(
    {"neon": "cortex-a72", "neon-dotprod": "neoverse-n1", "neon-i8mm": "max"}
)
"""A processor of the emulator for each instruction set, which is the best of that processor."""
_ROOT = Path(__file__).resolve().parents[3]
_CSRC = _ROOT / "edgeact" / "runtime" / "native" / "csrc"
_EMULATOR = "qemu-aarch64-static"
# Like setup.py's, but one static program: the emulator finds no libraries for ARM.
_FLAGS = (
    *("-target", "aarch64-linux-musl", "-mcpu=generic", "-static", "-std=gnu11", "-pthread", "-O3"),
    *("-fno-math-errno", "-ffp-contract=off", "-fno-sanitize=undefined", "-Wall", "-Wextra", "-Werror"),
)


def why_unavailable() -> str | None:
    """Return what this machine lacks to emulate, else None."""
    if shutil.which(_EMULATOR) is None:
        return f"{_EMULATOR} is not installed; scripts/try_arm.sh installs it"
    if importlib.util.find_spec("ziglang") is None:
        return "ziglang, the compiler, is not installed; scripts/try_arm.sh installs it"
    return None


def build_replay(to: Path) -> None:
    """Compile the engine and replay.c into one program for aarch64."""
    sources = [*_CSRC.glob("*.c"), *(_CSRC / "aarch64").glob("*.c"), Path(__file__).with_name("replay.c")]
    folders = [f"-I{folder}" for folder in (_CSRC, _CSRC / "aarch64")]
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "ziglang", "cc", *_FLAGS, *folders, *map(str, sources), "-lm", "-o", str(to)]
        zig = {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
        subprocess.run(command, env={**os.environ, **zig}, check=True)


def replay(program: Path, isa: Isa, recordings: list[Path]) -> subprocess.CompletedProcess[str]:
    """Run recordings by one instruction set on a processor that has no better one; exit code 1 if any differs."""
    command = [_EMULATOR, "-cpu", PROCESSORS[isa], str(program), str(ISA_CODES[isa]), *map(str, recordings)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def main() -> None:
    """Replay every recording in a folder by every instruction set; exit code 1 if any differs or none is there."""
    recordings = sorted(Path(sys.argv[1]).glob("*.program"))
    failed = not recordings
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "replay"
        build_replay(program)
        for isa in PROCESSORS:
            done = replay(program, isa, recordings)
            print(f"{isa} ({PROCESSORS[isa]}): {done.stdout}{done.stderr}".rstrip())
            failed |= done.returncode != 0
    sys.exit(failed)


if __name__ == "__main__":
    main()
