"""A TFX pipeline on Kubeflow: its paths, wherever they were written, are those of the image and of volumes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.loading import load
from pipeline.plan import make_plan
from pipeline.runners.kubeflow.checks import check_on_cluster
from pipeline.runners.kubeflow.compile import compile_package
from pipeline.runners.kubeflow.expectation import expected
from pipeline.runners.kubeflow.on_cluster import load_on_cluster
from pipeline.store import Store
from schemas.errors import ConfigError

NAME = "tfx_pipeline_for_kubeflow"
MODULE = """
import os

from tfx import v1 as tfx
from tfx.dsl.components.common.resolver import Resolver
from tfx.types import artifact, standard_artifacts

HERE = os.path.dirname(os.path.abspath(__file__))


class Tally(artifact.Artifact):
    TYPE_NAME = "KubeflowTally"


@tfx.dsl.components.component
def Look(
    examples: tfx.dsl.components.InputArtifact[standard_artifacts.Examples],
    tally: tfx.dsl.components.OutputArtifact[Tally],
    lookup_file: tfx.dsl.components.Parameter[str] = "",
):
    pass


def create(data="data", serving=None, module_file=None, curated="curated", lookup="", metadata=None):
    example_gen = tfx.components.CsvExampleGen(input_base=data)
    look = Look(examples=example_gen.outputs["examples"], lookup_file=lookup)
    importer = tfx.dsl.Importer(source_uri=curated, artifact_type=standard_artifacts.Schema).with_id("import_schema")
    trainer = tfx.components.Trainer(
        examples=example_gen.outputs["examples"],
        schema=importer.outputs["result"],
        module_file=module_file or os.path.join(HERE, "features.py"),
        train_args=tfx.proto.TrainArgs(num_steps=1),
        eval_args=tfx.proto.EvalArgs(num_steps=1),
        custom_config={"vocabulary": os.path.join(HERE, "words.txt")},
    )
    resolver = Resolver(
        strategy_class=tfx.dsl.experimental.LatestBlessedModelStrategy,
        model=tfx.dsl.Channel(type=standard_artifacts.Model),
        model_blessing=tfx.dsl.Channel(type=standard_artifacts.ModelBlessing),
    ).with_id("latest")
    evaluator = tfx.components.Evaluator(
        examples=example_gen.outputs["examples"],
        model=trainer.outputs["model"],
        baseline_model=resolver.outputs["model"],
    )
    pusher = tfx.components.Pusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(base_directory=serving or os.path.join(HERE, "serving"))
        ),
    )
    return tfx.dsl.Pipeline(
        pipeline_name="flowers",
        components=[example_gen, look, importer, trainer, resolver, evaluator, pusher],
        enable_cache=True,
        metadata_connection_config=metadata
        and tfx.orchestration.metadata.sqlite_metadata_connection_config(metadata),
    )
"""
DEFINITION = f"""
name: flowers
parameters: {{data: /mnt/penstock/data, serving: /mnt/penstock/serving}}
tfx:
  pipeline: {NAME}:create
  arguments: {{data: "${{parameters.data}}", serving: "${{parameters.serving}}", curated: /mnt/penstock/curated}}
kubeflow:
  image: registry.example.com/flowers:1
  defaults: {{volumes: [{{claim: penstock, path: /mnt/penstock}}]}}
