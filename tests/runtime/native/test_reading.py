"""Programs that would lead the engine out of its memory, or to wrong results, are refused before it sees them."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeact.errors import ModelError
from edgeact.runtime.native import engine
from edgeact.runtime.native.packing import layouts
from edgeact.runtime.native.program import Features, TensorRef
from edgeact.runtime.native.reading import read_program
from tests.runtime.native.making import CLIP_SHAPE, INSTRUCTIONS, NEEDS_ENGINE, After, Before, whole

PROGRAM, DATA = whole()
GRAPH: dict[str, Any] = json.loads(PROGRAM.model_dump_json())
KINDS = [step["kind"] for step in GRAPH["steps"]]
CONV, POOL, DENSE = KINDS.index("conv"), KINDS.index("pool"), KINDS.index("dense")
SMALL, INPUT, ROUND, RESTORE = KINDS.index("small-conv"), 0, KINDS.index("round"), KINDS.index("restore")
BINARY, UNARY, REDUCE = KINDS.index("binary"), KINDS.index("unary"), KINDS.index("reduce")
STORE = ("steps", CONV, "stores", 0)
FLOAT_STORE = ("steps", CONV, "stores", 1)
Path = tuple[str | int, ...]


def _changed(changes: dict[Path, Any]) -> dict[str, Any]:
    graph = copy.deepcopy(GRAPH)
    for path, value in changes.items():
        place: Any = graph
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
    return graph


def _read(graph: dict[str, Any], data: bytes = DATA) -> Any:
    return read_program(json.dumps(graph).encode(), data)


def test_every_kind_of_step_is_in_the_program_that_is_changed() -> None:
    program, tensors = _read(GRAPH)
    assert program == PROGRAM
    assert {step.kind for step in program.steps} == set(engine._KINDS)
    assert [tensor.shape for tensor in tensors] == [ref.shape for ref in program.tensors]


ONE_VALUE: dict[str, tuple[Path, Any]] = {
    "another version": (("format_version",), "2"),
    "an unknown field": (("colour",), 1),
    "an unknown field of a step": (("steps", CONV, "colour"), 1),
    "an unknown kind": (("steps", CONV, "kind"), "spiral"),
    "no steps": (("steps",), []),
    "features beyond": (("steps", CONV, "features"), 99),
    "features below": (("steps", CONV, "features"), -1),
    "a tensor beyond": (("steps", CONV, "weights"), 99),
    "an array beyond": (("steps", UNARY, "to"), 99),
    "logits beyond": (("logits",), 99),
    "logits that are no vector": (("logits",), GRAPH["steps"][SMALL]["to"]),
    "a zero point between": (("features", 0, "zero"), 64),
    "a tensor's offset beyond": (("tensors", 0, "offset"), 1 << 40),
    "a tensor's offset beyond all": (("tensors", 0, "offset"), 1 << 70),
    "a tensor's offset between": (("tensors", 0, "offset"), 32),
    "a tensor's shape beyond": (("tensors", 0, "shape"), [1 << 20]),
    "a tensor's shape that comes to 0 in 64 bits": (("tensors", 0, "shape"), [1 << 22, 1 << 21, 1 << 21]),
    "a tensor's shape that comes to -1 in 64 bits": (("tensors", 0, "shape"), [274177, 67280421310721 - 1]),
    "an empty tensor": (("tensors", 0, "shape"), [0]),
    "another type": (("tensors", 0, "dtype"), "float64"),
    "features of no channels": (("features", 0, "channels"), 0),
    "features of no pixels": (("features", 0, "size"), [2, 0, 3]),
    "features that come to 0 in 64 bits": (("features", 1, "size"), [1 << 22, 1 << 21, 1 << 21]),
    "features of 2 GiB": (("features", 1, "size"), [1 << 10, 1 << 10, 1 << 10]),
    "an array that comes to 0 in 64 bits": (("arrays", 0), [1 << 20, 1 << 20, 1 << 20, 4]),
    "an array of 2 GiB": (("arrays", 0), [1 << 9, 1 << 10, 1 << 10, 1]),
    "an array of no values": (("arrays", 0), [2, 3, 0, 5]),
    "a constant of another size": (("constants",), {"1": 0}),
    "a constant in int8": (("constants",), {"0": GRAPH["steps"][CONV]["weights"]}),
    "a constant below": (("constants",), {"-1": 0}),
    "channels beyond the features": (("steps", CONV, "channel"), 3),
    "weights in float": (("steps", CONV, "weights"), GRAPH["steps"][SMALL]["weights"]),
    "weights of other axes": (("steps", CONV, "weights"), 0),
    "no stride": (("steps", CONV, "stride"), [1, 0, 1]),
    "a stride beyond": (("steps", CONV, "stride"), [1, 1, 17]),
    "padding as large as the kernel": (("steps", CONV, "pad"), [3, 1, 1]),
    "negative padding": (("steps", CONV, "pad"), [-1, 1, 1]),
    "outputs behind the features": (("steps", CONV, "out"), [5, 3, 3]),
    "outputs beyond 32 bits": (("steps", CONV, "out"), [(1 << 32) + 2, 3, 3]),
    "no outputs": (("steps", CONV, "out"), [0, 3, 3]),
    "no stores": (("steps", CONV, "stores"), []),
    "outputs beyond the weights": ((*STORE, "last"), 19),
    "outputs before the first": ((*STORE, "first"), 18),
    "a scale of another length": ((*STORE, "scale"), GRAPH["steps"][CONV]["stores"][1]["scale"]),
    "a bias in int8": ((*STORE, "bias"), GRAPH["steps"][CONV]["weights"]),
    "a store beyond the features": ((*STORE, "channel"), 3),
    "a store to features of another size": ((*STORE, "to"), 3),
    "a store to what is read": ((*STORE, "to"), GRAPH["steps"][CONV]["features"]),
    "a store beyond the array": ((*FLOAT_STORE, "channel"), 2),
    "a store to an array of another size": ((*FLOAT_STORE, "to"), GRAPH["steps"][SMALL]["to"]),
    "onto in float": ((*FLOAT_STORE, "onto"), True),
    "three summands": ((*STORE, "summands"), GRAPH["steps"][CONV]["stores"][0]["summands"] * 3),
    "a summand beyond its features": ((*STORE, "summands", 0, "channel"), 3),
    "a summand of another size": ((*STORE, "summands", 0, "features"), 3),
    "a summand that is written": ((*STORE, "summands", 0, "features"), GRAPH["steps"][CONV]["stores"][0]["to"]),
    "a summand's factor beyond float32": ((*STORE, "summands", 0, "scale"), 1e39),
    "a pool to features of other channels": (("steps", POOL, "to"), 4),
    "a pool to what it reads": (("steps", POOL, "to"), GRAPH["steps"][POOL]["features"]),
    "a pool's window in nothing": (("steps", POOL, "stride"), [4, 1, 1]),
    "a pool's window before everything": (("steps", POOL, "pad"), [1, 0, 0]),
    "a pool without stride": (("steps", POOL, "stride"), [0, 1, 1]),
    "a pool's kernel beyond 32 bits": (("steps", POOL, "kernel"), [1, 1 << 33, 2]),
    "sizes that do not repeat": (("steps", BINARY, "b"), 0),
    "a result smaller than an operand": (("steps", BINARY, "to"), GRAPH["steps"][REDUCE]["to"]),
    "a copy to an array of another size": (("steps", UNARY, "to"), 0),
    "a reduction that leaves another size": (("steps", REDUCE, "over"), [True, True, False, False]),
    "a reduction of itself": (("steps", REDUCE, "to"), GRAPH["steps"][REDUCE]["array"]),
    "a product with other inputs": (("steps", DENSE, "array"), 0),
    "a product with itself": (("steps", DENSE, "to"), GRAPH["steps"][DENSE]["array"]),
    "a product's bias of another length": (("steps", DENSE, "bias"), 0),
    "a product with int8": (("steps", DENSE, "weights"), GRAPH["steps"][CONV]["weights"]),
    "a small convolution of itself": (("steps", SMALL, "to"), GRAPH["steps"][SMALL]["array"]),
    "a small convolution's padding": (("steps", SMALL, "pad"), [3, 0, 1]),
    "a small convolution's weights": (("steps", SMALL, "weights"), GRAPH["steps"][CONV]["weights"]),
    "a small convolution's bias": (("steps", SMALL, "bias"), 0),
    "a rounded array of another size": (("steps", ROUND, "array"), GRAPH["steps"][SMALL]["to"]),
    "a rounded array beyond the channels": (("steps", ROUND, "channel"), 1),
    "a step of 0": (("steps", ROUND, "step"), 0),
    "a step without a reciprocal in float32": (("steps", ROUND, "step"), 1e-40),
    "a step beyond float32": (("steps", ROUND, "step"), 1e39),
    "restored channels beyond": (("steps", RESTORE, "channel"), 15),
    "restored channels beyond the array": (("steps", RESTORE, "to_channel"), 3),
    "restored to another size": (("steps", RESTORE, "features"), GRAPH["steps"][CONV]["features"]),
    "a clip of other channels": (("steps", INPUT, "channels"), 4),
    "a clip of another size": (("steps", INPUT, "size"), [2, 8, 6]),
    "a block of nothing": (("steps", INPUT, "block"), [1, 2, 0]),
    "blocks of another size": (("steps", INPUT, "block"), [1, 2, 1]),
    "the clip last": (("steps",), GRAPH["steps"][::-1]),
    "the clip twice": (("steps",), [GRAPH["steps"][0], *GRAPH["steps"]]),
    "no clip": (("steps",), GRAPH["steps"][1:]),
}


@pytest.mark.parametrize("case", ONE_VALUE)
def test_one_wrong_value_is_refused(case: str) -> None:
    path, value = ONE_VALUE[case]
    with pytest.raises(ModelError, match=r"native program .*; export it again"):
        _read(_changed({path: value}))


def test_onto_signed_features_is_refused() -> None:
    to = GRAPH["steps"][CONV]["stores"][0]["to"]
    _read(_changed({(*STORE, "onto"): True}))
    pooled = GRAPH["steps"][POOL]["to"]
    signed: dict[Path, Any] = {("features", to, "zero"): 128, ("features", pooled, "zero"): 128}
    _read(_changed(signed))
    with pytest.raises(ModelError, match="conv"):
        _read(_changed({**signed, (*STORE, "onto"): True}))


def test_more_stores_than_the_engine_takes_are_refused() -> None:
    """It holds 24 for two tiles of 16 outputs, and would leave out the others in silence."""
    one = {**GRAPH["steps"][CONV]["stores"][1], "first": 0, "last": 4}
    wide: Path = ("arrays", one["to"])
    stores = [{**one, "channel": 4 * index} for index in range(25)]
    size = [*GRAPH["arrays"][one["to"]][:3], 100]
    _read(_changed({("steps", CONV, "stores"): stores[:24], wide: size}))
    with pytest.raises(ModelError, match="conv"):
        _read(_changed({("steps", CONV, "stores"): stores, wide: size}))


def test_stores_over_each_other_are_refused() -> None:
    """What lies there in the end would depend on which thread comes last."""
    one = GRAPH["steps"][CONV]["stores"][1]
    with pytest.raises(ModelError, match="conv"):
        _read(_changed({("steps", CONV, "stores"): [one, {**one, "channel": 0, "first": 0, "last": 4}]}))


def test_weights_of_no_channels_are_refused() -> None:
    """The engine divides by the number of windows."""
    weights: Path = ("tensors", GRAPH["steps"][CONV]["weights"], "shape")
    with pytest.raises(ModelError, match="empty"):
        _read(_changed({weights: [18, 3, 3, 3, 0]}))


def test_blocks_wider_than_the_engines_line_are_refused() -> None:
    """It deals out 1024 pixels at a time, and would never come to an end."""
    wide: dict[Path, Any] = {("features", 0, "channels"): 3 * 1025, ("features", 0, "size"): [2, 6, 1]}
    clip: dict[Path, Any] = {("steps", INPUT, "size"): [2, 6, 1025], ("steps", INPUT, "block"): [1, 1, 1025]}
    steps: dict[Path, Any] = {("steps", CONV, "features"): 1, ("steps", CONV, "channel"): 0}
    with pytest.raises(ModelError, match="step 0, input"):
        _read(_changed({**wide, **clip, **steps}))


def test_features_whose_margins_exceed_32_bits_are_refused() -> None:
    """They take less than 2 GiB themselves, but the engine's distances are int32."""
    program, tensors = _read(GRAPH)
    conv = program.steps[CONV]
    large = Features(size=(1 << 13, 1 << 12, 1), channels=60, zero=0)
    features = tuple(large if index == conv.features else one for index, one in enumerate(program.features))
    with pytest.raises(ModelError, match=r"features 0 of the native program take \d+ bytes"):
        layouts(program.model_copy(update={"features": features}), tensors)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_tensor_that_is_not_finite_is_refused(value: float) -> None:
    ref: TensorRef = PROGRAM.tensors[GRAPH["steps"][DENSE]["weights"]]
    data = bytearray(DATA)
    data[ref.offset : ref.offset + 4] = np.float32(value).tobytes()
    with pytest.raises(ModelError, match="a tensor is not finite"):
        _read(GRAPH, bytes(data))


