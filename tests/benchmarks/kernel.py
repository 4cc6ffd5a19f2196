"""The rate of the AVX2 kernel on one convolution against a loop that does only the products, in registers."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from edgeact.errors import EdgeactError
from edgeact.runtime.native.engine import Engine
from edgeact.runtime.native.library import supported_isas
from edgeact.runtime.native.program import Conv, Epilogue
from edgeact.runtime.native.reading import read_program
from tests.benchmarks.records import BenchRow
from tests.benchmarks.workspace import Workspace
from tests.runtime.native.making import ProgramBuilder, random_bytes

__all__ = ["kernel", "products_per_second"]

_SHARE = 0.7
_CHANNELS, _SIZE = 64, (8, 56, 56)
_RUNS = 20


def kernel(workspace: Workspace) -> list[BenchRow]:
    """Measure the multiply-accumulates a second of one core as a share of the loop's; no row without AVX2.

    All multiply-accumulates of the convolution count, also those that the kernel saves.
    """
    if "avx2" not in supported_isas():
        workspace.leave_out("kernel of AVX2", "needs a processor with avx2")
        return []
    workspace.on_step("timing one convolution by AVX2")
    loop, conv = products_per_second(), _conv_rate()
    row = BenchRow(
        name="avx2, kernel of 64 channels, 3x3x3 / loop of products in registers",
        value=conv / loop,
        unit="",
        comparison=">=",
        how=f"{conv / 1e9:.0f} against {loop / 1e9:.0f} G multiply-accumulates/s of one core (vpmaddubsw, vpmaddwd, "
        f"vpaddd), the fastest of {_RUNS} runs at 8x56x56",
    )
    return [row.judged(_SHARE, applies=True)]


def products_per_second() -> float:
    """Compile products.c and run it; raises EdgeactError without a C compiler."""
    zig = [sys.executable, "-m", "ziglang", "cc"] if find_spec("ziglang") else None
    compiler = zig or ([path] if (path := shutil.which("cc")) else None)
    if compiler is None:
        raise EdgeactError("expected a C compiler, got none; install ziglang or a cc to measure the loop of products")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "products.so"
        source = Path(__file__).with_name("products.c")
        subprocess.run([*compiler, "-O2", "-mavx2", "-shared", "-fPIC", source, "-o", library], check=True)
        loaded = ctypes.CDLL(str(library))
        loaded.products_per_second.restype = ctypes.c_double
        return float(max(loaded.products_per_second() for _ in range(5)))


def _conv_rate() -> float:
    rng, builder = np.random.default_rng(0), ProgramBuilder()
    source = builder.filled_buffer(random_bytes(rng, *_SIZE, _CHANNELS), 0)
    to = builder.buffer(_SIZE, _CHANNELS, 0)
    scale, bias = (builder.tensor(np.full(_CHANNELS, value, np.float32)) for value in (1e-4, 0))
    weights = np.clip(rng.normal(0, 36, (_CHANNELS, 3, 3, 3, _CHANNELS)), -127, 127).astype(np.int8)
    epilogue = Epilogue(first=0, last=_CHANNELS, to=to, channel=0, relu=True, scale=scale, bias=bias)
    conv = Conv(
        buffer=source,
        weights=builder.tensor(weights),
        stride=(1, 1, 1),
        padding=(1, 1, 1),
        out_size=_SIZE,
        epilogues=(epilogue,),
    )
    builder.add(conv)
    program, data = builder.build(builder.dequantized(to))
    engine = Engine(*read_program(program.to_json(), data), 1, "avx2")
    index = program.instructions.index(conv)
    clip = np.zeros(1, np.float32)
    us = min(engine.profile(clip)[index] for _ in range(_RUNS))
    engine.close()
    return float(weights.size * np.prod(_SIZE) / us * 1e6)
