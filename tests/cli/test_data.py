from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeact.calibration.datasets import load_dataset
from edgeact.cli.main import app
from edgeact.errors import StorageError, UnknownNameError
from edgeact.export.build.data import DEFAULT_DATA
from edgeact.progress import OnProgress
from edgeact.video import probe_video, write_video

_STICK = "stick-actions:{root}?train=24&val=0&test=12&size=64x48"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, three persons each, one video that is empty, a label that looks like markup."""
    root = tmp_path / "clips"
    for label in ("[red] on_off", "wave"):
        for person in ("anna", "ben", "cleo"):
            write_video(root / label / f"{person}_1.mp4", np.zeros((4, 32, 32, 3), np.uint8), 8.0)
    (root / "wave" / "dora_1.mp4").touch()
    return root


def _run(*arguments: str) -> tuple[str, str]:
    result = CliRunner().invoke(app, ["data", *arguments], env={"COLUMNS": "100"})
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def test_counts_of_a_folder_and_what_was_left_out(folder: Path) -> None:
    out, err = _run(f"folder:{folder}")

    assert "[red] on_off" in out
    assert "groups" in out
    assert "1 videos left out: empty" in err
    assert ".mp4" in err


def test_json_states_what_the_loader_returned(folder: Path) -> None:
    document = json.loads(_run(f"folder:{folder}", "--json")[0])
    dataset = load_dataset(f"folder:{folder}")

    assert document["labels"] == list(dataset.labels)
    assert document["skipped"] == {"empty": 1}
    for split, items in dataset.splits.items():
        shown = document["splits"][split]
        assert shown["videos"] == len(items) == sum(shown["videos_per_label"])
        assert shown["groups"] == len({item.group for item in items})
    assert sum(shown["videos"] for shown in document["splits"].values()) == 6
    assert set(document["examples"]) == set(dataset.labels)


def test_columns_are_in_order_and_classes_missing_from_a_split_are_named(folder: Path) -> None:
    write_video(folder / "walk right" / "anna_2.mp4", np.zeros((4, 32, 32, 3), np.uint8), 8.0)
    out, err = _run(f"folder:{folder}")
    header = out[: out.index("[red]")]
    assert header.index("train") < header.index("val") < header.index("test")
    document = json.loads(_run(f"folder:{folder}", "--json")[0])
    assert list(document["splits"]) == ["train", "val", "test"]
    assert len(document["gaps"]) == 2
    assert all(gap in err for gap in document["gaps"])


def test_examples_are_copied_one_a_label_from_the_test_split(tmp_path: Path) -> None:
    out = tmp_path / "look" / "here"
    document = json.loads(_run(_STICK.format(root=tmp_path / "stick"), "--out", str(out), "--json")[0])

    copies = [Path(path) for path in document["copies"]]
    assert sorted(out.iterdir()) == copies
    assert [path.stem[3:] for path in copies] == document["labels"]
    assert copies[0].name == "00-sit-down.mp4"
    assert probe_video(copies[0]).frames > 8
    for copy, original in zip(copies, document["examples"].values(), strict=True):
        assert Path(original).parent.parent.name == "test"
        assert copy.read_bytes() == Path(original).read_bytes()


def test_labels_that_are_no_file_names_are_kept_apart(tmp_path: Path) -> None:
    rows = ["label,youtube_id,time_start,time_end,split"]
    for number, label in enumerate(("sit/stand", "sit stand")):
        video = tmp_path / f"video{number}_000000_000010.mp4"
        write_video(video, np.zeros((4, 32, 32, 3), np.uint8), 8.0)
        rows.append(f"{label},video{number},0,10,test")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    document = json.loads(_run(f"kinetics:{tmp_path / 'list.csv'}", "-o", str(tmp_path / "look"), "--json")[0])

    assert sorted(Path(path).name for path in document["copies"]) == ["0-sit-stand.mp4", "1-sit-stand.mp4"]


def test_without_a_spec_it_is_the_data_of_export(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def load(spec: str, on_progress: OnProgress) -> object:
        asked.append(spec)
        return load_dataset(_STICK.format(root=tmp_path), on_progress)

    monkeypatch.setattr("edgeact.calibration.datasets.load_dataset", load)
    _run()
    assert asked == [DEFAULT_DATA]


def test_errors_keep_their_class(tmp_path: Path, folder: Path) -> None:
    result = CliRunner().invoke(app, ["data", "ucf-101:/data"])
    assert isinstance(result.exception, UnknownNameError)
    (tmp_path / "file").touch()
    result = CliRunner().invoke(app, ["data", f"folder:{folder}", "--out", str(tmp_path / "file" / "below")])
    assert isinstance(result.exception, StorageError)
