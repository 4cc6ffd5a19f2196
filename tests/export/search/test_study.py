"""The study on disk: nothing is lost, nothing is done twice, whoever is killed and whoever shares it."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeact.errors import StorageError, UsageError
from edgeact.export.search import study as study_module
from edgeact.export.search.locks import is_held
from edgeact.export.search.space import ClipSize, Space
from edgeact.export.search.study import Budgets, Study, open_study
from tests.export.search.making import SPACE, outcome
from tests.messages import names

CHECKOUT = Path(__file__).resolve().parents[3]
BINDING = {"model": "m"}


def _asking(study: Path, trials: int, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.export.search.asking", str(study), str(trials), str(seconds)]
    return subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)


def _work_off(study: Study, trials: int) -> list[int]:
    numbers = []
    while asked := study.ask(trials):
        study.finish(asked, outcome(1.0 + asked.number), Budgets())
        numbers.append(asked.number)
    return numbers


def _configs(study: Study) -> list[str]:
    return [str(sorted(study.params(number).items())) for number in study.outcomes()]


@pytest.mark.slow
def test_it_begins_with_the_model_as_it_is_and_repeats_nothing(tmp_path: Path) -> None:
    with open_study(tmp_path / "s.db", BINDING, SPACE) as study:
        _work_off(study, 12)
        configs = _configs(study)
        first = [study.params(number) for number in list(study.outcomes())[: len(SPACE.first())]]
    assert len(configs) == len(set(configs)) == 12
    assert first == SPACE.first()


def test_finished_trials_remain_and_count(tmp_path: Path) -> None:
    with open_study(tmp_path / "s.db", BINDING, SPACE) as study:
        first = _work_off(study, 3)
        before = study.outcomes()
    with open_study(tmp_path / "s.db", BINDING, SPACE) as study:
        assert study.ask(3) is None
        second = _work_off(study, 5)
        after = study.outcomes()
    assert len(first) == 3
    assert len(second) == 2
    assert {number: after[number] for number in first} == before
    assert len(after) == 5


def test_a_failed_trial_is_finished_and_an_outcome_is_stored_once(tmp_path: Path) -> None:
    with open_study(tmp_path / "s.db", BINDING, SPACE) as study:
        asked = study.ask(2)
        assert asked is not None
        study.finish(asked, outcome(failure="it does not convert"), Budgets())
        study.finish(asked, outcome(5.0), Budgets())
        assert study.outcomes()[asked.number].failure == "it does not convert"
        assert len(_work_off(study, 2)) == 1


def test_a_small_space_is_tried_whole_and_then_it_ends(tmp_path: Path) -> None:
    small = SPACE.model_copy(update={"prunable": {}, "clips": SPACE.clips[:1]})
    with open_study(tmp_path / "s.db", BINDING, small) as study:
        _work_off(study, 100)
        assert len(set(_configs(study))) == small.size == 4


def test_a_trial_of_a_living_process_is_left_to_it(tmp_path: Path) -> None:
    with open_study(tmp_path / "s.db", BINDING, SPACE) as one, open_study(tmp_path / "s.db", BINDING, SPACE) as other:
        asked = one.ask(2)
        assert asked is not None
        second = other.ask(2)
        assert second is not None
        assert second.params != asked.params
        assert other.ask(2) is None
        assert other.is_waited_for
        one.finish(asked, outcome(), Budgets())
        other.finish(second, outcome(), Budgets())
        assert not other.is_waited_for
        assert one.outcomes() == other.outcomes()


@pytest.mark.slow
def test_processes_share_one_study_though_one_is_killed(tmp_path: Path) -> None:
    """One works, one is killed in mid-trial, this one works: twelve configurations are finished, each once."""
    victim, worker = _asking(tmp_path / "s.db", 12, 60.0), _asking(tmp_path / "s.db", 12, 0.05)
    assert victim.stdout is not None
    lost = int(victim.stdout.readline())
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    with open_study(tmp_path / "s.db", BINDING, SPACE) as study:
        asked_for = study.params(lost)
        own = _work_off(study, 12)
        told = worker.communicate(timeout=120)[0].split("\n")
        done = Counter([*own, *(int(line.split()[1]) for line in told if line.startswith("done"))])
        assert set(study.outcomes()) == set(done)
        configs = _configs(study)
    assert set(done.values()) == {1}
    assert len(configs) == len(set(configs)) == 12
    assert lost not in done
    assert configs.count(str(sorted(asked_for.items()))) == 1
    assert list(tmp_path.glob(".*.owner")) == []


@pytest.mark.parametrize(
    ("binding", "space"),
    [
        ({"model": "another"}, SPACE),
        ({"model": "m", "target": "cpu"}, SPACE),
    ],
)
def test_the_study_of_another_search_is_refused(tmp_path: Path, binding: dict[str, str], space: Space) -> None:
    with open_study(tmp_path / "s.db", BINDING, SPACE) as study:
        _work_off(study, 1)
    with pytest.raises(UsageError, check=names("is the study of another search")) as caught:
        open_study(tmp_path / "s.db", binding, space).__enter__()
    assert "there" in str(caught.value)
    with open_study(tmp_path / "s.db", BINDING, SPACE) as study:
        assert len(study.outcomes()) == 1


def _foreign(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE mine (kept TEXT)")
        file.commit()


def _text(path: Path) -> None:
    path.write_text("my notes")


def _damaged(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 20)


@pytest.mark.parametrize("make", [_foreign, _text, _damaged])
def test_a_file_that_is_no_study_is_refused_and_left_alone(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "s.db")
    before = (tmp_path / "s.db").read_bytes()
    with pytest.raises(UsageError, check=names("is not a study of edgeact search")):
        open_study(tmp_path / "s.db", BINDING, SPACE).__enter__()
    assert (tmp_path / "s.db").read_bytes() == before


def test_a_study_that_breaks_later_is_reported(tmp_path: Path) -> None:
    with open_study(tmp_path / "s.db", BINDING, SPACE) as study:
        with contextlib.closing(sqlite3.connect(tmp_path / "s.db")) as file:
            file.execute("DROP TABLE trials")
        with pytest.raises(StorageError, check=names("cannot read or write the study")):
            study.ask(3)


def test_a_worker_is_alive_from_the_moment_it_can_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock is taken while nobody else may look for dead ones: another waits for the study until then."""
    free: list[bool] = []
    real = study_module.Study.owning

    def looked_at(self: Study) -> contextlib.AbstractContextManager[None]:
        free.append(not is_held(tmp_path / ".s.db.lock"))
        return real(self)

    monkeypatch.setattr(study_module.Study, "owning", looked_at)
    with open_study(tmp_path / "s.db", BINDING, SPACE):
        assert free == [False]


