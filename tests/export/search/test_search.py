"""Whole searches of a small network: resumed after a kill, spread over a cluster that loses a worker, and refused."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeact.errors import CalibrationError, DataError, DatasetError, DeviceError, UsageError, WeightsError
from edgeact.executors import open_executors
from edgeact.export.build import DataPlan, Recipe, build, through
from edgeact.export.candidates.candidate import artifact_sha256
from edgeact.export.models.checkpoint import read_weights, state_sha256
from edgeact.export.models.loading import LoadRequest
from edgeact.export.search import Budgets, SearchRequest, export_trial, search
from edgeact.export.search.recipes import unpruned, why_refused
from edgeact.export.search.space import ClipSize
from edgeact.export.search.trial import prepare, time_trial
from edgeact.progress import Callbacks
from edgeact.records import SearchRecord
from tests.export.colours import write_colours
from tests.export.search.making import SPACE, request_for, run, trial_of
from tests.messages import names

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module", autouse=True)
def own_locks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Or these searches would wait for the timings of a search that a person runs beside the tests."""
    with pytest.MonkeyPatch.context() as patch:
        folder = str(tmp_path_factory.mktemp("locks"))
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture(scope="module")
def searched(colour_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchRequest, SearchRecord]:
    """A search whose process was killed in its second trial, and that went on in this one."""
    folder = tmp_path_factory.mktemp("search")
    request = request_for(colour_videos, folder, 3)
    command = [sys.executable, "-m", "tests.export.search.making", str(colour_videos), str(folder), "3"]
    process = subprocess.Popen(command, cwd=CHECKOUT)
    try:
        _wait_for(lambda: request.out.exists(), process)
        time.sleep(0.5)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = SearchRecord.model_validate_json(request.out.read_bytes())
    record = run(request)
    assert [trial for trial in record.trials if trial.number in {one.number for one in before.trials}] == list(
        before.trials
    )
    return request, record


