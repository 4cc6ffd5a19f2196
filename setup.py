"""The part of the build that pyproject.toml cannot express: the native engine, compiled from C for Linux.

The compiler is a Python package (zig's clang), pinned in pyproject.toml: a build needs no other compiler, and the same
sources give the same bytes everywhere. EDGEACT_NATIVE_TARGET=aarch64 builds the wheel for ARM on x86-64.
On other platforms, or if EDGEACT_NO_NATIVE is set, the wheel is pure Python.
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
# The least that the engine needs, AVX2 or NEON; it checks the CPU at run time. Functions enable what only they use.
CPUS = {"x86_64": "x86_64_v3", "aarch64": "generic"}
FLAGS = (
    *("-std=gnu11", "-fPIC", "-shared", "-pthread", "-fvisibility=hidden", "-fno-math-errno", "-ffp-contract=off"),
    *("-O3", "-fomit-frame-pointer", "-fno-sanitize=undefined", "-g0", "-s"),
    *("-Wall", "-Wextra", "-Werror", "-Wl,-z,defs"),
)


def choose_target() -> str | None:
    """Return the processor to compile the engine for, None to leave it out.

    Without EDGEACT_NATIVE_TARGET that is this machine if it can load the engine: pip would refuse another wheel. An ARM
    machine would have to install the compiler for that; it takes the wheel.
    """
    if os.environ.get("EDGEACT_NO_NATIVE"):
        return None
    if named := os.environ.get("EDGEACT_NATIVE_TARGET"):
        if named not in CPUS:
            sys.exit(f"setup.py: EDGEACT_NATIVE_TARGET is '{named}', expected one of: {', '.join(CPUS)}")
        return named
    library, version = platform.libc_ver()
    is_able = (sys.platform, platform.machine(), library) == ("linux", "x86_64", "glibc")
    return "x86_64" if is_able and tuple(map(int, version.split("."))) >= GLIBC else None


TARGET = choose_target()


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
        is_cross = platform.machine() != TARGET  # a file that is already there may be for this machine
        if self.force or is_cross or newer_group([*ext.sources, *ext.depends], str(output)):
            with tempfile.TemporaryDirectory() as cache:  # zig would leave caches in the home folder
                zig = {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
                compiler = (sys.executable, "-m", "ziglang", "cc")
                target = ("-target", f"{TARGET}-linux-gnu.{GLIBC[0]}.{GLIBC[1]}", f"-mcpu={CPUS[str(TARGET)]}")
                folders = [f"-I{folder}" for folder in ext.include_dirs]
                command = [*compiler, *target, *FLAGS, *folders, *ext.sources, "-lm", "-o", str(output)]
                subprocess.run(command, env={**os.environ, **zig}, check=True)


class Wheel(bdist_wheel):
    """One wheel for every Python 3: only the platform matters."""

    def get_tag(self) -> tuple[str, str, str]:
        return super().get_tag() if self.root_is_pure else ("py3", "none", f"manylinux_{GLIBC[0]}_{GLIBC[1]}_{TARGET}")


FOLDERS = (PACKAGE / "csrc", PACKAGE / "csrc" / str(TARGET))
NATIVE = Extension(
    ".".join((*PACKAGE.parts, "libedgeact_native")),
    sources=sorted(str(path) for folder in FOLDERS for path in folder.glob("*.c")),
    include_dirs=[str(folder) for folder in FOLDERS],
    depends=[*sorted(str(path) for folder in FOLDERS for path in folder.glob("*.h")), "setup.py", "pyproject.toml"],
)
setup(cmdclass={"build_ext": BuildNative, "bdist_wheel": Wheel}, ext_modules=[NATIVE] if TARGET else [])
