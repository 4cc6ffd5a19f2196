"""Who may time: nobody while others work here, and a lock dies with its holder."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import ReadWriteLock, Timeout

from edgeact.errors import StorageError
from edgeact.export.search.locks import MachineLock, is_held, locked
from tests.messages import names

_HOLDER = """
import fcntl, sys, time
handle = open(sys.argv[1], "w")
fcntl.flock(handle, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


def test_a_lock_is_held_until_its_holder_dies(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    assert not is_held(path)
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, str(path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    assert is_held(path)
    holder.kill()
    holder.communicate()
    assert not is_held(path)
    with locked(path):
        assert is_held(path)
    assert not is_held(path)


def test_work_is_shared_and_timing_is_alone(tmp_path: Path) -> None:
    """Eight threads work and time at random: nothing else goes on while one of them times."""
    inside: list[str] = []
    worst: list[str] = []
    guard = threading.Lock()

    def act(kind: str, rounds: int) -> None:
        lock = MachineLock(tmp_path)
        for _ in range(rounds):
            with lock.timing() if kind == "timing" else lock.working():
                with guard:
                    inside.append(kind)
                    if "timing" in inside and len(inside) > 1:
                        worst.append(str(inside))
                time.sleep(0.002)
                with guard:
                    inside.remove(kind)

    threads = [threading.Thread(target=act, args=(kind, 10)) for kind in ["timing", "working"] * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worst == []


def test_two_can_work_at_once(tmp_path: Path) -> None:
    with MachineLock(tmp_path).working(), MachineLock(tmp_path).working():
        timing = ReadWriteLock(tmp_path / "machine.db", is_singleton=False)
        with pytest.raises(Timeout):
            timing.acquire_write(timeout=0.1)


def test_errors_inside_the_block_are_not_taken_for_errors_of_the_lock(tmp_path: Path) -> None:
    for block in (MachineLock(tmp_path).working, MachineLock(tmp_path).timing, lambda: locked(tmp_path / "a.lock")):
        with pytest.raises(FileNotFoundError), block():
            (tmp_path / "missing").read_bytes()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, check=names("cannot lock")), MachineLock(tmp_path / "file").working():
        pass


def test_who_waits_to_time_goes_before_those_who_come_to_work(tmp_path: Path) -> None:
    order: list[str] = []

    def time_it() -> None:
        with MachineLock(tmp_path).timing():
            order.append("timed")

    def work() -> None:
        with MachineLock(tmp_path).working():
            order.append("worked")

    with MachineLock(tmp_path).working():
        timing = threading.Thread(target=time_it)
        timing.start()
        while not is_held(tmp_path / "queue.lock"):
            time.sleep(0.005)
        working = threading.Thread(target=work)
        working.start()
        time.sleep(0.1)
        assert order == []
    timing.join()
    working.join()
    assert order == ["timed", "worked"]
