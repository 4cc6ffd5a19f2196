"""Writing: what goes in comes out, the same inputs give the same bytes, and failures cost nothing."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeact.bundle import open_bundle, replace_measurements, write_bundle
from edgeact.errors import BundleBombError, BundleError, BundlePathError, BundleSchemaError, StorageError
from tests.bundle import making, surgery
from tests.messages import names

PART = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,8}", fullmatch=True)
NAMES = st.lists(PART, min_size=1, max_size=3).map("/".join).filter(lambda name: name != "manifest.json")
EXTRA = st.dictionaries(NAMES.filter(lambda name: name not in making.MEMBERS), st.binary(max_size=3000), max_size=6)


@pytest.mark.slow
@given(extra=EXTRA, data=st.data())
@settings(max_examples=60)
def test_members_read_back(
    tmp_path_factory: pytest.TempPathFactory, extra: dict[str, bytes], data: st.DataObject
) -> None:
    folded = {name.lower(): name for name in extra if name.lower() != "measurements.json"}
    contents = making.MEMBERS | {name: ("other", extra[name]) for name in folded.values()}
    folder = tmp_path_factory.mktemp("round")
    bundle = write_bundle(folder / "a.edgeact", making.draft(), contents)
    assert {member.path: bundle.read(member.path) for member in bundle.manifest.members} == {
        name: content for name, (_, content) in contents.items()
    }
    shuffled = dict(data.draw(st.permutations(list(contents.items()))))
    again = write_bundle(folder / "b.edgeact", making.draft(), shuffled)
    assert again.path.read_bytes() == bundle.path.read_bytes()
    assert again.digest == bundle.digest


def test_source_and_destination_leave_no_trace(tmp_path: Path) -> None:
    first = making.make(tmp_path / "a.edgeact")
    from_files = dict(making.MEMBERS)
    for index, (name, (role, content)) in enumerate(making.MEMBERS.items()):
        file = tmp_path / f"source{index}"
        assert isinstance(content, bytes)
        file.write_bytes(content)
        from_files[name] = (role, file)
    second = write_bundle(tmp_path / "deeper" / "b.edgeact", making.draft(), from_files, making.measurements())
    assert second.path.read_bytes() == first.path.read_bytes()


def test_measurements_change_nothing_before_them(tmp_path: Path) -> None:
    measured = making.make(tmp_path / "a.edgeact")
    plain = making.make(tmp_path / "b.edgeact", measured=False)
    with_them, without = surgery.members(measured.path.read_bytes()), surgery.members(plain.path.read_bytes())
    del with_them["measurements.json"]
    assert with_them == without
    assert measured.digest == plain.digest
    assert measured.spans.keys() == plain.spans.keys()


def test_measurements_are_replaced_in_place(tmp_path: Path) -> None:
    plain = making.make(tmp_path / "a.edgeact", measured=False)
    bytes_before = plain.path.read_bytes()
    measured = replace_measurements(plain.path, making.measurements())
    assert measured.measurements == making.measurements()
    assert measured.path.read_bytes() == making.make(tmp_path / "b.edgeact").path.read_bytes()
    assert plain.read("golden/clip.mp4") == measured.read("golden/clip.mp4")
    assert replace_measurements(plain.path, None).path.read_bytes() == bytes_before


def test_a_manifest_can_be_written_again(tmp_path: Path) -> None:
    first = making.make(tmp_path / "a.edgeact")
    newer = first.manifest.model_copy(update={"format_version": "1.7"})  # read from a newer bundle, written as ours
    again = write_bundle(tmp_path / "b.edgeact", newer, making.MEMBERS, first.measurements)
    assert again.path.read_bytes() == first.path.read_bytes()


@pytest.mark.parametrize("name", ["../x", "/x", "a\\b", ".hidden", "a//b", "", "x" * 201, "ä", "manifest.json"])
def test_names_that_no_reader_accepts_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundlePathError):
        write_bundle(tmp_path / "a.edgeact", making.draft(), making.MEMBERS | {name: ("other", b"")})
    assert not list(tmp_path.iterdir())


def test_a_draft_that_contradicts_its_members_is_refused(tmp_path: Path) -> None:
    members = dict(making.MEMBERS)
    del members["golden/clip.mp4"]
    with pytest.raises(BundleSchemaError, check=names("expected all used members in the list")):
        write_bundle(tmp_path / "a.edgeact", making.draft(), members)
    assert not list(tmp_path.iterdir())


def test_more_than_a_reader_accepts_is_refused(tmp_path: Path) -> None:
    many = making.MEMBERS | {f"m{index}": ("other", b"") for index in range(2000)}
    with pytest.raises(BundleBombError, check=names("at most 2000 members")):
        write_bundle(tmp_path / "a.edgeact", making.draft(), many)
    long = making.draft().model_copy(update={"decisions": ("x" * (16 << 20),)})
    with pytest.raises(BundleBombError, check=names("manifest.json takes")):
        write_bundle(tmp_path / "a.edgeact", long, making.MEMBERS)
    assert not list(tmp_path.iterdir())


def test_large_members_are_not_held_in_memory(tmp_path: Path) -> None:
    large = tmp_path / "weights"
    with large.open("wb") as handle:
        handle.truncate(48 << 20)
    tracemalloc.start()
    try:
        bundle = write_bundle(tmp_path / "a.edgeact", making.draft(), making.MEMBERS | {"w": ("weights", large)})
        replace_measurements(bundle.path, making.measurements())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


FULL_DISK = """
import resource, sys
from pathlib import Path
from edgeact.bundle import replace_measurements, write_bundle
from edgeact.errors import StorageError
from tests.bundle import making
path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
for write in (
    lambda: write_bundle(path, making.draft(), making.MEMBERS | {"big": ("other", bytes(9000))}),
    lambda: replace_measurements(path, making.measurements()),
):
    try:
        write()
    except StorageError as error:
        print(error)
