"""300 taxi trips on their way to a model: raw examples, schema, transform graph, transformed examples."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from components.data.example_gen import ExampleGen
from components.data.schema_gen import ImportSchema
from components.features.transform import Transform
from components.model.trainer import Trainer
from pipeline.contract import build_component, read_contract
from schemas.artifact import Artifact
from schemas.artifacts import Examples, FeatureSchema, Model, TransformedExamples, TransformGraph
from schemas.component import Baseline, BeamOptions, Lineage, PartCache, PlannedFiles, Progress, Scratch, Seed
from schemas.dotted_path import resolve


class DirectoryParts(PartCache):
    """Parts in one directory; says which were found and which were kept."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.found: list[str] = []
        self.kept: list[str] = []

    def find(self, name: str) -> Path | None:
        if not (self._directory / name).is_dir():
            return None
        self.found.append(name)
        return self._directory / name

    @contextlib.contextmanager
    def keep(self, name: str) -> Iterator[Path]:
        made = self._directory / f"{name}.made"
        made.mkdir()
        yield made
        made.rename(self._directory / name)
        self.kept.append(name)

    def forget(self) -> None:
        """What was found and kept so far."""
        self.found, self.kept = [], []


@pytest.fixture
def part_cache(tmp_path_factory: pytest.TempPathFactory) -> DirectoryParts:
    return DirectoryParts(tmp_path_factory.mktemp("parts"))


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
def xf_outputs(
    xf_examples: Examples,
    xf_schema: FeatureSchema,
    outputs_of: Callable[[type, Path], dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """Transform's outputs by name: the trips through the taxi features."""
    outputs = outputs_of(Transform, tmp_path_factory.mktemp("transform"))
    Transform(preprocessing_fn="configs.taxi.features.preprocessing_fn").run(
        xf_examples, xf_schema, BeamOptions(), Progress(), **outputs
    )
    return outputs


@pytest.fixture(scope="session")
def xf_graph(xf_outputs: dict[str, Any]) -> TransformGraph:
    return xf_outputs["transform_graph"]


@pytest.fixture(scope="session")
def xf_transformed(xf_outputs: dict[str, Any]) -> TransformedExamples:
    return xf_outputs["transformed_examples"]


@pytest.fixture(scope="session")
def xf_model(
    xf_graph: TransformGraph, xf_transformed: TransformedExamples, tmp_path_factory: pytest.TempPathFactory
) -> Model:
    """A model with the taxi features inside, trained for two steps."""
    model = Model(tmp_path_factory.mktemp("model"))
    Trainer(build_model="configs.taxi.model.build_model", steps=2).run(
        xf_transformed,
        xf_graph,
        scratch=Scratch(tmp_path_factory.mktemp("scratch")),
        seed=Seed(1),
        progress=Progress(),
        model=model,
    )
    return model


@pytest.fixture(scope="session")
def tfx_testdata() -> Path:
    """The artifacts that TFX itself is tested with."""
    spec = importlib.util.find_spec("tfx")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "components" / "testdata"


def _writer(directory: Path) -> Callable[[str, str], str]:
    def write(source: str, name: str) -> str:
        module = f"user_{uuid.uuid4().hex}"
        (directory / f"{module}.py").write_text(source, encoding="utf-8")
        importlib.invalidate_caches()
        return f"{module}.{name}"

    return write


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Writes a module of a user's, and gives the dotted path of one name in it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return _writer(tmp_path)


@pytest.fixture(scope="module")
def shared_user_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], str]]:
    """The same, for what a module of tests makes once."""
    directory = tmp_path_factory.mktemp("user")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(directory))
        yield _writer(directory)


@pytest.fixture(scope="session")
def run_in(outputs_of: Callable[[type, Path], dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """(directory, dotted path, settings, inputs) -> the outputs by name, under the directory like the scratch space.

    The component runs as in a step's process, but for the store. What it asks of the framework may be given by position.
    """

    def run(
        place: Path, dotted: str, settings: Mapping[str, Any] | None = None, *told: Any, **given: Artifact | Any
    ) -> dict[str, Any]:
        kind = resolve(dotted)
        component = build_component(kind, settings or {})
        outputs = outputs_of(kind, place / "outputs")
        (place / "scratch").mkdir()
        asked: dict[type, Any] = {
            BeamOptions: BeamOptions(),
            Scratch: Scratch(place / "scratch"),
            Lineage: Lineage(),
            PlannedFiles: PlannedFiles(),
            Progress: Progress(),
            Seed: Seed(1),
            Baseline: Baseline(),
            PartCache: PartCache(),
            **{type(one): one for one in told},
        }
        asks = {name: asked[ask] for name, ask in read_contract(kind).asks.items() if ask in asked}
        component.run(**{**asks, **outputs, **given})
        return outputs

    return run


@pytest.fixture(scope="session")
def beam_in_memory() -> Callable[[], Any]:
    """() -> a Beam pipeline in this process, for an executor of TFX's: given Beam's arguments, each first packs up TFX's source."""
    import apache_beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    # Named outright: DirectRunner first tries to download the Prism binary.
    return lambda: apache_beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions(["--no_pipeline_type_check"]))


@pytest.fixture(scope="session")
def both_ways(
    run_in: Callable[..., dict[str, Any]],
) -> Callable[..., tuple[dict[str, Any], dict[str, Any]]]:
    """(directory, step of TFX's as in YAML, what each wire brings) -> (outputs of ours in its place, TFX's own outputs).

    `baseline` is the model that ours is given to compare with.
    """

    def made(directory: Path, step: Mapping[str, Any], wires: Mapping[str, Any], *told: Any) -> dict[str, Any]:
        inputs = {port: wires[wire] for port, wire in step["inputs"].items() if wire is not None}
        return run_in(directory, step["uses"], step["with"], *told, **inputs)

    def run(
        directory: Path,
        step: Mapping[str, Any],
        wires: Mapping[str, Any] | None = None,
        baseline: Baseline | None = None,
        **others: Any,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        from components.io.tfx_fast import swapped  # imports TFX

        wires = wires or {}
        whole = {"with": {}, "inputs": {}, **step}
        example_gen = {"uses": "ExampleGen", "with": {"source": "trips.csv"}, "inputs": {}}
        ours = {wire.partition(".")[0]: example_gen for wire in wires}
        steps, said = swapped({**ours, **others, "step": whole})
        assert said["step"].startswith("ours for TFX's")
        by_ours = made(directory / "ours", steps["step"], wires, baseline or Baseline())
        return by_ours, made(directory / "theirs", whole, wires)

    return run


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
