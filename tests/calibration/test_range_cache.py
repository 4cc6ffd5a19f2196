from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeact.calibration.range_cache import RangeCache, RangeKey, digest_clips, digest_names
from edgeact.calibration.ranges import Ranges, TensorRange
from edgeact.storage import cache_folder

GOLDEN = Path(__file__).parent / "golden" / "ranges-1.0.json"
RENEW = "if the format or a method changes deliberately, raise format_version and write the golden file again"

KEY = RangeKey(
    graph_sha256="a" * 64,
    tensors_sha256="b" * 64,
    clips_sha256="c" * 64,
    clips=64,
    method="entropy",
    versions={"edgeact": "0.1.0", "numpy": "2.3.0", "onnxruntime": "1.20.0"},
)
RANGES = Ranges(
    method="entropy",
    clips=64,
    tensors={
        "clip": TensorRange(
            layer="stem", low=-1.5, high=2.25, limit=2.0, clipped=0.001, last_change=0.01, settled_after=16
        ),
        "relu": TensorRange(layer="stem", low=0.0, high=0.1, limit=0.1, last_change=0.25),
    },
)


def test_range_cache_returns_what_was_stored(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path / "new" / "folder")
    assert cache.get(KEY) is None
    cache.put(KEY, RANGES)
    assert cache.get(KEY) == RANGES
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == [f"{KEY.digest}.json"]


OTHERS: dict[str, dict[str, Any]] = {
    "graph": {"graph_sha256": "d" * 64},
    "tensors": {"tensors_sha256": "d" * 64},
    "clips": {"clips_sha256": "d" * 64},
    "count": {"clips": 65},
    "method": {"method": "mse"},
    "versions": {"versions": {"edgeact": "0.1.1", "numpy": "2.3.0", "onnxruntime": "1.20.0"}},
}


@pytest.mark.parametrize("field", OTHERS)
def test_range_cache_misses_with_another_key(field: str, tmp_path: Path) -> None:
    cache = RangeCache(tmp_path)
    cache.put(KEY, RANGES)
    assert cache.get(KEY.model_copy(update=OTHERS[field])) is None


def _edited(text: str, change: dict[str, Any]) -> str:
    return json.dumps(json.loads(text) | change)


DAMAGE: dict[str, Callable[[str], str]] = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda _text: "",
    "no json": lambda text: text.replace("{", "(", 1),
    "another limit": lambda text: text.replace('"limit":2.0', '"limit":2.5'),
    "another key": lambda text: text.replace('"clips":64,"method"', '"clips":32,"method"', 1),
    "not finite": lambda text: text.replace('"limit":2.0', '"limit":NaN'),
    "negative": lambda text: text.replace('"limit":2.0', '"limit":-2.0'),
    "another version": lambda text: _edited(text, {"format_version": "2.0"}),
    "no checksum": lambda text: _edited(text, {"sha256": ""}),
    "a field too many": lambda text: _edited(text, {"more": 1}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_range_cache_ignores_and_replaces_damaged_entries(damage: str, tmp_path: Path) -> None:
    cache = RangeCache(tmp_path)
    cache.put(KEY, RANGES)
    path = cache.path(KEY)
    before = path.read_text()
    path.write_text(DAMAGE[damage](before))
    assert path.read_text() != before
    assert cache.get(KEY) is None
    cache.put(KEY, RANGES)
    assert path.read_text() == before


def test_range_cache_ignores_an_entry_under_the_name_of_another_key(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path)
    cache.put(KEY, RANGES)
    other = KEY.model_copy(update=OTHERS["clips"])
    shutil.copy(cache.path(KEY), cache.path(other))
    assert cache.get(other) is None


def test_range_cache_tolerates_a_folder_that_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = RangeCache(tmp_path / "file")
    cache.put(KEY, RANGES)
    assert cache.get(KEY) is None


def test_range_cache_format_equals_the_golden_file(tmp_path: Path) -> None:
    committed, written = RangeCache(tmp_path / "a"), RangeCache(tmp_path / "b")
    committed.path(KEY).parent.mkdir()
    shutil.copy(GOLDEN, committed.path(KEY))
    assert committed.get(KEY) == RANGES, RENEW
    written.put(KEY, RANGES)
    assert written.path(KEY).read_bytes() == GOLDEN.read_bytes(), RENEW


def test_range_cache_is_in_the_users_cache_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEACT_CACHE", str(tmp_path))
    assert RangeCache().path(KEY) == cache_folder() / "ranges" / f"{KEY.digest}.json"


def test_digests_differ_by_values_shapes_order_and_names() -> None:
    clips = [np.full((1, 3, 2, 2, 2), value, np.float32) for value in (1.0, 2.0)]
    digests = {
        digest_clips(clips),
        digest_clips(clips[::-1]),
        digest_clips(clips[:1]),
        digest_clips([clip.reshape(1, 3, 4, 1, 2) for clip in clips]),
        digest_clips([clips[0], clips[1] + np.float32(1e-6)]),
        digest_names(["a", "b"]),
        digest_names(["ab"]),
        digest_names(["b", "a"]),
    }
    assert len(digests) == 8