@given(st.integers(0, max(ref.offset for ref in PROGRAM.tensors)))
def test_a_file_that_is_cut_off_is_refused(length: int) -> None:
    with pytest.raises(ModelError, match="native program"):
        _read(GRAPH, DATA[:length])


@given(st.binary(max_size=300))
def test_anything_else_is_no_program(graph: bytes) -> None:
    with pytest.raises(ModelError, match="not a native program of this version"):
        read_program(graph, DATA)


def _numbers(value: Any, path: Path = ()) -> list[Path]:
    if isinstance(value, dict):
        return [found for key, one in value.items() for found in _numbers(one, (*path, key))]
    if isinstance(value, list):
        return [found for index, one in enumerate(value) for found in _numbers(one, (*path, index))]
    return [path] if isinstance(value, int | float) else []


SMALL_NUMBERS = st.integers(-1, 40)
NUMBERS = st.one_of(SMALL_NUMBERS, st.sampled_from([64, 128, 1023, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 32, 1 << 63]))
CHANGES = st.dictionaries(st.sampled_from(_numbers(GRAPH)), NUMBERS, min_size=1, max_size=3)


@NEEDS_ENGINE
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(CHANGES, st.sampled_from([Before, After]))
def test_what_is_not_refused_stays_within_its_memory(changes: dict[Path, Any], memory: type) -> None:
    """Any three numbers changed: a touch of what lies before or behind ends the process."""
    try:
        program, tensors = _read(_changed(changes))
    except ModelError:
        return
    clip = program.steps[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "Memory", memory)
        opened = engine.Engine(program, tensors, 2, INSTRUCTIONS[len(changes) % len(INSTRUCTIONS)])
        try:
            opened.run(np.ones((clip.channels, *clip.size), np.float32))
        finally:
            opened.close()


def test_the_program_is_for_clips_of_the_shape_that_tests_use() -> None:
    assert (PROGRAM.steps[0].channels, *PROGRAM.steps[0].size) == CLIP_SHAPE  # type: ignore[union-attr]