"""


@pytest.mark.parametrize("limit_bytes", [0, 100, 5000])
def test_a_full_disk_leaves_the_file_unchanged(tmp_path: Path, limit_bytes: int) -> None:
    """The system itself refuses the bytes beyond a limit, as a full disk does."""
    path = tmp_path / "a.edgeact"
    bytes_before = making.make(path, measured=False).path.read_bytes()
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path), str(limit_bytes)], capture_output=True, text=True, check=True
    )
    assert run.stdout.count(f"cannot write '{path}': File too large; free some space") == 2
    assert path.read_bytes() == bytes_before
    assert list(tmp_path.iterdir()) == [path]
    assert open_bundle(path).digest


def test_an_interrupted_write_leaves_the_file_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.edgeact"
    bytes_before = making.make(path).path.read_bytes()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgeact.bundle.container._directory", interrupt)  # after every member, before the end
    with pytest.raises(KeyboardInterrupt):
        making.make(path, measured=False)
    monkeypatch.undo()
    assert path.read_bytes() == bytes_before
    assert list(tmp_path.iterdir()) == [path]


def test_a_source_that_changes_during_the_write_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "graph"
    source.write_bytes(b"before")

    def change(*_: object) -> None:
        source.write_bytes(b"after!")

    monkeypatch.setattr("edgeact.bundle.writer.check_entries", change)  # runs between hashing and copying
    with pytest.raises(StorageError, check=names("'x' changed during the write")):
        write_bundle(tmp_path / "a.edgeact", making.draft(), making.MEMBERS | {"x": ("other", source)})
    assert list(tmp_path.iterdir()) == [source]


def test_a_damaged_bundle_is_not_measured(tmp_path: Path) -> None:
    path = making.make(tmp_path / "a.edgeact").path
    path.write_bytes(path.read_bytes().replace(b"float graph", b"other graph"))
    damaged = path.read_bytes()
    with pytest.raises(BundleError):
        replace_measurements(path, making.measurements())
    assert path.read_bytes() == damaged
