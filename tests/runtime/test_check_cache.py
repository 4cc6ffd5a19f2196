"""Results of self-checks are kept, and forgotten as soon as anything changes that they depend on."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from edgeact import runtime
from edgeact.devices import machine_identity
from edgeact.runtime import FakeBackend
from edgeact.runtime.check_cache import OpenedWith, read_check, write_check
from edgeact.self_check_results import SelfCheck, StageResult
from tests.bench.bundles import make_checked_bundle

OPENED = OpenedWith("0" * 64, "int8", FakeBackend(), None, 2)
RESULT = SelfCheck(
    artifact="int8",
    backend="fake",
    device="CPU",
    stages=(StageResult(stage="network", figure=41.0, limit=20.0), StageResult(stage="decode", unchecked="no-opencv")),
)


class Newer(FakeBackend):
    def version(self) -> str:
        return "1"


def test_a_result_is_kept() -> None:
    assert read_check(OPENED) is None
    write_check(OPENED, RESULT)
    assert read_check(OPENED) == RESULT


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": "1" * 64},
        {"artifact": "fp32"},
        {"device": "GPU"},
        {"threads": 1},
        {"backend": Newer()},
        {"backend": FakeBackend(properties={"sm": "8.9"})},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_any_change_means_another_check(changes: dict[str, object]) -> None:
    write_check(OPENED, RESULT)
    assert read_check(replace(OPENED, **changes)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("variable", ["ONEDNN_MAX_CPU_ISA", "EDGEACT_NATIVE_ISA"])
def test_a_limit_of_instruction_sets_means_another_check(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    write_check(OPENED, RESULT)
    monkeypatch.setenv(variable, "AVX2")
    assert read_check(OPENED) is None


@pytest.mark.parametrize("content", [b"", b"{broken", b"[]", b'{"artifact": "int8"}', bytes(100)])
def test_an_unreadable_result_means_another_check(cache: Path, content: bytes) -> None:
    write_check(OPENED, RESULT)
    (kept,) = (cache / "checks").iterdir()
    kept.write_bytes(content)
    assert read_check(OPENED) is None
    write_check(OPENED, RESULT)
    assert read_check(OPENED) == RESULT


def test_a_cache_that_is_not_writable_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    occupied = tmp_path / "file"
    occupied.write_bytes(b"")
    monkeypatch.setenv("EDGEACT_CACHE", str(occupied))
    path = make_checked_bundle(tmp_path / "b.edgeact").path
    for _ in range(2):
        with runtime.load(path) as recognizer:
            assert recognizer.choice.check is not None
            assert recognizer.choice.check.verdict == "passed"
    assert not recwarn.list


def test_the_identity_of_a_machine_changes_with_its_flags_and_driver(tmp_path: Path) -> None:
    """A virtual machine that moved to another host is another machine."""
    files = {
        "proc/cpuinfo": "model name\t: Some CPU\nflags\t\t: sse2 avx2 avx512_vnni\n",
        "proc/driver/nvidia/version": "NVRM version: 570.1\n",
        "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: Some GPU\n",
    }
    identities = set()
    for changed in (None, *files):
        for name, text in files.items():
            path = tmp_path / str(changed).replace("/", "_") / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                text.replace("avx512_vnni", "").replace("570", "580").replace("Some", "Other")
                if name == changed
                else text
            )
        identities.add(tuple(sorted(machine_identity(tmp_path / str(changed).replace("/", "_")).items())))
    assert len(identities) == 4
    assert machine_identity() == machine_identity()
    assert machine_identity()["cores"] == str(len(os.sched_getaffinity(0)))
