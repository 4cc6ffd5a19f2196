"""Which convolution hosts an addition, in how many runs of channels, and why an addition cannot be fused."""

from __future__ import annotations

import numpy as np
import pytest

from edgeact.export.cpu.native.fuse_adds import fuse_add
from edgeact.export.cpu.native.ir import ChannelSlice, ConvOp, FloatTensor, PoolOp, QuantizedTensor, Slices
from edgeact.export.cpu.native.refusals import Layer, UnmetRequirement
from edgeact.export.cpu.native.schedule import Schedule
from edgeact.native_requirements import NativeRequirement
from edgeact.runtime.native.program import ZeroPoint

SIZE, ONES, ZEROS = (2, 3, 3), (1, 1, 1), (0, 0, 0)
CHANNELS = 8


def _tensor(name: str, zero_point: ZeroPoint = 0) -> QuantizedTensor:
    return QuantizedTensor(Layer(name, "QuantizeLinear"), SIZE, CHANNELS, 0.1, zero_point)


def _whole(tensor: QuantizedTensor) -> Slices:
    return (ChannelSlice(tensor, 0, CHANNELS),)


def _conv(schedule: Schedule, source: QuantizedTensor, name: str) -> ConvOp:
    factors = np.ones(CHANNELS, np.float32)
    weights = np.ones((CHANNELS, 1, 1, 1, CHANNELS), np.int8)
    conv = ConvOp(Layer(name, "Conv"), _whole(source), weights, factors, factors, ONES, ZEROS, SIZE)
    schedule.append(conv)
    return conv


def _stored_conv(schedule: Schedule, source: QuantizedTensor, name: str, zero_point: ZeroPoint = 0) -> ConvOp:
    conv = _conv(schedule, source, name)
    schedule.set_quantized(conv, _tensor(name, zero_point))
    return conv


def _output(conv: ConvOp) -> QuantizedTensor:
    assert conv.quantized is not None
    return conv.quantized


def _pooled(schedule: Schedule, source: QuantizedTensor, name: str) -> QuantizedTensor:
    to = _tensor(name)
    schedule.append(PoolOp(_whole(source), to, ONES, ONES, ZEROS))
    return to


def _unmet(schedule: Schedule, convs: list[ConvOp], addends: list[Slices]) -> NativeRequirement:
    with pytest.raises(UnmetRequirement) as caught:
        fuse_add(schedule, convs, addends, _tensor("sum"), relu=False)
    return caught.value.requirement


def test_an_unquantized_convolution_moves_behind_its_addends() -> None:
    schedule, clip = Schedule(), _tensor("clip")
    early = _conv(schedule, clip, "early")
    late = _stored_conv(schedule, clip, "late")
    fuse_add(schedule, [early], [_whole(_output(late))], _tensor("sum"), relu=True)
    assert schedule.ops() == [late, early]
    (add,) = early.adds
    assert (add.first, add.last, add.addends, add.multiplicity) == (0, CHANNELS, _whole(_output(late)), 1)
    assert add.relu
    assert not late.adds


def test_the_last_convolution_hosts_an_addition_of_quantized_tensors() -> None:
    schedule, clip = Schedule(), _tensor("clip")
    first, second = (_stored_conv(schedule, clip, name) for name in ("first", "second"))
    fuse_add(schedule, [], [_whole(_output(first)), _whole(_output(second))], _tensor("sum"), relu=False)
    assert not first.adds
    assert [add.addends for add in second.adds] == [_whole(_output(first))]


def test_a_tensor_added_twice_has_multiplicity_2() -> None:
    schedule, clip = Schedule(), _tensor("clip")
    conv = _stored_conv(schedule, clip, "conv")
    fuse_add(schedule, [], [_whole(_output(conv)), _whole(_output(conv))], _tensor("sum"), relu=False)
    assert [(add.multiplicity, add.addends) for add in conv.adds] == [(2, ())]


def test_three_different_inputs_are_divided_between_two_convolutions() -> None:
    schedule, clip = Schedule(), _tensor("clip")
    first, second, third = (_stored_conv(schedule, clip, name) for name in ("first", "second", "third"))
    inputs = [_whole(_output(conv)) for conv in (first, second, third)]
    fuse_add(schedule, [], inputs, _tensor("sum"), relu=False)
    assert not first.adds
    assert [(add.addends, add.accumulate) for add in second.adds] == [(_whole(_output(first)), False)]
    assert [(add.addends, add.accumulate) for add in third.adds] == [((), True)]


def test_signed_inputs_are_not_accumulated_in_bytes() -> None:
    schedule, clip = Schedule(), _tensor("clip")
    convs = [_stored_conv(schedule, clip, name, zero_point=128) for name in ("first", "second", "third")]
    fuse_add(schedule, [], [_whole(_output(conv)) for conv in convs], _tensor("sum"), relu=False)
    assert [len(add.addends) for add in convs[2].adds] == [2]
    assert not convs[1].adds


def test_channels_are_fused_in_contiguous_runs() -> None:
    schedule, clip = Schedule(), _tensor("clip")
    conv, other = _conv(schedule, clip, "conv"), _tensor("other")
    pooled = _pooled(schedule, clip, "pooled")
    schedule.append(PoolOp(_whole(clip), other, ONES, ONES, ZEROS))
    swapped = (ChannelSlice(pooled, 3, 8), ChannelSlice(other, 0, 3))
    total = FloatTensor((*SIZE, CHANNELS))
    fuse_add(schedule, [conv], [swapped], total, relu=False)
    assert [(add.first, add.last, add.channel) for add in conv.adds] == [(0, 5, 0), (5, 8, 5)]
    assert [add.addends for add in conv.adds] == [(swapped[0],), (swapped[1],)]


def test_more_than_three_inputs_are_refused() -> None:
    schedule, clip = Schedule(), _tensor("clip")
    outputs = [_whole(_output(_stored_conv(schedule, clip, str(index)))) for index in range(4)]
    assert _unmet(schedule, [], outputs) == "fused-add-inputs"


def test_an_unquantized_convolution_with_another_reader_is_refused() -> None:
    schedule, clip = Schedule(), _tensor("clip")
    conv = _conv(schedule, clip, "conv")
    conv.unquantized = FloatTensor((*SIZE, CHANNELS))
    assert _unmet(schedule, [conv], [_whole(_pooled(schedule, clip, "pooled"))]) == "unshared-conv"


def test_an_addition_without_a_convolution_is_refused() -> None:
    schedule, clip = Schedule(), _tensor("clip")
    inputs = [_whole(_pooled(schedule, clip, name)) for name in ("a", "b")]
    assert _unmet(schedule, [], inputs) == "conv-before-add"


def test_an_addend_that_is_computed_after_every_convolution_is_refused() -> None:
    schedule, clip = Schedule(), _tensor("clip")
    conv = _stored_conv(schedule, clip, "conv")
    pooled = _pooled(schedule, _output(conv), "pooled")
    assert _unmet(schedule, [], [_whole(_output(conv)), _whole(pooled)]) == "conv-before-add"


def test_different_channels_of_one_convolution_are_refused() -> None:
    schedule, clip = Schedule(), _tensor("clip")
    output = _output(_stored_conv(schedule, clip, "conv"))
    rotated = (ChannelSlice(output, 4, 8), ChannelSlice(output, 0, 4))
    assert _unmet(schedule, [], [_whole(output), rotated]) == "aligned-channels"
