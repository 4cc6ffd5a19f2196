"""Records by CPU family: where they lie, and that every record in the repository lies where its machine says."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeact.records import Machine
from tests.benchmarks.family import LIMITS, family_of, limits_of, record_folder
from tests.benchmarks.processes import ROOT
from tests.benchmarks.records import BenchReport

RECORDS = sorted((ROOT / "docs" / "measured").glob("*/bench.json"))


def _machine(processor: str, *isa: str, architecture: str = "x86_64") -> Machine:
    return Machine(
        processor=processor, architecture=architecture, cores=2, memory_bytes=1 << 30, isa=isa, operating_system="Linux"
    )


@pytest.mark.parametrize(
    ("machine", "family"),
    [
        (_machine("Intel(R) Xeon(R) Processor", "avx2", "avx_vnni", "avx512_vnni", "amx_int8"), "intel-amx"),
        (_machine("AMD EPYC", "avx2", "avx_vnni", "avx512_vnni"), "amd-avx512-vnni"),
        (_machine("Intel(R) N100", "avx2", "avx_vnni"), "intel-avx-vnni"),
        (_machine("AMD EPYC 7003", "avx2"), "amd-avx2"),
        (_machine("Cortex-A78AE", "asimddp", architecture="aarch64"), "aarch64-other"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_family_of_names_vendor_and_fastest_products(machine: Machine, family: str) -> None:
    assert family_of(machine) == family
    assert record_folder(machine) == Path("docs/measured") / family


def test_limits_of_a_processor_are_those_of_its_fastest_products() -> None:
    assert limits_of(_machine("AMD EPYC 7003", "avx2")) == LIMITS["avx2"]
    assert limits_of(_machine("Cortex-A78AE", architecture="aarch64")).full is None


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.parent.name)
def test_a_record_lies_in_the_folder_of_its_family(record: Path) -> None:
    report = BenchReport.model_validate_json(record.read_bytes())
    assert record.parent == ROOT / record_folder(report.machine)
    assert record.with_suffix(".md").is_file()
