"""The study on disk: asked configurations, their outcomes, and the search that the file belongs to.

The file is SQLite, by Optuna's own storage: a write is complete or absent whenever the process is killed, and the
kernel releases its locks. A running trial belongs to the process that holds its owner's lock; if no process holds the
lock, the owner is dead and the trial is asked for again. So nothing waits for a time-out, and a slow process loses no
trials. The file must lie on a local drive; other machines take part through an executor.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from pydantic import JsonValue

from edgeact.errors import StorageError, UsageError
from edgeact.export.search.locks import is_held, locked
from edgeact.export.search.outcome import Outcome
from edgeact.export.search.space import RATIO_STEP, Params, Space
from edgeact.extras import require

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

__all__ = ["Asked", "Binding", "Budgets", "Study", "open_study"]

_NAME = "edgeact search"
_BINDING, _OUTCOME, _OWNER, _REPEATS = "binding", "outcome", "owner", "repeats"
_BUSY_S = 60.0
_SQLITE = b"SQLite format 3\0"
_DRAWS = 200
_OBJECTIVES = ("minimize", "minimize")  # latency, drop

Binding = Mapping[str, JsonValue]
"""Identity of the search that a study belongs to, as JSON; a file with another binding is not continued."""


@dataclass(frozen=True)
class Asked:
    """A trial to run."""

    number: int
    params: Params


@dataclass(frozen=True)
class Budgets:
    """Latency budget and accuracy budget of a search."""

    max_ms: float | None = None
    """Latency budget of one clip, ms; None: no limit."""
    max_drop_points: float = 1.0
    """Accuracy budget: largest accuracy drop, points of top-1."""

    def excess(self, outcome: Outcome) -> tuple[float, float]:
        """Return by which share of its budget the latency, and by how many points the drop, exceeds its budget.

        0 or less is within the budget.
        """
        over = 0.0 if self.max_ms is None else outcome.latency_ms / self.max_ms - 1
        return over, outcome.drop_points - self.max_drop_points


class Study:
    """An open study; several processes may have the same file open."""

    def __init__(self, path: Path, study: optuna.Study, space: Space, seed: int) -> None:
        self._path = path
        self._study = study
        self._space = space
        self._owner = uuid.uuid4().hex
        self._rng = np.random.default_rng(seed)

    def ask(self, trials: int) -> Asked | None:
        """Return the next configuration to try, which then belongs to this process.

        None if `trials` are finished or running somewhere, or every configuration has been tried. Trials of dead
        processes are finished or queued again first.
        """
        with self._exclusive():
            self._reap()
            done = self._done()
            running = [trial for trial in self._trials() if trial.state.name == "RUNNING"]
            if len(done) + len(running) >= min(trials, self._space.size):
                return None
            return self._ask([*done, *running])

    def _ask(self, known: Sequence[FrozenTrial]) -> Asked:
        """Return the sampler's proposal, or a random configuration if that has been tried already."""
        tried = {_key(trial.params) for trial in known}
        while True:
            trial = self._study.ask(self._distributions())
            trial.set_user_attr(_OWNER, self._owner)
            if _key(trial.params) not in tried:
                return Asked(trial.number, dict(trial.params))
            self._fail(trial.number)
            self._study.enqueue_trial(dict(self._fresh(tried)))

    def _fresh(self, tried: set[str]) -> Params:
        for _ in range(_DRAWS):
            params = self._space.drawn(self._rng)
            if _key(params) not in tried:
                return params
        return next(params for params in self._space.all() if _key(params) not in tried)

    def finish(self, asked: Asked, outcome: Outcome, budgets: Budgets) -> None:
        """Store the outcome of a trial; a second call for the same trial changes nothing."""
        with self._exclusive():
            trial = self._trials()[asked.number]
            if trial.state.is_finished():
                return
            live = _optuna().trial.Trial(self._study, trial._trial_id)
            if not outcome.failure:
                for name, value in zip(("latency", "drop"), budgets.excess(outcome), strict=True):
                    live.set_constraint(name, value)
            live.set_user_attr(_OUTCOME, outcome.model_dump(mode="json"))  # from here on it is not run again
            self._tell(asked.number, outcome)

    def outcomes(self) -> dict[int, Outcome]:
        """Return the outcomes of all finished trials by trial number."""
        with self._exclusive():
            return {trial.number: Outcome.model_validate(trial.user_attrs[_OUTCOME]) for trial in self._done()}

    def params(self, number: int) -> Params:
        """Return the configuration of a trial."""
        with self._exclusive():
            return dict(self._trials()[number].params)

    @property
    def is_waited_for(self) -> bool:
        """Whether a trial is running in a live process."""
        with self._exclusive():
            self._reap()
            return any(trial.state.name == "RUNNING" for trial in self._trials())

    def note(self, name: str, make: Callable[[], Sequence[JsonValue]]) -> list[JsonValue]:
        """Return a fact of the whole study; the first process makes it with `make()`, all others read the same."""
        key = f"note {name}"
        with self._exclusive():
            if key not in self._study.user_attrs:
                self._study.set_user_attr(key, list(make()))
            return list(self._study.user_attrs[key])

    def _reap(self) -> None:
        """Finish the trials of dead processes that have an outcome, and queue the others again."""
        for trial in self._trials():
            if trial.state.name != "RUNNING" or self._is_alive(trial.user_attrs.get(_OWNER)):
                continue
            if _OUTCOME in trial.user_attrs:
                self._tell(trial.number, Outcome.model_validate(trial.user_attrs[_OUTCOME]))
            else:
                self._repeat(trial)
        for file in self._path.parent.glob(f".{self._path.name}.*.owner"):
            if not is_held(file):
                file.unlink(missing_ok=True)

    def _repeat(self, trial: FrozenTrial) -> None:
        """Queue a trial again, then fail it: a kill in between leaves one repetition too many, which `ask` detects."""
        params = trial.system_attrs.get("fixed_params") or trial.params
        if params.keys() == self._space.choices.keys():  # else the process died while it was choosing
            self._study.enqueue_trial(dict(params), user_attrs={_REPEATS: trial.number})
        self._fail(trial.number)

    def _tell(self, number: int, outcome: Outcome) -> None:
        if outcome.failure:
            self._fail(number)
        else:
            self._study.tell(number, [outcome.latency_ms, outcome.drop_points])

    def _fail(self, number: int) -> None:
        self._study.tell(number, state=_optuna().trial.TrialState.FAIL)

    def _done(self) -> list[FrozenTrial]:
        return [trial for trial in self._trials() if trial.state.is_finished() and _OUTCOME in trial.user_attrs]

    def _trials(self) -> list[FrozenTrial]:
        return list(self._study.get_trials(deepcopy=False))

    def _is_alive(self, owner: str | None) -> bool:
        return owner is not None and is_held(_owner_file(self._path, owner))

    def _distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        distributions = _optuna().distributions
        return {
            name: distributions.CategoricalDistribution(values)
            if isinstance(values[0], str)
            else distributions.FloatDistribution(values[0], values[-1], step=RATIO_STEP)
            for name, values in self._space.choices.items()
        }

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        with locked(_lock_file(self._path)), _storing(self._path):
            yield

    @contextlib.contextmanager
    def owning(self) -> Iterator[None]:
        """Own trials until the block ends; enter it under the study's lock: an unheld file is a dead owner's."""
        file = _owner_file(self._path, self._owner)
        try:
            with locked(file):
                yield
        finally:
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def open_study(path: Path, binding: Binding, space: Space) -> Iterator[Study]:
    """Create or continue the study in `path`; proposals depend on the binding's seed and the number of trials.

    Raises StorageError if the file cannot be written, UsageError if it belongs to another search or is no study.
    """
    optuna = _optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with contextlib.ExitStack() as held:
        with locked(_lock_file(path)), _storing(path):
            storage = _storage(path)
            held.callback(storage.engine.dispose)
            held.callback(storage.remove_session)
            study = optuna.create_study(storage=storage, study_name=_NAME, directions=_OBJECTIVES, load_if_exists=True)
            if _BINDING not in study.user_attrs:
                _begin(study, binding, space)
            else:
                _check_binding(path, study.user_attrs[_BINDING], binding)
            seed = int(str(binding.get("seed", 0))) + len(study.get_trials(deepcopy=False))
            study.sampler = optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=seed)
            opened = Study(path, study, space, seed)
            held.enter_context(opened.owning())
        yield opened