def _wait_for(there: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_killed_search_goes_on_and_counts_nothing_twice(searched: tuple[SearchRequest, SearchRecord]) -> None:
    request, record = searched
    configs = [json.dumps([one.ratios, one.int8, one.clip_frames, one.size]) for one in record.trials]
    assert len(record.trials) == len(set(configs)) == 3
    assert all(not trial.failure for trial in record.trials)
    assert SearchRecord.model_validate_json(request.out.read_bytes()).trials == record.trials


def test_finished_it_does_nothing_more(searched: tuple[SearchRequest, SearchRecord]) -> None:
    request, record = searched
    events: list[object] = []
    with open_executors() as executors:
        again = search(request, executors, Callbacks(on_event=events.append))
    assert events == []
    assert again.trials == record.trials


def test_the_record_has_what_was_measured_and_how_sure_that_is(searched: tuple[SearchRequest, SearchRecord]) -> None:
    _, record = searched
    assert not record.is_estimate
    assert record.reference_top1 == 1.0
    for trial in record.trials:
        assert trial.latency is not None
        assert trial.latency_estimate_ms is None
        assert trial.drop is not None
        assert trial.drop.count == record.count
        assert trial.drop.verdict in ("undecided", "loses")  # a few videos prove no point
    front = record.on_front
    assert front
    assert record.chosen in record.front
    assert any("are too few to distinguish a drop of 1 points from none" in text for text in record.notes)


def test_other_budgets_are_judged_anew_on_the_same_trials(searched: tuple[SearchRequest, SearchRecord]) -> None:
    request, record = searched
    with open_executors() as executors:
        strict = search(replace(request, budgets=Budgets(1e-6, 0.0), out=request.out.with_name("s.json")), executors)
    assert strict.chosen is None
    assert [trial.latency for trial in strict.trials] == [trial.latency for trial in record.trials]


@pytest.mark.parametrize(
    "change",
    [
        {"target": "orin-nano-8gb"},
        {"finetune_epochs": 2},
        {"load": LoadRequest(labels=("a", "dark", "green", "red"), clip_frames=4, size=32, fps=8.0)},
    ],
)
def test_the_study_of_another_search_is_refused_and_kept(
    searched: tuple[SearchRequest, SearchRecord], change: dict[str, object]
) -> None:
    request, record = searched
    of_request = {name: value for name, value in change.items() if name == "finetune_epochs"}
    of_recipe = {name: value for name, value in change.items() if name not in of_request}
    recipe = replace(request.recipe, **of_recipe)  # type: ignore[arg-type]
    other = replace(request, recipe=recipe, **of_request)  # type: ignore[arg-type]
    with open_executors() as executors, pytest.raises((UsageError, DatasetError)) as caught:
        search(other, executors)
    if "load" not in change:
        assert "is the study of another search" in str(caught.value)
    assert SearchRecord.model_validate_json(request.out.read_bytes()).trials == record.trials


def test_a_trial_is_exported_as_it_was(searched: tuple[SearchRequest, SearchRecord], tmp_path: Path) -> None:
    request, record = searched
    trial = next(one for one in record.trials if any(one.ratios.values()))
    bundle = export_trial(request.out, trial.number, tmp_path / "again.edgeact")
    assert bundle.manifest.model.parameters == trial.parameters
    assert bundle.manifest.model.macs == trial.macs
    assert bundle.manifest.clip.input_shape == (1, 3, trial.clip_frames, trial.size, trial.size)
    assert bundle.manifest.model.weights_sha256 == trial.weights_sha256
    assert {artifact.precision for artifact in bundle.manifest.artifacts} == {trial.precision}
    assert bundle.measurements is not None
    assert trial.artifact in {row.artifact for row in bundle.measurements.rows}


def test_every_artifact_of_a_trial_equals_the_exported_one(
    searched: tuple[SearchRequest, SearchRecord], tmp_path: Path
) -> None:
    """SHA-256 over the members: the search measures, bias correction included, what the export ships."""
    request, record = searched
    trials = [trial for trial in record.trials if not trial.failure]
    assert {trial.precision for trial in trials} >= {"int8"}
    for trial in trials:
        bundle = export_trial(request.out, trial.number, tmp_path / f"{trial.number}.edgeact")
        members = {member.path: member for member in bundle.manifest.members}
        shipped = {
            artifact.name: artifact_sha256(
                (path, members[path].role, members[path].sha256) for path in artifact.members
            )
            for artifact in bundle.manifest.artifacts
        }
        assert trial.artifact in trial.artifacts_sha256
        compared = shipped.keys() & trial.artifacts_sha256.keys()
        assert compared
        assert {name: shipped[name] for name in compared} == {name: trial.artifacts_sha256[name] for name in compared}


def test_a_trial_is_not_exported_on_other_videos(
    searched: tuple[SearchRequest, SearchRecord], colour_videos: Path, tmp_path: Path
) -> None:
    """Or the accuracy that it was chosen by would be another one's."""
    _, record = searched
    other = tmp_path / "videos"
    shutil.copytree(colour_videos, other)
    for video in sorted(other.rglob("*.mp4"))[::3]:
        video.write_bytes(next(one for one in sorted(other.rglob("*.mp4")) if one != video).read_bytes())
    recipe = record.recipe.model_copy(update={"data": str(other)})
    file = tmp_path / "moved.search.json"
    file.write_text(record.model_copy(update={"recipe": recipe}).model_dump_json())
    with pytest.raises(DataError, check=names("is of other videos")):
        export_trial(file, record.trials[0].number, tmp_path / "again.edgeact")


def test_the_record_finds_its_data_from_anywhere(searched: tuple[SearchRequest, SearchRecord]) -> None:
    assert Path(searched[1].recipe.data).is_absolute()


def test_what_is_no_trial_is_not_exported(searched: tuple[SearchRequest, SearchRecord], tmp_path: Path) -> None:
    request, record = searched
    with pytest.raises(UsageError, check=names("has no finished trial 99")):
        export_trial(request.out, 99, tmp_path / "a.edgeact")
    with pytest.raises(UsageError, check=names("cannot read")):
        export_trial(tmp_path / "none.json", 0, tmp_path / "a.edgeact")
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(UsageError, check=names("is no record of edgeact search")):
        export_trial(tmp_path / "x.json", 0, tmp_path / "a.edgeact")
    recipe = record.recipe.model_copy(update={"weights_sha256": "0" * 64})
    (tmp_path / "x.json").write_text(record.model_copy(update={"recipe": recipe}).model_dump_json())
    with pytest.raises(WeightsError, check=names("is of other weights")):
        export_trial(tmp_path / "x.json", record.trials[0].number, tmp_path / "a.edgeact")


@pytest.fixture
def cluster() -> Iterator[tuple[str, object]]:
    """Two worker processes on this machine, both allowed to time."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        resources={"timing": 1},
        dashboard_address=":0",
        memory_limit=0,
        silence_logs=50,
    ) as made:
        yield made.scheduler_address.replace("tcp://", "dask://"), made


@pytest.mark.filterwarnings("ignore")  # of the cluster's own threads, when a worker is shot
def test_a_cluster_that_loses_a_worker_loses_no_trial(
    cluster: tuple[str, object], colour_videos: Path, tmp_path: Path
) -> None:
    address, made = cluster
    request = request_for(colour_videos, tmp_path, 2)
    shot: list[int] = []

    def shoot() -> None:
        victim = next(iter(made.workers.values()))  # type: ignore[attr-defined]
        shot.append(victim.pid)
        os.kill(victim.pid, signal.SIGKILL)

    asked: list[str] = []

    def on_progress(title: str, _done: int, _total: int) -> None:
        asked.append(title)
        if title.startswith("trial") and not shot:
            shot.append(0)
            threading.Timer(3.0, shoot).start()  # both are in their first trial then

    with open_executors(address, timing=True) as executors:
        assert executors.slots == 2
        record = search(request, executors, Callbacks(on_progress=on_progress))
    assert len(shot) == 2
    configs = [json.dumps([one.ratios, one.int8, one.clip_frames]) for one in record.trials]
    assert len(configs) == len(set(configs)) == 2
    assert [trial.failure for trial in record.trials] == ["", ""]
    assert [trial.number for trial in record.trials] == [0, 1]


def test_fine_tuning_gives_the_same_weights_again(colour_videos: Path, tmp_path: Path, cache: Path) -> None:
    request = replace(request_for(colour_videos, tmp_path, 1), finetune_epochs=1)
    config = SPACE.config({**SPACE.first()[2], "clip": "2x32"})
    recipe = trial_of(request, config)
    first, second = (build(recipe, through("train"), out=tmp_path / f"{name}.edgeact") for name in ("one", "other"))
    assert state_sha256(first.model.module) == state_sha256(second.model.module)
    card = read_weights(tmp_path / "one.pruned.safetensors").card
    assert card is not None
    assert card.clip.input_shape == (1, 3, 2, 32, 32)
    assert card.provenance["distilled_from"] == first.inputs.model.weights_sha256


def test_estimates_are_called_that(colour_videos: Path) -> None:
    """A board that is not here: nothing is timed, and a machine that is another one refuses to time for it."""
    request = request_for(colour_videos, Path("unused"), 1, target="agx-orin-64gb")
    config = SPACE.config(SPACE.first()[0])
    recipe = trial_of(request, config)
    prepared = prepare(recipe)
    assert prepared.candidates == ()
    assert prepared.outcome.latency is None
    assert prepared.outcome.latency_estimate_ms is not None
    assert time_trial(recipe, prepared) == prepared.outcome


def test_nothing_is_timed_for_a_board_that_is_elsewhere(colour_videos: Path) -> None:
    request = request_for(colour_videos, Path("unused"), 1)
    recipe = trial_of(request, SPACE.config(SPACE.first()[0]))
    prepared = prepare(recipe)
    with pytest.raises(DeviceError, check=names("this machine is no")):
        time_trial(replace(recipe, target="agx-orin-64gb"), prepared)


def test_a_configuration_that_cannot_be_is_a_failed_trial(colour_videos: Path) -> None:
    request = request_for(colour_videos, Path("unused"), 1)
    broken = replace(request.recipe, source="tests.export.search.making:unexportable")
    prepared = prepare(trial_of(replace(request, recipe=broken), SPACE.config(SPACE.first()[0])))
    assert "cannot be converted to ONNX" in prepared.outcome.failure
    assert prepared.candidates == ()


def test_what_is_wrong_for_every_trial_ends_the_search(colour_videos: Path) -> None:
    recipe = trial_of(request_for(colour_videos, Path("unused"), 1), SPACE.config(SPACE.first()[0]))
    with pytest.raises(DatasetError, check=names("accuracy of every trial")):
        prepare(replace(recipe, data_digest="", load=replace(recipe.load, labels=None)))
    with pytest.raises(WeightsError, check=names("other weights")):
        prepare(replace(recipe, weights_sha256="0" * 64))


def test_other_weights_and_videos_on_a_worker_are_refused(colour_videos: Path) -> None:
    recipe = request_for(colour_videos, Path("unused"), 1).recipe
    with pytest.raises(WeightsError, check=names("other weights of 'colour_net'")):
        unpruned(replace(recipe, weights_sha256="0" * 64))
    with pytest.raises(DataError, check=names("other videos of 'folder'")):
        unpruned(replace(recipe, data_digest="0" * 64))


def test_clip_sizes_a_model_does_not_take_are_reported(colour_videos: Path) -> None:
    recipe = unpruned(request_for(colour_videos, Path("unused"), 1).recipe).recipe
    assert why_refused(recipe, ClipSize(clip_frames=2, size=16)) == ""
    assert "possible" in why_refused(recipe, ClipSize(clip_frames=2, size=9000))


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"trials": 0}, UsageError, "at least 1 trial"),
        ({"budgets": Budgets(0.0, 1.0)}, UsageError, "--max-ms above 0"),
        ({"budgets": Budgets(1.0, -1.0)}, UsageError, "--max-drop from 0"),
        ({"budgets": Budgets(math.inf, 1.0)}, UsageError, "both finite"),
        ({"budgets": Budgets(1.0, math.inf)}, UsageError, "both finite"),
        ({"out": Path("/")}, UsageError, "expected --out with a file"),
        ({"study": Path("/")}, UsageError, "expected --study with a file"),
    ],
)
def test_bad_requests(
    colour_videos: Path, tmp_path: Path, change: dict[str, object], error: type[Exception], said: str
) -> None:
    with open_executors() as executors, pytest.raises(error, check=names(said)):
        search(replace(request_for(colour_videos, tmp_path, 1), **change), executors)  # type: ignore[arg-type]


def test_data_without_anything_to_train_on_is_refused_before_the_first_trial(tmp_path: Path) -> None:
    lone = write_colours(tmp_path / "lone" / "test", persons=1).parent
    request = request_for(lone, tmp_path, 1)
    spec = f"folder:{lone}?val=0"
    recipe = replace(request.recipe, data=replace(request.recipe.data, spec=spec))
    with open_executors() as executors, pytest.raises(DatasetError, check=names("no 'train' split", "--epochs 0")):
        search(replace(request, recipe=recipe, finetune_epochs=1), executors)
    assert not request.study.exists()


def test_random_weights_and_too_few_clips_are_refused(colour_videos: Path, tmp_path: Path) -> None:
    load = LoadRequest(random_weights=True, width=4, clip_frames=4, size=32)
    random = Recipe("cpu", "cnn3d", load=load)
    few = request_for(colour_videos, tmp_path, 1).recipe
    few = replace(few, data=DataPlan(str(colour_videos), calibration_clips=8))
    for recipe, error, said in ((random, UsageError, "are random"), (few, CalibrationError, "at least 32 calibration")):
        with open_executors() as executors, pytest.raises(error, check=names(said)):
            search(replace(request_for(colour_videos, tmp_path, 1), recipe=recipe), executors)


def test_another_kind_of_machine_is_refused(searched: tuple[SearchRequest, SearchRecord], tmp_path: Path) -> None:
    request, _ = searched
    study = tmp_path / "c.study.db"
    study.write_bytes(request.study.read_bytes())
    with sqlite3.connect(study) as connection:
        connection.execute(
            "UPDATE study_user_attributes SET value_json = ? WHERE key = 'note machine'", ('["ffff", "Other CPU", 4]',)
        )
    connection.close()
    with open_executors() as executors, pytest.raises(DeviceError, check=names("two kinds of machines")):
        search(replace(request, study=study), executors)
