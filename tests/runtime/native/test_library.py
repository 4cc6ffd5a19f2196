"""The instruction set: the fastest, or the one that the environment variable names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from edgeact.errors import BackendUnavailableError
from edgeact.runtime.backends.native import NativeBackend
from edgeact.runtime.native.engine import Engine
from edgeact.runtime.native.library import ISA_CODES, ISA_VARIABLE, Isa, chosen_isa, library_file
from edgeact.runtime.native.reading import read_program
from tests.messages import names
from tests.runtime.native.making import ISAS, NEEDS_ENGINE, every_instruction

pytestmark = NEEDS_ENGINE


def test_the_fastest_instruction_set_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ISA_VARIABLE, raising=False)
    assert chosen_isa() == ISAS[0]
    assert ISA_CODES[ISAS[0]] == max(ISA_CODES[isa] for isa in ISAS)


@pytest.mark.parametrize("isa", ISAS)
def test_the_variable_names_the_instruction_set(isa: Isa, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ISA_VARIABLE, isa)
    assert chosen_isa() == isa
    assert NativeBackend().facts()["instructions"] == isa


@pytest.mark.parametrize("name", ["sse2", *(isa for isa in ISA_CODES if isa not in ISAS)])
def test_an_instruction_set_that_the_processor_lacks_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ISA_VARIABLE, name)
    with pytest.raises(BackendUnavailableError, check=names(ISA_VARIABLE, f"'{name}'")):
        chosen_isa()
    assert f"'{name}'" in str(NativeBackend().why_unavailable())


@pytest.mark.parametrize("isa", [isa for isa in ISA_CODES if isa not in ISAS])
def test_an_engine_does_not_open_for_an_instruction_set_that_the_processor_lacks(isa: Isa) -> None:
    graph, data = every_instruction()
    with pytest.raises(BackendUnavailableError, check=names(f"'{isa}'", *ISAS)):
        Engine(*read_program(graph.to_json(), data), 1, isa)


@pytest.mark.skipif("EDGEACT_TEST_NATIVE_LIBRARY" in os.environ, reason="sanitizers do not run under emulation")
@pytest.mark.skipif(shutil.which("qemu-x86_64-static") is None, reason="qemu-x86_64-static is not installed")
@pytest.mark.parametrize(
    ("processor", "isas"), [("Westmere", 0), ("SandyBridge", 0), ("Haswell", 1 << ISA_CODES["avx2"])]
)
def test_a_processor_without_avx2_loads_the_library_and_has_no_instruction_set(processor: str, isas: int) -> None:
    """Emulated processors end the process at an instruction that they lack."""
    program = f"import ctypes; print(ctypes.CDLL({str(library_file)!r}).ea_isas())"
    command = ["qemu-x86_64-static", "-cpu", processor, os.path.realpath(sys.executable), "-S", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) == isas