"""

Enter = Callable[[Path], Path]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Enter]:
    """Copies the project to a directory and works there."""
    elsewhere = list(sys.path)

    def enter(directory: Path) -> Path:
        (directory / "data").mkdir(parents=True)
        (directory / "data" / "data.csv").write_text("a,b\n1,x\n2,y\n")
        (directory / "curated").mkdir()
        (directory / "curated" / "schema.pbtxt").write_text("")
        (directory / f"{NAME}.py").write_text(MODULE)
        (directory / "features.py").write_text("def run_fn(fn_args): ...\n")
        (directory / "pipeline.yaml").write_text(DEFINITION)
        sys.modules.pop(NAME, None)
        monkeypatch.chdir(directory)
        monkeypatch.setattr(sys, "path", [*elsewhere, str(directory)])
        return directory

    yield enter
    sys.modules.pop(NAME, None)


def test_the_same_pipeline_in_another_checkout_is_the_same_graph_and_has_the_same_keys(
    checkout: Enter, tmp_path: Path
) -> None:
    def found(directory: Path) -> tuple[str, list[str | None]]:
        checkout(directory)
        graph = load(f"{NAME}:create").graph
        plans = make_plan(graph, Store(tmp_path / "store").open())
        return graph.digest, [plan.key for plan in plans if plan.key]

    one, other = found(tmp_path / "one"), found(tmp_path / "other" / "deep")

    assert one == other
    assert len(one[1]) == 2  # of what takes from nothing


def test_a_definition_in_YAML_is_compiled_with_the_tasks_types_and_parameters_of_a_TFX_pipeline(
    checkout: Enter, tmp_path: Path
) -> None:
    checkout(tmp_path / "project")

    package = compile_package("pipeline.yaml")

    steps = ("csv-example-gen", "import-schema", "trainer", "look", "latest", "evaluator", "pusher")
    assert sorted(package.tasks) == sorted(steps)
    assert package.parameters == {"data": "/mnt/penstock/data", "serving": "/mnt/penstock/serving"}
    assert "evaluator-blessed" in package.text
    assert set(expected(load_on_cluster("pipeline.yaml"), "trainer").code) == {"features.py"}
    assert set(expected(load_on_cluster("pipeline.yaml"), "look").code) == {NAME}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(
            "curated: /mnt/penstock/curated",
            "curated: /srv/curated",
            "pipeline.yaml:5: steps.import_schema.with.source_uri: /srv/curated lies on this machine, on no volume that the step's "
            "pod mounts (/mnt/penstock)",
            id="an Importer's source",
        ),
        pytest.param(
            "curated: /mnt/penstock/curated",
            "curated: /mnt/penstock/curated, module_file: BESIDE/features.py",
            "pipeline.yaml:5: steps.trainer.with.module_file: BESIDE/features.py lies outside the working directory",
            id="a module file elsewhere",
        ),
        pytest.param(
            "curated: /mnt/penstock/curated",
            "curated: /mnt/penstock/curated, lookup: /srv/words.txt",
            "pipeline.yaml:5: steps.look.with.lookup_file: /srv/words.txt lies on this machine, on no volume",
            id="a file that a component of the user's is told",
        ),
        pytest.param(
            "data: /mnt/penstock/data",
            "data: data",
            "pipeline.yaml:5: steps.csv_example_gen.with.input_base: data is relative, and the image has no such file",
            id="data beside the pipeline",
        ),
        pytest.param(
            "serving: /mnt/penstock/serving",
            "serving: serving",
            "pipeline.yaml:5: steps.pusher.with.push_destination: serving is relative, and what a pod writes there is lost",
            id="a serving directory",
        ),
        pytest.param(
            "curated: /mnt/penstock/curated",
            "curated: /mnt/penstock/curated, module_file: HERE/features.py",
            "pipeline.yaml:6: tfx.arguments.module_file: HERE/features.py is in the working directory of this machine, which is "
            "another one in the image. Write features.py",
            id="a path of this checkout",
        ),
    ],
)
def test_paths_that_a_pod_does_not_see_are_named(
    checkout: Enter, tmp_path: Path, old: str, new: str, expected: str
) -> None:
    here = str(checkout(tmp_path / "project"))
    (tmp_path / "features.py").write_text("def run_fn(fn_args): ...\n")
    assert DEFINITION.count(old) == 1
    new, expected = (text.replace("HERE", here).replace("BESIDE", str(tmp_path)) for text in (new, expected))
    Path("pipeline.yaml").write_text(DEFINITION.replace(old, new))

    (problem,) = check_on_cluster("pipeline.yaml").errors

    assert problem.startswith(expected)


def test_what_is_compared_with_the_served_model_has_to_see_it(checkout: Enter, tmp_path: Path) -> None:
    checkout(tmp_path / "project")
    steps = "{pusher: {volumes: [{claim: models, path: /srv}]}}"
    Path("pipeline.yaml").write_text(
        DEFINITION.replace("serving: /mnt/penstock/serving", "serving: /srv/flowers") + f"  steps: {steps}\n"
    )

    (problem,) = check_on_cluster("pipeline.yaml").errors

    assert problem.startswith(
        "pipeline.yaml:5: steps.latest: is given the model that is served from /srv/flowers, which is on no volume that its pod mounts"
    )


def test_a_file_that_only_pods_have_is_the_same_in_the_graph_here(checkout: Enter, tmp_path: Path) -> None:
    checkout(tmp_path / "project")
    told = tmp_path / "volume" / "words.txt"

    def digest() -> str:
        return load(f"{NAME}:create", [f"parameters.lookup={told}"]).graph.digest

    before = digest()
    told.parent.mkdir()
    told.write_text("one two\n")

    assert digest() == before


def test_a_metadata_file_in_the_image_is_warned_of_since_TFX_makes_its_directory(
    checkout: Enter, tmp_path: Path
) -> None:
    checkout(tmp_path / "project")
    Path("pipeline.yaml").write_text(DEFINITION.replace('{data: "', '{metadata: tfx/metadata.db, data: "'))

    (warning,) = compile_package("pipeline.yaml").warnings

    assert warning.endswith("which it cannot in an image: for Kubeflow, name one below /tmp")


def test_a_function_that_makes_a_pipeline_is_compiled_with_an_image_and_its_arguments(
    checkout: Enter, tmp_path: Path
) -> None:
    checkout(tmp_path / "project")
    given = [
        "kubeflow.image=registry.example.com/flowers:1",
        "kubeflow.defaults.volumes=[{claim: penstock, path: /mnt/penstock}]",
        *(f"parameters.{name}=/mnt/penstock/{name}" for name in ("data", "serving", "curated")),
    ]

    package = compile_package(f"{NAME}:create", given)

    assert package.image == "registry.example.com/flowers:1"
    assert package.parameters == {
        **{name: f"/mnt/penstock/{name}" for name in ("data", "serving", "curated")},
        "lookup": "",
    }  # what is left out and is None is none of a run's
    assert package.text.count("- parameters.serving=/mnt/penstock/serving") == len(package.tasks) + 1
    changed = load_on_cluster(f"{NAME}:create", {"serving": "/mnt/penstock/other"}, overrides=given)
    assert "/mnt/penstock/other" in changed.graph["pusher"].settings["push_destination"]


def test_a_function_without_an_image_says_what_to_give_or_to_write(checkout: Enter, tmp_path: Path) -> None:
    checkout(tmp_path / "project")

    with pytest.raises(ConfigError) as raised:
        compile_package(f"{NAME}:create", ["parameters.data=/mnt/penstock/data"])

    assert "Give --image, and the volume as --set" in str(raised.value)
    assert f'tfx: {{pipeline: {NAME}:create, arguments: {{"data": "/mnt/penstock/data"}}}}' in str(raised.value)
