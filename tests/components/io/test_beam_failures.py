from __future__ import annotations

from components.io.beam_failures import explained
from schemas.errors import ConfigError, DataError, UnknownSplit

WORKER = """Pipeline job-1 failed in state FAILED: Error running pipeline.
Traceback (most recent call last):
  File "local_job_service.py", line 294, in _run_job
    self.result = self._invoke_runner()
RuntimeError: Traceback (most recent call last):
  File "apache_beam/runners/common.py", line 1498, in process
  File "/app/configs/taxi/features.py", line 7, in scale
    return 1 / 0
{raised}
"""


def from_worker(raised: str) -> Exception:
    return explained(RuntimeError(WORKER.format(raised=raised)), "localhost:1", "localhost:2")


def test_an_error_of_ours_is_raised_again() -> None:
    found = from_worker("schemas.errors.UnknownSplit: there is no split 'eval' [while running 'Work/Map']")

    assert type(found) is UnknownSplit
    assert str(found) == "there is no split 'eval'"


def test_several_problems_stay_several() -> None:
    found = from_worker("schemas.errors.ConfigError: label: is empty\nsplit: is empty [while running 'Work']")

    assert isinstance(found, ConfigError)
    assert found.problems == ("label: is empty", "split: is empty")


def test_what_is_raised_outside_a_transform_ends_where_the_stack_of_java_begins() -> None:
    found = from_worker("schemas.errors.DataError: a.gz: cut short\n\n\tat org.apache.beam.Runner.run(Runner.java:7)")

    assert type(found) is DataError
    assert str(found) == "a.gz: cut short"


def test_the_last_of_several_exceptions_counts() -> None:
    first = (
        "ZeroDivisionError: division by zero\n\nDuring handling of the above exception, another exception occurred:\n\n"
    )
    second = "Traceback (most recent call last):\n  File \"x.py\", line 1, in f\nValueError: no number [while running 'Work']"

    found = from_worker(first + second)

    assert type(found) is ValueError
    assert str(found) == "no number"


def test_a_message_with_empty_lines_is_kept_whole_up_to_the_transform() -> None:
    found = from_worker("ValueError: in user code:\n\n    File a.py\n\n    ValueError: bad [while running 'Work']")

    assert str(found) == "in user code:\n\n    File a.py\n\n    ValueError: bad"


def test_a_librarys_exception_keeps_its_name_in_the_message() -> None:
    found = from_worker("tensorflow.errors_impl.DataLossError: corrupted [while running 'Work']")

    assert type(found) is RuntimeError
    assert str(found) == "DataLossError: corrupted"


def test_a_missing_module_of_ours_says_what_to_do() -> None:
    found = from_worker("ModuleNotFoundError: No module named 'components'")

    assert isinstance(found, ConfigError)
    assert str(found).startswith("beam: the workers have no module 'components'. ")
    assert "--setup_file" in str(found)


def test_a_name_that_an_older_penstock_lacks_is_another_version() -> None:
    attribute = (
        "AttributeError: Can't get attribute '_partial' on <module 'components.data.statistics_gen' from '/x.py'>"
    )

    found = from_worker(attribute)

    assert isinstance(found, ConfigError)
    assert "the workers have another version of Penstock" in str(found)


def test_a_file_that_beam_wraps_in_a_runtime_error_is_still_a_file() -> None:
    found = from_worker("RuntimeError: FileNotFoundError: [Errno 2] No such file: '/data/a.gz' [while running 'Work']")

    assert isinstance(found, ConfigError)
    assert "/data/a.gz" in str(found)


def test_what_tells_nothing_of_a_worker_is_left_as_it_is() -> None:
    error = ValueError("Pipeline has validation errors")

    assert explained(error) is error
