"""300 taxi trips on their way to a model: raw examples, schema, transform graph, transformed examples."""

from __future__ import annotations

import importlib
import importlib.util
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from components.data.example_gen import ExampleGen
from components.data.schema_gen import ImportSchema
from components.features.transform import Transform
from schemas.artifacts import Examples, FeatureSchema, TransformedExamples, TransformGraph
from schemas.component import BeamOptions, Progress


@pytest.fixture(scope="session")
def xf_examples(small_taxi_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """300 trips, about 200 of them in `train`, the others in `eval`."""
    examples = Examples(tmp_path_factory.mktemp("examples"))
    ExampleGen(source=str(small_taxi_csv)).run(BeamOptions(), Progress(), examples)
    return examples


@pytest.fixture(scope="session")
def xf_schema(tmp_path_factory: pytest.TempPathFactory) -> FeatureSchema:
    """The curated schema: some features dense, some that may be missing."""
    schema = FeatureSchema(tmp_path_factory.mktemp("schema"))
    ImportSchema(path="schemas/datasets/taxi.pbtxt").run(schema)
    return schema


@pytest.fixture(scope="session")
def xf_both(
    xf_examples: Examples, xf_schema: FeatureSchema, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TransformGraph, TransformedExamples]:
    """The trips through the taxi features."""
    graph = TransformGraph(tmp_path_factory.mktemp("graph"))
    transformed = TransformedExamples(tmp_path_factory.mktemp("transformed"))
    Transform(preprocessing_fn="configs.taxi.features.preprocessing_fn").run(
        xf_examples, xf_schema, BeamOptions(), Progress(), graph, transformed
    )
    return graph, transformed


@pytest.fixture(scope="session")
def xf_graph(xf_both: tuple[TransformGraph, TransformedExamples]) -> TransformGraph:
    return xf_both[0]


@pytest.fixture(scope="session")
def xf_transformed(xf_both: tuple[TransformGraph, TransformedExamples]) -> TransformedExamples:
    return xf_both[1]


@pytest.fixture(scope="session")
def tfx_testdata() -> Path:
    """The artifacts that TFX itself is tested with."""
    spec = importlib.util.find_spec("tfx")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "components" / "testdata"


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Writes a module of a user's, and gives the dotted path of one name in it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(source: str, name: str) -> str:
        module = f"user_{uuid.uuid4().hex}"
        (tmp_path / f"{module}.py").write_text(source, encoding="utf-8")
        importlib.invalidate_caches()
        return f"{module}.{name}"

    return write


AWKWARD_ROWS = (
    '日本,"over\ntwo lines, and ""quoted""",9007199254740993,1,,a',
    'ß😀,"over\r\ntwo others",-9223372036854775808,x,,',
    ",,9223372036854775807,,,b",
    '"","a 5"" pipe",,2.5,, c ',
    "日本,plain,9007199254740995,nan,,a",
)


@pytest.fixture(scope="session")
def awkward_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files that match `*.csv` in one directory, of 200 rows and of one.

    They have CRLF ends and a byte order mark, quoted line breaks and quotes, integers that differ where doubles do not,
    a column of numbers and texts, one that is text and has values missing, and `never` without a value.
    """
    directory = tmp_path_factory.mktemp("awkward")
    header = "\ufeffkey,näme,said,big,mixed,never,word"
    rows = [f"{number},{AWKWARD_ROWS[number % 5]}" for number in range(201)]
    (directory / "many.csv").write_bytes("\r\n".join([header, *rows[:200], ""]).encode())
    (directory / "one.csv").write_bytes("\r\n".join([header, *rows[200:]]).encode())
    return directory
