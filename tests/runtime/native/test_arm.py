"""The engine for aarch64 under emulation gives the bits of this processor; scripts/try_arm.sh replays all programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeact.runtime.native.reading import read_program
from tests.runtime.native.emulation import PROCESSORS, build_replay, replay, why_unavailable
from tests.runtime.native.fuzz import convolution
from tests.runtime.native.making import CLIP_SHAPE, ISAS, NEEDS_ENGINE, every_instruction, floats
from tests.runtime.native.recording import record

pytestmark = NEEDS_ENGINE
WHY = why_unavailable()


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("recordings")
    clip = floats(np.random.default_rng(5), *CLIP_SHAPE)
    programs = (every_instruction(), convolution(3, 1, 9, 33), convolution(3, 2, 9, 40), convolution(3, 1, 20, 33, 4))
    for graph, data in programs:
        for isa in (ISAS[0], ISAS[-1]):
            record(*read_program(graph.to_json(), data), clip, isa, folder)
    return sorted(folder.glob("*.program"))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("replay") / "replay"
    build_replay(path)
    return path


@pytest.mark.slow
@pytest.mark.skipif(WHY is not None, reason=str(WHY))
def test_instruction_sets_of_arm_give_the_same_bits(recordings: list[Path], program: Path) -> None:
    for isa in PROCESSORS:
        done = replay(program, isa, recordings)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{len(recordings)} of {len(recordings)} recordings are bit-identical" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(WHY is not None, reason=str(WHY))
def test_a_difference_of_one_bit_is_seen(recordings: list[Path], program: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed.program"
    content = bytearray(recordings[0].read_bytes())
    content[-1000] ^= 1
    changed.write_bytes(content)
    assert replay(program, "neon", [changed]).returncode == 1
