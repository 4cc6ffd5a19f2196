"""Atomic writes: whatever goes wrong, the file is what it was before and nothing lies beside it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edgeact.errors import StorageError
from edgeact.storage import atomic_write, cache_folder, write_bytes, write_text
from tests.messages import names

FULL_DISK = """
import resource, sys
from edgeact.errors import StorageError
from edgeact.storage import atomic_write
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    with atomic_write(sys.argv[1]) as handle:
        for _ in range(int(sys.argv[2])):
            handle.write(b"x")
except StorageError as error:
    print(error)
"""

TWO_WRITERS = """
import os, stat, sys, threading, time
from pathlib import Path
from edgeact.storage import write_bytes

def umask():
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Umask"))
    return line.split()[1]

def let_others_run(frame, event, argument):
    time.sleep(1e-4)
    return let_others_run

def write(name):
    for number in range(8):
        write_bytes(folder / f"{name}-{number}", b"x")

folder, seen = Path(sys.argv[1]), set()
os.umask(0o027)
sys.setswitchinterval(1e-6)
threading.settrace(let_others_run)  # before every line of the two writers
threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
for thread in threads:
    thread.start()
while any(thread.is_alive() for thread in threads):
    seen.add(umask())
modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
print(*sorted(seen | {umask()}), *(format(mode, "04o") for mode in sorted(modes)))
"""

STUCK = """
import sys, time
from edgeact.storage import atomic_write
with atomic_write(sys.argv[1]) as handle:
    handle.write(b"half")
    handle.flush()
    print("half", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    return path


def _only_before(target: Path) -> bool:
    return target.read_bytes() == b"before" and list(target.parent.iterdir()) == [target]


def test_a_write_replaces_the_whole_file(target: Path) -> None:
    with atomic_write(target) as handle:
        handle.write(b"after, and longer")
        assert target.read_bytes() == b"before"
    assert target.read_bytes() == b"after, and longer"
    write_bytes(target, b"")
    assert target.read_bytes() == b""
    write_text(target, "Größe\n")
    assert target.read_bytes() == "Größe\n".encode()
    assert list(target.parent.iterdir()) == [target]


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "b" / "file", b"x")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"x"


@pytest.mark.parametrize("count", [4097, 100_000])  # the first fails on flush, the second while writing
def test_a_full_disk_costs_nothing(target: Path, count: int) -> None:
    """The system itself refuses the bytes beyond a limit, as a full disk does."""
    command = [sys.executable, "-c", FULL_DISK, str(target), str(count)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout == (f"cannot write '{target}': File too large; free some space or choose another place\n")
    assert _only_before(target)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_in_the_middle_costs_nothing(target: Path, error: type[BaseException]) -> None:
    def write_half() -> None:
        with atomic_write(target) as handle:
            handle.write(b"half")
            raise error

    with pytest.raises(error):
        write_half()
    assert _only_before(target)


def test_an_interrupted_process_leaves_nothing(target: Path) -> None:
    assert _stop(target, signal.SIGINT) != 0
    assert _only_before(target)


def test_a_killed_process_loses_nothing(target: Path) -> None:
    """No program can tidy up after a kill, but what it leaves is hidden and is not the file."""
    assert _stop(target, signal.SIGKILL) == -signal.SIGKILL
    assert target.read_bytes() == b"before"
    (left,) = (path for path in target.parent.iterdir() if path != target)
    assert left.name.startswith(".file.")
    assert left.suffix == ".tmp"
    write_bytes(target, b"after")
    assert target.read_bytes() == b"after"


def _stop(target: Path, how: signal.Signals) -> int:
    """Exit status of a process that got the signal after it wrote half a file."""
    command = [sys.executable, "-c", STUCK, str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.send_signal(how)
        return process.wait(timeout=30)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_permissions_of_any_other(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / "ours", b"")
        (tmp_path / "any").write_bytes(b"")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "any")}
    assert modes == {0o666 & ~umask}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the umask from Linux's /proc")
def test_two_writing_threads_leave_the_umask_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TWO_WRITERS, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["0027", "0640"]


def test_a_place_that_cannot_be_written_is_reported(target: Path) -> None:
    with pytest.raises(StorageError, check=names("cannot write '", "/file/inside':")):
        write_bytes(target / "inside", b"x")
    with pytest.raises(StorageError, check=names("Is a directory")):
        write_bytes(target.parent, b"x")
    with pytest.raises(StorageError, check=names("name too long")):
        write_bytes(target.parent / ("n" * 300), b"x")
    assert _only_before(target)


def test_a_folder_without_write_permission_is_reported(target: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    target.parent.chmod(0o500)
    try:
        with pytest.raises(StorageError, check=names("Permission denied")):
            write_bytes(target, b"after")
        assert _only_before(target)
    finally:
        target.parent.chmod(0o700)


def test_the_cache_is_if_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEACT_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("EDGEACT_CACHE", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert cache_folder() == tmp_path / ".cache" / "edgeact"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "shared"))
    assert cache_folder() == tmp_path / "shared" / "edgeact"
    assert not (tmp_path / ".cache").exists()
