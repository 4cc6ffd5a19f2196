"""A program made ready for one machine: memory, packed weights and the engine's structures, and threads that run it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeact.errors import BackendUnavailableError
from edgeact.runtime.native import library as native
from edgeact.runtime.native.memory import Memory
from edgeact.runtime.native.packing import Layout, layouts, packed_weights, windows_of, zero_point_bias
from edgeact.runtime.native.program import (
    Binary,
    Conv,
    Dense,
    Input,
    Pool,
    Program,
    Reduce,
    Restore,
    Round,
    SmallConv,
    Step,
    Store,
    Tensors,
    Unary,
)

__all__ = ["Engine"]

Array = npt.NDArray[np.float32]

_KINDS = ("input", "conv", "pool", "binary", "unary", "reduce", "dense", "small-conv", "round", "restore")
_BINARY = ("mul", "add", "sub", "div", "max")
_UNARY = ("relu", "sigmoid", "tanh", "sqrt", "exp", "copy")
_REDUCE = ("sum", "mean", "max")
_INSTRUCTIONS = {"avx512-vnni": 1, "amx-int8": 2}


class Engine:
    """One network in memory; `run` by one caller at a time, until `close`."""

    def __init__(self, program: Program, tensors: Tensors, threads: int, instructions: str) -> None:
        """Raises BackendUnavailableError where no threads can be started."""
        self._tensors = tensors
        self._memory = Memory()
        self._kept: list[Any] = []  # everything else the engine points to
        self._layouts = layouts(program, tensors)
        self._features = [self._placed(program, index) for index in range(len(program.features))]
        self._arrays = [self._zeros(int(np.prod(size)) * 4).view(np.float32) for size in program.arrays]
        for array, tensor in program.constants.items():
            self._arrays[array][:] = tensors[tensor].reshape(-1)
        made = [self._made(program, step) for step in program.steps]
        self._input: Any = made[0]
        self._steps = (native.StepAt * len(made))()
        for index, (step, structure) in enumerate(zip(program.steps, made, strict=True)):
            address = ctypes.cast(ctypes.pointer(structure), ctypes.c_void_p)
            self._steps[index] = native.StepAt(_KINDS.index(step.kind), address)
        self._kept += made
        self._logits = self._arrays[program.logits]
        self._library = native.library()
        self._engine = self._library.ea_open(threads, _INSTRUCTIONS[instructions])
        if not self._engine:
            raise BackendUnavailableError(f"the native engine could not start {threads} threads; ask for fewer")

    def run(self, clip: Array) -> Array:
        """Logits float32 `(classes,)`, a copy, of a C-contiguous float32 clip."""
        self._input.from_ = clip.ctypes.data
        self._library.ea_run(self._engine, self._steps, len(self._steps), None)
        return self._logits.copy()

    def profile(self, clip: Array) -> npt.NDArray[np.float64]:
        """Microseconds of each step of one run, float64 `(steps,)`."""
        times = np.zeros(len(self._steps))
        self._input.from_ = clip.ctypes.data
        pointer = times.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
        self._library.ea_run(self._engine, self._steps, len(self._steps), pointer)
        return times

    def close(self) -> None:
        """End the threads and release the memory; called once."""
        self._library.ea_close(self._engine)
        self._engine = None

    def _zeros(self, count: int, value: int = 0) -> npt.NDArray[np.uint8]:
        """Aligned memory that lives as long as the engine."""
        memory = self._memory.take(count)
        if value:
            memory[:] = value
        return memory

    def _kept_copy(self, values: npt.NDArray[np.generic]) -> int:
        """The address of an aligned copy."""
        raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        memory = self._zeros(raw.size)
        memory[:] = raw
        return int(memory.ctypes.data)

    def _placed(self, program: Program, index: int) -> Any:
        features, layout = program.features[index], self._layouts[index]
        memory = self._zeros(layout.bytes, features.zero)
        return native.FeaturesAt(
            data=memory.ctypes.data + layout.before,
            time=layout.time,
            row=layout.row,
            pixel=layout.pixel,
            size=features.size,
            channels=features.channels,
            zero=features.zero,
        )

    def _at(self, index: int) -> Any:
        return ctypes.pointer(self._features[index])

    def _address(self, array: int) -> int:
        return int(self._arrays[array].ctypes.data)

    def _made(self, program: Program, step: Step) -> Any:
        makers: dict[str, Callable[[Program, Any], Any]] = {
            "input": self._input_step,
            "conv": self._conv_step,
            "pool": self._pool_step,
            "binary": self._binary_step,
            "unary": self._unary_step,
            "reduce": self._reduce_step,
            "dense": self._dense_step,
            "small-conv": self._small_conv_step,
            "round": self._round_step,
            "restore": self._restore_step,
        }
        return makers[step.kind](program, step)

    def _input_step(self, _program: Program, step: Input) -> Any:
        return native.InputStep(
            channels=step.channels, size=step.size, block=step.block, scale=1 / step.step, to=self._at(step.to)
        )

    def _conv_step(self, program: Program, step: Conv) -> Any:
        weights = self._tensors[step.weights]
        layout: Layout = self._layouts[step.features]
        windows = windows_of(step, weights.shape, layout)
        packed = packed_weights(weights, windows)
        shift = zero_point_bias(weights, program.features[step.features].zero)
        stores = (native.StoreAt * len(step.stores))(*(self._store(program, step, one, shift) for one in step.stores))
        self._kept.append(stores)
        return native.ConvStep(
            from_=self._at(step.features),
            out=step.out,
            stride=step.stride,
            windows=len(windows.offsets),
            offsets=self._kept_copy(windows.offsets),
            quads=self._kept_copy(windows.quads),
            weights=self._kept_copy(packed),
            tiles=len(packed),
            stores=len(step.stores),
            store=stores,
        )

    def _store(self, program: Program, step: Conv, store: Store, shift: npt.NDArray[np.float32]) -> Any:
        scale, bias = (self._tensors[index].astype(np.float32) for index in (store.scale, store.bias))
        summands = (native.SummandAt * 2)()
        for index, one in enumerate(store.summands):
            summands[index] = native.SummandAt(self._at(one.features), one.channel, one.scale)
        to = self._float_features(program, step, store) if store.is_float else self._at(store.to)
        return native.StoreAt(
            first=store.first,
            last=store.last,
            to=to,
            channel=store.channel,
            relu=store.relu,
            relu_sum=store.relu_sum,
            is_float=store.is_float,
            onto=store.onto,
            summands=len(store.summands),
            summand=summands,
            scale=self._kept_copy(scale),
            bias=self._kept_copy(bias - scale * shift[store.first : store.last]),
        )

    def _float_features(self, program: Program, step: Conv, store: Store) -> Any:
        """A float array as the engine's stores see it."""
        channels = program.arrays[store.to][3]
        pixel = channels * 4
        row = step.out[2] * pixel
        view = native.FeaturesAt(
            data=self._address(store.to), time=step.out[1] * row, row=row, pixel=pixel, size=step.out, channels=channels
        )
        self._kept.append(view)
        return ctypes.pointer(view)

    def _pool_step(self, _program: Program, step: Pool) -> Any:
        return native.PoolStep(
            from_=self._at(step.features),
            to=self._at(step.to),
            kernel=step.kernel,
            stride=step.stride,
            pad=step.pad,
        )

    def _binary_step(self, program: Program, step: Binary) -> Any:
        return native.BinaryStep(
            kind=_BINARY.index(step.op),
            size=program.arrays[step.to],
            a=self._address(step.a),
            b=self._address(step.b),
            a_stride=_strides(program.arrays[step.a]),
            b_stride=_strides(program.arrays[step.b]),
            to=self._address(step.to),
        )

    def _unary_step(self, program: Program, step: Unary) -> Any:
        return native.UnaryStep(
            kind=_UNARY.index(step.op),
            count=int(np.prod(program.arrays[step.to])),
            from_=self._address(step.array),
            to=self._address(step.to),
        )

    def _reduce_step(self, program: Program, step: Reduce) -> Any:
        return native.ReduceStep(
            kind=_REDUCE.index(step.op),
            size=program.arrays[step.array],
            over=step.over,
            from_=self._address(step.array),
            to=self._address(step.to),
        )

    def _dense_step(self, _program: Program, step: Dense) -> Any:
        outputs, inputs = self._tensors[step.weights].shape
        return native.DenseStep(
            inputs=inputs,
            outputs=outputs,
            from_=self._address(step.array),
            weights=self._kept_copy(self._tensors[step.weights]),
            bias=self._kept_copy(self._tensors[step.bias]),
            to=self._address(step.to),
        )

    def _small_conv_step(self, program: Program, step: SmallConv) -> Any:
        weights = self._tensors[step.weights]
        *size, channels = program.arrays[step.array]
        return native.SmallConvStep(
            size=tuple(size),
            channels=channels,
            outputs=len(weights),
            kernel=weights.shape[1:4],
            pad=step.pad,
            from_=self._address(step.array),
            weights=self._kept_copy(weights),
            bias=self._kept_copy(self._tensors[step.bias]),
            to=self._address(step.to),
        )

    def _round_step(self, program: Program, step: Round) -> Any:
        return native.RoundStep(
            from_=self._address(step.array),
            channel=step.channel,
            channels=program.arrays[step.array][3],
            scale=1 / step.step,
            to=self._at(step.to),
        )

    def _restore_step(self, program: Program, step: Restore) -> Any:
        return native.RestoreStep(
            from_=self._at(step.features),
            channel=step.channel,
            channels=step.channels,
            scale=step.step,
            to=self._address(step.to),
            to_channel=step.to_channel,
            to_channels=program.arrays[step.to][3],
        )


def _strides(size: tuple[int, int, int, int]) -> tuple[int, ...]:
    """In values, 0 where a size of 1 is repeated."""
    strides = (size[1] * size[2] * size[3], size[2] * size[3], size[3], 1)
    return tuple(0 if one == 1 else stride for one, stride in zip(size, strides, strict=True))
