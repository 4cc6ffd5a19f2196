"""Recordings of programs: all memory before and after a run, which `replay.c` compares on another processor.

Structures and memory of an engine are the same on x86-64 and aarch64. A recording has them in one block of memory at a
fixed address, so that the other processor maps it there and runs the program without Python.
"""

from __future__ import annotations

import ctypes
import hashlib
import struct
from ctypes import Structure, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeact.runtime.native import engine, library
from edgeact.runtime.native.library import ConvStruct, Isa, OpStruct
from edgeact.runtime.native.memory import Memory
from edgeact.runtime.native.program import OPCODES, Program, Tensors

__all__ = ["record"]

Bytes = npt.NDArray[np.uint8]

_ADDRESS = 0x40_0000_0000  # free in processes and under emulation
_MAX_BYTES = 64 << 20
_ALIGNMENT_BYTES = 64
_THREADS = 2
_READ_WRITE, _PRIVATE_ANONYMOUS_FIXED = 3, 0x02 | 0x20 | 0x100000  # MAP_FIXED_NOREPLACE
_HEADER = struct.Struct("=QQQii")


class _Block(Memory):
    """One mapping at `_ADDRESS`, taken from front to back; `close` unmaps it."""

    def __init__(self) -> None:
        super().__init__()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.mmap.argtypes = (c_void_p, c_size_t, c_int, c_int, c_int, c_int64)
        self._libc.mmap.restype = c_void_p
        self._libc.munmap.argtypes = (c_void_p, c_size_t)
        address = self._libc.mmap(_ADDRESS, _MAX_BYTES, _READ_WRITE, _PRIVATE_ANONYMOUS_FIXED, -1, 0)
        assert address == _ADDRESS, "the address of recordings is in use"
        self._whole = np.ctypeslib.as_array((ctypes.c_uint8 * _MAX_BYTES).from_address(_ADDRESS))
        self._used = 0

    def take(self, count: int) -> Bytes:
        first, self._used = self._used, self._used + count + -count % _ALIGNMENT_BYTES
        assert self._used <= _MAX_BYTES, "the program is too large to be recorded"
        return self._whole[first : first + count]

    def place(self, structure: Any) -> int:
        """Copy a structure or an array of structures with all that it points to, and return its address."""
        memory = self.take(ctypes.sizeof(structure))
        copied = type(structure).from_address(memory.ctypes.data)
        ctypes.memmove(memory.ctypes.data, ctypes.addressof(structure), ctypes.sizeof(structure))
        self._place_pointers(copied)
        return int(memory.ctypes.data)

    def _place_pointers(self, copied: Any) -> None:
        if isinstance(copied, ctypes.Array):
            for item in copied:
                if isinstance(item, Structure):
                    self._place_pointers(item)
            return
        for name, _ in copied._fields_:
            value = getattr(copied, name)
            if isinstance(value, Structure | ctypes.Array):
                self._place_pointers(value)
            elif isinstance(value, ctypes._Pointer) and value:
                is_epilogues = isinstance(copied, ConvStruct) and name == "epilogue"
                count = copied.epilogues if is_epilogues else 1
                target = (value._type_ * count).from_address(ctypes.addressof(value.contents))
                setattr(copied, name, ctypes.cast(self.place(target), type(value)))

    @property
    def content(self) -> bytes:
        """The bytes taken so far."""
        return self._whole[: self._used].tobytes()

    def close(self) -> None:
        self._libc.munmap(_ADDRESS, _MAX_BYTES)


def record(program: Program, tensors: Tensors, clip: npt.NDArray[np.float32], isa: Isa, folder: Path) -> None:
    """Run the program on `clip` and write its memory before and after to `folder`, once for each content."""
    block = _Block()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "Memory", lambda: block)
            structures = engine._Structures(program, tensors, isa)
        arguments = [structures.arguments(instruction) for instruction in program.instructions]
        structures._memory = Memory()  # scratch memory is not compared
        structures.share_scratch([each for each in arguments if isinstance(each, ConvStruct)], _THREADS)
        values = block.take(clip.nbytes)
        values[:] = clip.reshape(-1).view(np.uint8)
        arguments[0].from_ = values.ctypes.data
        instructions = (OpStruct * len(arguments))()
        for index, (instruction, structure) in enumerate(zip(program.instructions, arguments, strict=True)):
            instructions[index] = OpStruct(OPCODES.index(instruction.kind), block.place(structure))
        address = block.place(instructions)
        before = block.content
        loaded = library.library()
        opened = loaded.ea_open(_THREADS, library.ISA_CODES[isa])
        assert opened is not None
        placed = (OpStruct * len(arguments)).from_address(address)
        loaded.ea_run(opened, placed, len(arguments), None)
        loaded.ea_close(opened)
        header = _HEADER.pack(_ADDRESS, len(before), address, len(arguments), _THREADS)
        name = hashlib.sha256(header + before).hexdigest()[:24]
        (folder / f"{name}.program").write_bytes(header + before + block.content)
    finally:
        block.close()
