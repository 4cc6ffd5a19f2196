"""A program prepared for this machine: its memory, packed weights, and the structures and threads that run it."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgeact.errors import BackendUnavailableError, ModelError
from edgeact.runtime.native import library as native
from edgeact.runtime.native.library import Isa
from edgeact.runtime.native.memory import Memory
from edgeact.runtime.native.packing import (
    buffer_layouts,
    conv_quads,
    conv_windows,
    frame_windows,
    pack_weights,
    zero_point_bias,
)
from edgeact.runtime.native.program import (
    BINARY_OPERATORS,
    OPCODES,
    REDUCTIONS,
    UNARY_OPERATORS,
    Binary,
    Conv,
    Dense,
    Dequantize,
    Epilogue,
    FloatConv,
    FloatPool,
    Input,
    Instruction,
    Pool,
    Program,
    Quantize,
    Reduce,
    Size3,
    Size4,
    Tensors,
    Unary,
)

__all__ = ["Engine"]

Array = npt.NDArray[np.float32]
BufferPointer: TypeAlias = "ctypes._Pointer[native.BufferStruct]"


class Engine:
    """One network in memory. Only one caller at a time may `run` it; `close` ends its threads."""

    def __init__(self, program: Program, tensors: Tensors, threads: int, isa: Isa) -> None:
        """Prepare `program`, which `read_program` has checked.

        Raises BackendUnavailableError without threads or if this processor lacks `isa`, and ModelError if a layer
        exceeds memory or float32.
        """
        if isa not in (supported := native.supported_isas()):
            raise BackendUnavailableError(
                f"native: expected an instruction set of this processor ({', '.join(supported)}), got '{isa}'; "
                "open the program for one of them"
            )
        structures = _Structures(program, tensors, isa)
        self._structures = structures  # owns all memory that the engine's pointers refer to
        arguments = [structures.arguments(instruction) for instruction in program.instructions]
        structures.share_scratch([each for each in arguments if isinstance(each, native.ConvStruct)], threads)
        self._input = arguments[0]
        self._instructions = (native.OpStruct * len(arguments))()
        for index, (instruction, structure) in enumerate(zip(program.instructions, arguments, strict=True)):
            address = ctypes.cast(ctypes.pointer(structure), ctypes.c_void_p)
            self._instructions[index] = native.OpStruct(OPCODES.index(instruction.kind), address)
        self._arguments = arguments
        self._logits = structures.arrays[program.logits]
        self._library = native.library()
        engine = self._library.ea_open(threads, native.ISA_CODES[isa])
        if engine is None:
            raise BackendUnavailableError(f"native: the engine could not start {threads} threads; ask for fewer")
        self._engine = engine

    def run(self, clip: Array) -> Array:
        """Return logits float32 `(classes,)`, owned by the caller, of a C-contiguous float32 clip (C, T, H, W)."""
        self._input.from_ = clip.ctypes.data
        self._library.ea_run(self._engine, self._instructions, len(self._instructions), None)
        return self._logits.copy()

    def profile(self, clip: Array) -> npt.NDArray[np.float64]:
        """Return the microseconds of each instruction in one run, float64 `(instructions,)`."""
        times = np.zeros(len(self._instructions))
        self._input.from_ = clip.ctypes.data
        pointer = times.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
        self._library.ea_run(self._engine, self._instructions, len(self._instructions), pointer)
        return times

    def close(self) -> None:
        """End the threads; must be called exactly once."""
        self._library.ea_close(self._engine)
        del self._engine


class _Structures:
    """The C structures of a program, with the memory of its buffers, arrays and packed weights."""

    def __init__(self, program: Program, tensors: Tensors, isa: Isa) -> None:
        self._program = program
        self._isa = native.ISA_CODES[isa]
        self._tensors = tensors
        self._memory = Memory()
        self._referenced: list[object] = []  # structures that only C points to
        self._layouts = buffer_layouts(program, tensors)
        self._buffers = [self._buffer(index) for index in range(len(program.buffers))]
        self.arrays = [self._memory.take(math.prod(size) * 4).view(np.float32) for size in program.arrays]
        """The values of each array, flat float32."""
        for array, tensor in program.constants.items():
            self.arrays[array][:] = tensors[tensor].reshape(-1)

    @functools.singledispatchmethod
    def arguments(self, instruction: Instruction) -> ctypes.Structure:
        """Return the C structure of an instruction."""
        raise NotImplementedError(type(instruction))

    @arguments.register
    def _(self, instruction: Input) -> ctypes.Structure:
        return native.InputStruct(
            channels=instruction.channels,
            size=instruction.size,
            block=instruction.block,
            scale=1 / instruction.scale,
            to=self._pointer(instruction.to),
        )

    @arguments.register
    def _(self, instruction: Conv) -> ctypes.Structure:
        weights = self._tensors[instruction.weights]
        buffer = self._program.buffers[instruction.buffer]
        windows = conv_windows(instruction, weights.shape, self._layouts[instruction.buffer])
        packed, (quads, window_quads) = pack_weights(weights, windows), conv_quads(windows)
        input_bias = zero_point_bias(weights, buffer.zero_point)
        epilogues = (native.EpilogueStruct * len(instruction.epilogues))(
            *(self._epilogue(instruction.out_size, epilogue, input_bias) for epilogue in instruction.epilogues)
        )
        self._referenced.append(epilogues)
        structure = native.ConvStruct(
            from_=self._pointer(instruction.buffer),
            out_size=instruction.out_size,
            stride=instruction.stride,
            kernel=weights.shape[1:4],
            padding=instruction.padding,
            channel=instruction.channel,
            inputs=weights.shape[4],
            outputs=len(weights),
            windows=len(windows.offsets),
            offsets=self._copy(windows.offsets),
            quads=self._copy(quads),
            window_quads=self._copy(window_quads),
            frame_windows=self._copy(frame_windows(instruction, weights.shape, buffer, len(windows.offsets))),
            weights=self._copy(packed),
            tiles=len(packed),
            epilogues=len(instruction.epilogues),
            epilogue=epilogues,
        )
        self._set_form(structure, np.ascontiguousarray(weights))
        return structure

    def _set_form(self, conv: native.ConvStruct, weights: npt.NDArray[np.generic]) -> None:
        """Choose the form of weights for the instruction set, and convert to it."""
        library = native.library()
        conv.form = library.ea_choose_form(conv, self._isa)
        converted = np.empty(library.ea_pack_bytes(conv), np.uint8)
        used = library.ea_pack(conv, weights.ctypes.data, converted.ctypes.data)
        if used < 0:
            raise BackendUnavailableError("native: no memory to convert the weights of a convolution; free some")
        if used > 0:
            conv.packed = self._copy(converted[:used])
        conv.scratch_bytes = library.ea_scratch_bytes(conv)

    def share_scratch(self, convs: Sequence[native.ConvStruct], threads: int) -> None:
        """Give all convolutions the same scratch memory: one runs at a time."""
        size = max((conv.scratch_bytes for conv in convs), default=0)
        memory = self._memory.take(size * threads)
        for conv in convs:
            conv.scratch, conv.scratch_bytes = memory.ctypes.data, size

    @arguments.register
    def _(self, instruction: Pool) -> ctypes.Structure:
        return native.PoolStruct(
            from_=self._pointer(instruction.buffer),
            to=self._pointer(instruction.to),
            kernel=instruction.kernel,
            stride=instruction.stride,
            padding=instruction.padding,
        )

    @arguments.register
    def _(self, instruction: Binary) -> ctypes.Structure:
        sizes = self._program.arrays
        return native.BinaryStruct(
            op=BINARY_OPERATORS.index(instruction.op),
            size=sizes[instruction.to],
            a=self._address(instruction.a),
            b=self._address(instruction.b),
            a_stride=_broadcast_strides(sizes[instruction.a]),
            b_stride=_broadcast_strides(sizes[instruction.b]),
            to=self._address(instruction.to),
        )

    @arguments.register
    def _(self, instruction: Unary) -> ctypes.Structure:
        return native.UnaryStruct(
            op=UNARY_OPERATORS.index(instruction.op),
            count=math.prod(self._program.arrays[instruction.to]),
            from_=self._address(instruction.array),
            to=self._address(instruction.to),
        )

    @arguments.register
    def _(self, instruction: Reduce) -> ctypes.Structure:
        return native.ReduceStruct(
            op=REDUCTIONS.index(instruction.op),
            size=self._program.arrays[instruction.array],
            axes=instruction.axes,
            from_=self._address(instruction.array),
            to=self._address(instruction.to),
        )

    @arguments.register
    def _(self, instruction: Dense) -> ctypes.Structure:
        weights = self._tensors[instruction.weights]
        outputs, inputs = weights.shape
        return native.DenseStruct(
            inputs=inputs,
            outputs=outputs,
            from_=self._address(instruction.array),
            weights=self._copy(weights),
            bias=self._copy(self._tensors[instruction.bias]),
            to=self._address(instruction.to),
        )

    @arguments.register
    def _(self, instruction: FloatConv) -> ctypes.Structure:
        weights = self._tensors[instruction.weights]
        *size, channels = self._program.arrays[instruction.array]
        return native.FloatConvStruct(
            size=tuple(size),
            channels=channels,
            outputs=len(weights),
            kernel=weights.shape[1:4],
            padding=instruction.padding,
            from_=self._address(instruction.array),
            weights=self._copy(weights),
            bias=self._copy(self._tensors[instruction.bias]),
            to=self._address(instruction.to),
        )

    @arguments.register
    def _(self, instruction: FloatPool) -> ctypes.Structure:
        *size, channels = self._program.arrays[instruction.array]
        return native.FloatPoolStruct(
            size=tuple(size),
            channels=channels,
            out_size=self._program.arrays[instruction.to][:3],
            kernel=instruction.kernel,
            stride=instruction.stride,
            padding=instruction.padding,
            from_=self._address(instruction.array),
            to=self._address(instruction.to),
        )

    @arguments.register
    def _(self, instruction: Quantize) -> ctypes.Structure:
        return native.QuantizeStruct(
            from_=self._address(instruction.array),
            channel=instruction.channel,
            channels=self._program.arrays[instruction.array][3],
            scale=1 / instruction.scale,
            to=self._pointer(instruction.to),
        )

    @arguments.register
    def _(self, instruction: Dequantize) -> ctypes.Structure:
        return native.DequantizeStruct(
            from_=self._pointer(instruction.buffer),
            channel=instruction.channel,
            channels=instruction.channels,
            scale=instruction.scale,
            to=self._address(instruction.to),
            to_channel=instruction.to_channel,
            to_channels=self._program.arrays[instruction.to][3],
        )

    def _epilogue(self, out_size: Size3, epilogue: Epilogue, input_bias: Array) -> native.EpilogueStruct:
        scale, bias = (self._tensors[index].astype(np.float32) for index in (epilogue.scale, epilogue.bias))
        with np.errstate(over="ignore", invalid="ignore"):
            bias = bias - scale * input_bias[epilogue.first : epilogue.last]
        if not np.isfinite(bias).all():
            raise ModelError(
                f"native program: the bias of outputs {epilogue.first} to {epilogue.last} of a convolution exceeds "
                "float32 with the input's zero point; export the model again"
            )
        summands = (native.SummandStruct * 2)()
        for index, summand in enumerate(epilogue.summands):
            summands[index] = native.SummandStruct(self._pointer(summand.buffer), summand.channel, summand.scale)
        return native.EpilogueStruct(
            first=epilogue.first,
            last=epilogue.last,
            to=self._float_view(out_size, epilogue.to) if epilogue.is_float else self._pointer(epilogue.to),
            channel=epilogue.channel,
            relu=epilogue.relu,
            relu_after_sum=epilogue.relu_after_sum,
            is_float=epilogue.is_float,
            accumulate=epilogue.accumulate,
            summands=len(epilogue.summands),
            summand=summands,
            scale=self._copy(scale),
            bias=self._copy(bias),
        )

    def _buffer(self, index: int) -> native.BufferStruct:
        buffer, layout = self._program.buffers[index], self._layouts[index]
        memory = self._memory.take(layout.total_bytes)
        if buffer.zero_point:
            memory[:] = buffer.zero_point
        return native.BufferStruct(
            data=memory.ctypes.data + layout.lead_bytes,
            time_stride=layout.time_stride,
            row_stride=layout.row_stride,
            pixel_stride=layout.pixel_stride,
            size=buffer.size,
            channels=buffer.channels,
            zero_point=buffer.zero_point,
        )

    def _float_view(self, out_size: Size3, array: int) -> BufferPointer:
        """Describe an array as the destination of an epilogue."""
        channels = self._program.arrays[array][3]
        pixel_stride = channels * 4
        row_stride = out_size[2] * pixel_stride
        view = native.BufferStruct(
            data=self._address(array),
            time_stride=out_size[1] * row_stride,
            row_stride=row_stride,
            pixel_stride=pixel_stride,
            size=out_size,
            channels=channels,
        )
        self._referenced.append(view)
        return ctypes.pointer(view)

    def _pointer(self, buffer: int) -> BufferPointer:
        return ctypes.pointer(self._buffers[buffer])

    def _address(self, array: int) -> int:
        return int(self.arrays[array].ctypes.data)

    def _copy(self, values: npt.NDArray[np.generic]) -> int:
        """Copy `values` to aligned memory and return its address."""
        raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        memory = self._memory.take(raw.size)
        memory[:] = raw
        return int(memory.ctypes.data)


def _broadcast_strides(size: Size4) -> tuple[int, ...]:
    """Return strides in elements, 0 for an axis of size 1."""
    strides = (size[1] * size[2] * size[3], size[2] * size[3], size[3], 1)
    return tuple(0 if extent == 1 else stride for extent, stride in zip(size, strides, strict=True))