@contextlib.contextmanager
def _storing(path: Path) -> Iterator[None]:
    """Translate errors of the file to StorageError: those of Optuna and SQLAlchemy have no base class in common."""
    try:
        yield
    except (_optuna().exceptions.StorageInternalError, require("sqlalchemy", "search").exc.SQLAlchemyError) as error:
        cause = error.__cause__ or error
        raise StorageError(
            f"cannot read or write the study '{path}': {str(cause).splitlines()[0]}; make room for it, or give another "
            "--study; finished trials are kept"
        ) from error


def _storage(path: Path) -> optuna.storages.RDBStorage:
    """Return Optuna's storage. Raises UsageError, before anything is written, if the file is something else."""
    if path.exists():
        _check_file(path)
    storage: optuna.storages.RDBStorage = _optuna().storages.RDBStorage(
        f"sqlite:///{path.absolute()}", engine_kwargs={"connect_args": {"timeout": _BUSY_S}}
    )
    return storage


def _check_file(path: Path) -> None:
    other = UsageError(f"'{path}' is not a study of edgeact search; give another --study")
    if not path.is_file() or path.read_bytes()[:16] not in (b"", _SQLITE):
        raise other
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
            tables = {name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.DatabaseError as error:
        raise other from error
    if tables and "studies" not in tables:
        raise other


def _begin(study: optuna.Study, binding: Binding, space: Space) -> None:
    for params in space.first():
        study.enqueue_trial(dict(params), skip_if_exists=True)
    study.set_user_attr(_BINDING, dict(binding))


def _check_binding(path: Path, stored: Mapping[str, JsonValue], wanted: Binding) -> None:
    wanted = json.loads(json.dumps(wanted))
    different = [name for name in {**stored, **wanted} if stored.get(name) != wanted.get(name)]
    if different:
        changes = "; ".join(
            f"{name}: {_short(stored.get(name))} there, {_short(wanted.get(name))} here" for name in different
        )
        raise UsageError(
            f"'{path}' is the study of another search ({changes}); repeat the command that began the study, or give "
            "another --study"
        )


def _short(value: JsonValue) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _key(params: Mapping[str, float | str]) -> str:
    return json.dumps(params, sort_keys=True)


def _lock_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _owner_file(path: Path, owner: str) -> Path:
    return path.with_name(f".{path.name}.{owner}.owner")


def _optuna() -> ModuleType:
    return require("optuna", "search")
