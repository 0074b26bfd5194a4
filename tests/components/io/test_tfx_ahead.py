"""TFX is imported with what its pipelines need, and Google's clients when somebody asks for them."""

from __future__ import annotations

import subprocess
import sys

import pytest


def python(program: str) -> list[str]:
    """The lines that a fresh process prints."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    return done.stdout.splitlines()


def test_preparing_imports_nothing_heavy() -> None:
    heavy = "{'tfx', 'tensorflow', 'keras_tuner', 'numpy', 'apache_beam', 'google.cloud.aiplatform'}"

    assert python(
        f"import sys; from components.io.tfx_ahead import prepare; prepare(); print({heavy} & set(sys.modules))"
    ) == ["set()"]


@pytest.mark.slow
def test_the_extensions_of_a_prepared_TFX_are_there_when_they_are_asked_for() -> None:
    program = """
import inspect, sys
from components.io.tfx_ahead import prepare
prepare()
prepare()
from tfx import v1 as tfx
inspect.stack()                          # looks through all modules
print("google.cloud.aiplatform" in sys.modules, "keras" in sys.modules, sorted(tfx.extensions.__all__))
print(hasattr(tfx.extensions, "amazon"), set(tfx.extensions.__all__) <= set(dir(tfx.extensions)))
print(tfx.extensions.google_cloud_ai_platform.Trainer.__module__, "google.cloud.aiplatform" in sys.modules)
from tfx.v1.extensions import google_cloud_big_query
print(google_cloud_big_query.BigQueryExampleGen.__name__)
import tfx.v1.extensions.google_cloud_ai_platform as named
print(named is tfx.extensions.google_cloud_ai_platform)
"""
    assert python(program) == [
        "False False ['google_cloud_ai_platform', 'google_cloud_big_query']",
        "False True",
        "tfx.extensions.google_cloud_ai_platform.trainer.component True",
        "BigQueryExampleGen",
        "True",
    ]


def test_what_was_prepared_for_one_import_is_gone_after_it() -> None:
    program = """
import sys
from components.io.tfx_ahead import prepared
before = list(sys.meta_path)
with prepared():
    with prepared():
        within = len(sys.meta_path)
    print(len(sys.meta_path) == within > len(before))
print(sys.meta_path == before)
"""
    assert python(program) == ["True", "True"]