@pytest.mark.slow
def test_a_proposal_killed_in_the_middle_is_made_again_whole(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; import optuna\n"
        "from edgeact.export.search.study import open_study; from tests.export.search.making import SPACE\n"
        "real, count = optuna.trial.Trial._suggest, [0]\n"
        "def suggest(self, *arguments):\n"
        "    value = real(self, *arguments); count[0] += 1\n"
        "    if count[0] == 2: os._exit(9)\n"
        "    return value\n"
        "optuna.trial.Trial._suggest = suggest\n"
        f"with open_study(Path({str(tmp_path / 's.db')!r}), {BINDING!r}, SPACE) as study: study.ask(30)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=False).returncode == 9
    with open_study(tmp_path / "s.db", BINDING, SPACE) as study:
        _work_off(study, len(SPACE.first()))
        done = [study.params(number) for number in study.outcomes()]
    assert all(params in done for params in SPACE.first())


@pytest.mark.slow
def test_the_seed_decides_what_is_tried(tmp_path: Path) -> None:
    tried = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        with open_study(tmp_path / f"{name}.db", {**BINDING, "seed": seed}, SPACE) as study:
            _work_off(study, 8)
            tried.append(_configs(study))
    assert tried[0] == tried[1] != tried[2]


def test_a_place_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, check=names("cannot lock")):
        open_study(tmp_path / "file" / "s.db", BINDING, SPACE).__enter__()


def test_a_note_is_made_once(tmp_path: Path) -> None:
    with open_study(tmp_path / "s.db", BINDING, SPACE) as study:
        assert study.note("reference", lambda: [True]) == [True]
    with open_study(tmp_path / "s.db", BINDING, SPACE) as study:
        assert study.note("reference", lambda: [False]) == [True]


def test_the_sampler_learns_budgets_as_constraints(tmp_path: Path) -> None:
    budgets = Budgets(2.0, 1.0)
    assert budgets.excess(outcome(3.0, 0.5)) == (0.5, -0.5)
    assert Budgets().excess(outcome(3.0, 1.5)) == (0.0, 0.5)
    assert SPACE.clips[1] == ClipSize(clip_frames=2, size=32)
