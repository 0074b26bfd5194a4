from __future__ import annotations

import pickle
from pathlib import Path

import apache_beam
import pytest

from components.io.beam import RowCount, pipeline, place
from schemas.component import BeamOptions, Progress
from schemas.errors import ConfigError, DataError


class Reported(Progress):
    def __init__(self) -> None:
        self.calls: list[tuple[int, int | None, str]] = []

    def __call__(self, done: int, total: int | None = None, unit: str = "rows") -> None:
        self.calls.append((done, total, unit))


def test_the_pipeline_has_run_when_the_block_ends(tmp_path) -> None:
    with pipeline(BeamOptions()) as running:
        _ = running | apache_beam.Create([3]) | apache_beam.Map(lambda n: (tmp_path / "made").write_text(str(n)))

    assert (tmp_path / "made").read_text() == "3"


def test_what_is_wrongly_typed_runs_all_the_same(tmp_path) -> None:
    def halve(number: int) -> str:
        (tmp_path / "made").write_text(str(number))
        return "x"

    with pipeline(BeamOptions()) as running:
        _ = running | apache_beam.Create(["text"]) | apache_beam.Map(halve)

    assert (tmp_path / "made").read_text() == "text"


def test_an_error_of_ours_keeps_its_class_and_message_through_beam() -> None:
    def refuse(_: int) -> None:
        raise DataError("trips.csv, line 3: too short")

    with pytest.raises(DataError) as caught, pipeline(BeamOptions()) as running:
        _ = running | apache_beam.Create([1]) | apache_beam.Map(refuse)

    assert str(caught.value) == "trips.csv, line 3: too short"


def test_an_error_of_others_keeps_its_class() -> None:
    with pytest.raises(ZeroDivisionError), pipeline(BeamOptions()) as running:
        _ = running | apache_beam.Create([1]) | apache_beam.Map(lambda n: n / 0)


def test_options_are_checked_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="beam.runner: Beam has no runner"), pipeline(BeamOptions(runner="Flik")):
        pytest.fail("the pipeline was made")


def test_a_place_is_as_it_was_named_here_and_absolute_elsewhere(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert place(Path("trips.csv"), BeamOptions()) == "trips.csv"
    assert place(Path("trips.csv"), BeamOptions("FlinkRunner")) == f"{tmp_path}/trips.csv"


def test_other_runners_and_arguments_are_passed_on(tmp_path) -> None:
    options = BeamOptions("DirectRunner", ("--direct_running_mode=in_memory", "--job_name=taxi"))

    with pipeline(options) as running:
        _ = running | apache_beam.Create([3]) | apache_beam.Map(lambda n: (tmp_path / "made").write_text(str(n)))

    assert (tmp_path / "made").exists()
    assert running.options.get_all_options()["job_name"] == "taxi"


def test_rows_are_counted_over_all_elements_and_told() -> None:
    reported = Reported()

    with RowCount(reported, total=60) as rows, pipeline(BeamOptions()) as running:
        _ = running | apache_beam.Create([10, 20, 30]) | apache_beam.Map(lambda n, rows: rows(n), rows)

    assert reported.calls[-1] == (60, 60, "rows")
    assert rows.done == 60


def test_a_count_without_its_step_counts_for_nobody() -> None:
    reported = Reported()
    with RowCount(reported) as rows:
        pickled = pickle.dumps(rows)

    pickle.loads(pickled)(5)

    assert reported.calls == []
