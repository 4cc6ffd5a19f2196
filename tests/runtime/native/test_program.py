"""The schema of native programs, and the file of their tensors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeact.runtime.native.program import Program, join_tensors
from tests.runtime.native.making import whole

SHAPES = arrays.array_shapes(min_dims=1, max_dims=5, max_side=5)
TENSORS = st.one_of(
    arrays.arrays(np.int8, SHAPES), arrays.arrays(np.float32, SHAPES, elements=st.floats(-1e6, 1e6, width=32))
)


@given(st.lists(TENSORS, min_size=1, max_size=6))
def test_tensors_lie_apart_aligned_and_as_they_were(tensors: list[np.ndarray]) -> None:
    refs, data = join_tensors(tensors)
    end = 0
    for ref, tensor in zip(refs, tensors, strict=True):
        assert ref.offset % 64 == 0
        assert ref.offset >= end
        end = ref.offset + tensor.nbytes
        held = np.frombuffer(data, ref.dtype, tensor.size, ref.offset).reshape(ref.shape)
        np.testing.assert_array_equal(held, tensor)
    assert len(data) >= end


def test_a_tensor_in_memory_of_another_order_is_written_in_its_own() -> None:
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    (ref,), data = join_tensors([turned])
    assert ref.shape == (3, 2)
    np.testing.assert_array_equal(np.frombuffer(data, np.float32, 6).reshape(3, 2), turned)


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.float16])
def test_no_other_types_are_written(dtype: type) -> None:
    with pytest.raises(ValueError, match="dtype"):
        join_tensors([np.zeros(3, dtype)])


def test_a_program_comes_back_from_json_as_it_was() -> None:
    program, _ = whole()
    assert Program.model_validate_json(program.model_dump_json()) == program
