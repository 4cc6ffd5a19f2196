"""`edgeact search` as it is called, and `edgeact export --trial` behind it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeact.cli.main import main
from edgeact.records import SearchRecord
from tests.export.colours import write_colours

Edgeact = Callable[..., int]
MODEL = "tests.export.colours:colour_net"
SEARCH = (
    *("search", MODEL, "--data", "clips", "--labels", "labels.txt", "--clip-frames", "4", "--size", "32", "--fps", "8"),
    *("--epochs", "0", "--threads", "1"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with clips and labels; what is searched in it stays for the next test."""
    root = tmp_path_factory.mktemp("search")
    write_colours(root / "clips", persons=15)
    (root / "labels.txt").write_text("blue\ndark\ngreen\nred\n")
    return root


@pytest.fixture
def edgeact(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Edgeact:
    """Runs a verb in that folder; its exit code."""
    monkeypatch.setenv("EDGEACT_CACHE", str(folder / "cache"))
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.chdir(folder)

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["edgeact", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0)

    return run


@pytest.fixture
def searched(edgeact: Edgeact) -> Edgeact:
    """The same, in a folder where a search of two trials has ended."""
    if not Path("colour_net-cpu.search.json").exists():
        edgeact(*SEARCH, "--trials", "2", "--max-ms", "1000")
    return edgeact


@pytest.mark.slow
def test_budgets_that_no_trial_keeps_end_with_their_code_and_what_would_be_kept(
    edgeact: Edgeact, capsys: pytest.CaptureFixture[str]
) -> None:
    assert edgeact(*SEARCH, "--trials", "1", "--max-ms", "0.000001") == 12
    captured = capsys.readouterr()
    assert "none of 1 trials keeps the budgets: within --max-drop 1 the fastest is trial 0" in captured.err
    assert "--max-ms" in captured.err
    assert "edgeact export --trial colour_net-cpu.search.json:0" in captured.out
    assert "trial 0, on the front (1 of 1 finished)" in captured.err
    assert Path("colour_net-cpu.study.db").exists()


@pytest.mark.slow
def test_it_goes_on_with_the_same_study(edgeact: Edgeact, capsys: pytest.CaptureFixture[str]) -> None:
    assert edgeact(*SEARCH, "--trials", "2", "--max-ms", "1000", "--json") == 0
    record = SearchRecord.model_validate_json(capsys.readouterr().out)
    assert [trial.number for trial in record.trials] == [0, 1]
    assert record.chosen in record.front
    assert SearchRecord.model_validate_json(Path("colour_net-cpu.search.json").read_bytes()).trials == record.trials


@pytest.mark.slow
def test_the_report_shows_the_front(searched: Edgeact) -> None:
    assert searched("report", "colour_net-cpu.search.json", "--markdown", "report.md") == 0
    assert "edgeact export --trial colour\\_net-cpu.search.json:" in Path("report.md").read_text()
    assert "<h3>Pareto front</h3>" in Path("report.html").read_text()


@pytest.mark.slow
def test_a_point_of_it_is_exported_by_one_command(searched: Edgeact, capsys: pytest.CaptureFixture[str]) -> None:
    assert searched("export", "--trial", "colour_net-cpu.search.json:1") == 0
    assert "wrote colour_net-cpu-1.edgeact" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("search", "--executor", "ray://here"), 2, "expected --executor local or dask://HOST:PORT"),
        pytest.param(
            ("search", "--executor", "dask://127.0.0.1:1"),
            *(8, "no Dask scheduler answers at 'dask://127.0.0.1:1'"),
            marks=pytest.mark.slow,  # waits for an answer
        ),
        (("search", "--clip-frames", "8,x"), 2, "expected --clip-frames with numbers above 0"),
        (("search", "--target", "jetsn"), 2, "unknown target 'jetsn'"),
        ((*SEARCH, "--trials", "2", "--study", "labels.txt"), 2, "is not a study of edgeact search"),
        (("export", "--trial", "x.search.json"), 2, "expected --trial FILE.search.json:N"),
        (("export", "--trial", "none.json:1"), 2, "cannot read 'none.json'"),
        (("export", "--trial", "none.json:1", "--precision", "int8"), 2, "leave --precision out"),
        (("export", MODEL, "--trial", "none.json:1"), 2, "leave MODEL out"),
    ],
)
def test_wrong_calls_say_what_is_wrong(
    edgeact: Edgeact, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, said: str
) -> None:
    assert edgeact(*arguments) == code
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_study_of_another_search_is_refused(searched: Edgeact, capsys: pytest.CaptureFixture[str]) -> None:
    assert searched(*SEARCH, "--seed", "7", "--trials", "2") == 2
    assert "is the study of another search (seed: 0 there, 7 here)" in capsys.readouterr().err
