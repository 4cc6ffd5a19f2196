"""The part of the build that pyproject.toml cannot express: the native engine, compiled from C for Linux on x86-64.

The compiler is a Python package (zig's clang), pinned in pyproject.toml: a build needs no other compiler, and the same
sources give the same bytes everywhere. On other platforms, or if EDGEACT_NO_NATIVE is set, the wheel is pure Python.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

# Relative, because builds run in this folder: no path of the machine becomes part of the bytes.
PACKAGE = Path("edgeact/runtime/native")
# The oldest C library that the engine supports, for the compiler and for the wheel's tag.
GLIBC = (2, 28)
# x86_64_v4 has AVX-512, the minimum of the engine, which checks the CPU at run time; AMX is enabled by function.
FLAGS = (
    *("-target", f"x86_64-linux-gnu.{GLIBC[0]}.{GLIBC[1]}", "-std=gnu11", "-fPIC", "-shared", "-pthread"),
    *("-mcpu=x86_64_v4", "-fvisibility=hidden", "-fno-math-errno", "-ffp-contract=off"),
    *("-O3", "-fomit-frame-pointer", "-fno-sanitize=undefined", "-g0", "-s"),
    *("-Wall", "-Wextra", "-Werror", "-Wl,-z,defs"),
)


def is_supported() -> bool:
    """Return whether this machine can load the engine; a machine that cannot would not install its wheel either."""
    if os.environ.get("EDGEACT_NO_NATIVE") or (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return False
    library, version = platform.libc_ver()
    return library == "glibc" and tuple(map(int, version.split("."))) >= GLIBC


class BuildNative(build_ext):
    """Compile a plain shared library, which ctypes loads: it depends on no version of Python."""

    def get_ext_filename(self, fullname: str) -> str:
        return f"{fullname.replace('.', '/')}.so"

    def build_extension(self, ext: Extension) -> None:
        output = Path(self.get_ext_fullpath(ext.name))
        output.parent.mkdir(parents=True, exist_ok=True)
        in_tree = PACKAGE / output.name
        if self.editable_mode and in_tree.exists():  # its build folder is always new: reuse the last result
            shutil.copy2(in_tree, output)
        if self.force or newer_group([*ext.sources, *ext.depends], str(output)):
            with tempfile.TemporaryDirectory() as cache:  # zig would leave caches in the home folder
                zig = {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
                command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, *ext.sources, "-lm", "-o", str(output)]
                subprocess.run(command, env={**os.environ, **zig}, check=True)


class Wheel(bdist_wheel):
    """One wheel for every Python 3: only the platform matters."""

    def get_tag(self) -> tuple[str, str, str]:
        return super().get_tag() if self.root_is_pure else ("py3", "none", f"manylinux_{GLIBC[0]}_{GLIBC[1]}_x86_64")


NATIVE = Extension(
    ".".join((*PACKAGE.parts, "libedgeact_native")),
    sources=sorted(map(str, PACKAGE.glob("csrc/*.c"))),
    depends=[*sorted(map(str, PACKAGE.glob("csrc/*.h"))), "setup.py", "pyproject.toml"],
)
setup(cmdclass={"build_ext": BuildNative, "bdist_wheel": Wheel}, ext_modules=[NATIVE] if is_supported() else [])
