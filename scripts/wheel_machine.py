"""Check that a wheel is for the processor that its name says; try_wheel.sh runs `wheel_machine.py WHEEL MACHINE`."""

from __future__ import annotations

import re
import struct
import sys
import zipfile
from pathlib import Path

_ELF_MACHINES = {62: "x86_64", 183: "aarch64"}
_GLIBC = (2, 28)


def elf_machine(content: bytes) -> str:
    """Return the processor in the header of a 64-bit little-endian ELF file; raises ValueError for any other file."""
    if content[:6] != b"\x7fELF\x02\x01":
        raise ValueError("no 64-bit little-endian ELF file")
    (machine,) = struct.unpack_from("<H", content, 18)
    return _ELF_MACHINES.get(machine, f"ELF machine {machine}")


def fault(wheel: Path, machine: str) -> str | None:
    """Return what is wrong with the tag or the library of a wheel for `machine`, else None."""
    tag = f"py3-none-manylinux_{_GLIBC[0]}_{_GLIBC[1]}_{machine}"
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/WHEEL"))
        tags = re.findall(r"^Tag: (\S+)$", archive.read(metadata).decode(), re.MULTILINE)
        libraries = {name: archive.read(name) for name in archive.namelist() if name.endswith(".so")}
    if tags != [tag] or not wheel.stem.endswith(tag):
        return f"expected the tag {tag}, got {tags}"
    if [Path(name).name for name in libraries] != ["libedgeact_native.so"]:
        return f"expected the native engine as the only library, got {sorted(libraries)}"
    (content,) = libraries.values()
    if (actual := elf_machine(content)) != machine:
        return f"expected a library for {machine}, got {actual}"
    versions = {tuple(map(int, found)) for found in re.findall(rb"GLIBC_(\d+)\.(\d+)", content)}
    return f"needs glibc {max(versions)}, the tag promises {_GLIBC}" if max(versions) > _GLIBC else None


def main() -> None:
    """Print that the wheel is right, or end with what is wrong."""
    wheel, machine = Path(sys.argv[1]), sys.argv[2]
    if wrong := fault(wheel, machine):
        sys.exit(f"wheel: {wheel.name}: {wrong}")
    print(f"wheel: {wheel.name} has the native engine for {machine}")


if __name__ == "__main__":
    main()
