"""The study on disk: which configurations were asked for, what came of them, and whose search it is.

SQLite, by Optuna's own storage: a write is there whole or not at all whenever the process is killed, and the kernel
gives its locks back. A trial under way belongs to the process that holds its owner's lock; where nobody does, that
process is dead, and the trial is asked for again. So nothing waits for a time-out, and nobody who is merely slow loses
his trials. The file must lie on a local drive; other machines take part through an executor.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeact.errors import StorageError, UsageError
from edgeact.export.search.locks import is_held, locked
from edgeact.export.search.outcome import Outcome
from edgeact.export.search.space import RATIO_STEP, Params, Space
from edgeact.extras import require

__all__ = ["Asked", "Binding", "Budgets", "Study", "open_study"]

_NAME = "edgeact search"
_BINDING, _OUTCOME, _OWNER, _REPEATS = "binding", "outcome", "owner", "repeats"
_BUSY_S = 60.0
_SQLITE = b"SQLite format 3\0"
_DRAWS = 200
_OBJECTIVES = ("minimize", "minimize")  # latency, drop

Binding = Mapping[str, Any]
"""What a study belongs to, as JSON: a file of which any of it differs is not continued."""


@dataclass(frozen=True)
class Asked:
    """A trial to run."""

    number: int
    params: Params


@dataclass(frozen=True)
class Budgets:
    """What a configuration may cost; None: whatever it takes."""

    max_ms: float | None = None
    max_drop_points: float = 1.0

    def excess(self, outcome: Outcome) -> tuple[float, float]:
        """What share of its budget the latency, and how many points the drop, is too much; 0 or less: within."""
        over = 0.0 if self.max_ms is None else outcome.latency_ms / self.max_ms - 1
        return over, outcome.drop_points - self.max_drop_points


class Study:
    """One open study; several processes may have the same file open."""

    def __init__(self, path: Path, study: Any, space: Space, seed: int) -> None:
        self._path = path
        self._study = study
        self._space = space
        self._owner = uuid.uuid4().hex
        self._rng = np.random.default_rng(seed)

    def ask(self, trials: int) -> Asked | None:
        """The next configuration to try, which is this process's from now on.

        None where `trials` are finished or under way somewhere, or every configuration has been tried. What a dead
        process left behind is put in order first.
        """
        with self._alone():
            self._reap()
            done = [trial for trial in self._trials() if _is_done(trial)]
            running = [trial for trial in self._trials() if trial.state.name == "RUNNING"]
            if len(done) + len(running) >= min(trials, self._space.size):
                return None
            return self._ask([*done, *running])

    def _ask(self, known: list[Any]) -> Asked:
        """The sampler's proposal, or one drawn by lot where that has been tried already."""
        tried = {_key(trial.params) for trial in known}
        while True:
            trial = self._study.ask(self._distributions())
            trial.set_user_attr(_OWNER, self._owner)
            if _key(trial.params) not in tried:
                return Asked(trial.number, dict(trial.params))
            self._study.tell(trial, state=_states().FAIL)
            self._study.enqueue_trial(self._fresh(tried))

    def _fresh(self, tried: set[str]) -> Params:
        for _ in range(_DRAWS):
            params = self._space.drawn(self._rng)
            if _key(params) not in tried:
                return params
        return next(params for params in self._space.all() if _key(params) not in tried)

    def finish(self, asked: Asked, outcome: Outcome, budgets: Budgets) -> None:
        """Store what came of a trial; a second call for the same trial changes nothing."""
        with self._alone():
            trial = self._frozen(asked.number)
            if trial.state.is_finished():
                return
            live = _optuna().trial.Trial(self._study, trial._trial_id)
            if not outcome.failure:
                for name, value in zip(("latency", "drop"), budgets.excess(outcome), strict=True):
                    live.set_constraint(name, value)
            live.set_user_attr(_OUTCOME, outcome.model_dump(mode="json"))  # from here on it is not run again
            self._tell(asked.number, outcome)

    def outcomes(self) -> dict[int, Outcome]:
        """Trial number -> what came of it, of all that are finished."""
        with self._alone():
            return {trial.number: Outcome.model_validate(trial.user_attrs[_OUTCOME]) for trial in self._done()}

    def params(self, number: int) -> Params:
        """The configuration of a trial."""
        with self._alone():
            return dict(self._frozen(number).params)

    @property
    def is_waited_for(self) -> bool:
        """Whether a trial is under way in a process that is alive."""
        with self._alone():
            self._reap()
            return any(trial.state.name == "RUNNING" for trial in self._trials())

    def note(self, name: str, make: Any) -> Any:
        """A fact of the whole study as JSON; the first process makes it by `make()`, all others get the same."""
        key = f"note {name}"
        with self._alone():
            if key not in self._study.user_attrs:
                self._study.set_user_attr(key, make())
            return self._study.user_attrs[key]

    def _reap(self) -> None:
        """Finish what dead processes had an outcome of, and ask again for what they had not."""
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

    def _repeat(self, trial: Any) -> None:
        """In this order: a process killed in between leaves a repetition too many, which `ask` finds out."""
        params = trial.system_attrs.get("fixed_params") or trial.params
        if params.keys() == self._space.choices.keys():  # else it died while it was choosing
            self._study.enqueue_trial(dict(params), user_attrs={_REPEATS: trial.number})
        self._study.tell(trial.number, state=_states().FAIL)

    def _tell(self, number: int, outcome: Outcome) -> None:
        if outcome.failure:
            self._study.tell(number, state=_states().FAIL)
        else:
            self._study.tell(number, [outcome.latency_ms, outcome.drop_points])

    def _done(self) -> list[Any]:
        return [trial for trial in self._trials() if _is_done(trial)]

    def _trials(self) -> list[Any]:
        return list(self._study.get_trials(deepcopy=False))

    def _frozen(self, number: int) -> Any:
        return self._trials()[number]

    def _is_alive(self, owner: str | None) -> bool:
        return owner is not None and is_held(_owner_file(self._path, owner))

    def _distributions(self) -> dict[str, Any]:
        distributions = _optuna().distributions
        return {
            name: distributions.CategoricalDistribution(values)
            if isinstance(values[0], str)
            else distributions.FloatDistribution(values[0], values[-1], step=RATIO_STEP)
            for name, values in self._space.choices.items()
        }

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with locked(_lock_file(self._path)), _storing(self._path):
            yield

    @contextlib.contextmanager
    def owning(self) -> Iterator[None]:
        """Own trials until the block ends. Entered while nobody else looks: a file not yet held is a dead owner's."""
        file = _owner_file(self._path, self._owner)
        try:
            with locked(file):
                yield
        finally:
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def open_study(path: Path, binding: Binding, space: Space) -> Iterator[Study]:
    """Make the study, or go on with it; StorageError where it cannot be written, UsageError where it is another's.

    What is proposed follows the binding's seed and the number of trials there are.
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
            seed = int(binding.get("seed", 0)) + len(study.get_trials(deepcopy=False))
            study.sampler = optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=seed)
            opened = Study(path, study, space, seed)
            held.enter_context(opened.owning())
        yield opened


@contextlib.contextmanager
def _storing(path: Path) -> Iterator[None]:
    """What is wrong with the file as StorageError: Optuna's and SQLAlchemy's errors have no base in common."""
    try:
        yield
    except (_optuna().exceptions.StorageInternalError, require("sqlalchemy", "search").exc.SQLAlchemyError) as error:
        cause = error.__cause__ or error
        raise StorageError(
            f"cannot read or write the study '{path}': {str(cause).splitlines()[0]}; make room for it, or give another "
            "--study; finished trials are kept"
        ) from error


def _storage(path: Path) -> Any:
    """Optuna's own; UsageError where something else lies there, before anything is written to it."""
    optuna = _optuna()
    if path.exists():
        _check_file(path)
    return optuna.storages.RDBStorage(
        f"sqlite:///{path.absolute()}", engine_kwargs={"connect_args": {"timeout": _BUSY_S}}
    )


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


def _begin(study: Any, binding: Binding, space: Space) -> None:
    for params in space.first():
        study.enqueue_trial(params, skip_if_exists=True)
    study.set_user_attr(_BINDING, dict(binding))


def _check_binding(path: Path, there: Mapping[str, Any], wanted: Binding) -> None:
    wanted = json.loads(json.dumps(wanted))
    different = [name for name in {**there, **wanted} if there.get(name) != wanted.get(name)]
    if different:
        told = "; ".join(
            f"{name}: {_short(there.get(name))} there, {_short(wanted.get(name))} here" for name in different
        )
        raise UsageError(
            f"'{path}' is the study of another search ({told}); repeat what it was begun with, or give another --study"
        )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _is_done(trial: Any) -> bool:
    return trial.state.is_finished() and _OUTCOME in trial.user_attrs


def _key(params: Mapping[str, float | str]) -> str:
    return json.dumps(params, sort_keys=True)


def _lock_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _owner_file(path: Path, owner: str) -> Path:
    return path.with_name(f".{path.name}.{owner}.owner")


def _optuna() -> Any:
    return require("optuna", "search")


def _states() -> Any:
    return _optuna().trial.TrialState
