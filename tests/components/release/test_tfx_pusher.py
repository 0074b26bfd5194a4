"""TFX's Pusher: what its executor pushes appears whole and with a passport, and a blessing that says no ends the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.check import check_pipeline
from pipeline.contract import build_component, read_contract
from schemas.artifacts import Blessing, Model, PushedModel
from schemas.component import BeamOptions, Lineage, Scratch
from schemas.dotted_path import resolve
from schemas.errors import ArtifactError, ConfigError, NotBlessed
from schemas.passport import Passport

PUSHER = "tfx.v1.components.Pusher"

PUSHERS = """
from tfx import v1 as tfx
from tfx.components.pusher import executor
from tfx.dsl.components.base import executor_spec


class Elsewhere(executor.Executor):
    def Do(self, input_dict, output_dict, exec_properties):
        (pushed,) = output_dict["pushed_model"]
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            return
        self._MarkPushed(pushed, pushed_destination="registry://models/taxi", pushed_version="v7")


class RegistryPusher(tfx.components.Pusher):
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Elsewhere)
"""


@pytest.fixture
def push(
    tmp_path: Path, model: Model, outputs_of: Callable[[type, Path], dict[str, Any]]
) -> Callable[..., PushedModel]:
    """(reasons against the model, lineage) -> what was pushed into tmp_path/serving."""

    def push_(*reasons: str, lineage: Lineage | None = None, component: Any = None) -> PushedModel:
        kind = type(component) if component is not None else resolve(PUSHER)
        blessing = Blessing(tmp_path / f"blessing-{len(list(tmp_path.iterdir()))}")
        blessing.write(reasons)
        outputs = outputs_of(kind, tmp_path / f"outputs-{len(list(tmp_path.iterdir()))}")
        asked: dict[type, Any] = {
            BeamOptions: BeamOptions(),
            Scratch: Scratch(tmp_path / f"scratch-{len(list(tmp_path.iterdir()))}"),
            Lineage: lineage or Lineage(),
        }
        asked[Scratch].path.mkdir()
        asks = {name: asked[ask] for name, ask in read_contract(kind).asks.items()}
        component = component or pusher(tmp_path / "serving")
        component.run(model=model, model_blessing=blessing, infra_blessing=None, **outputs, **asks)
        pushed: PushedModel = outputs["pushed_model"]
        return pushed

    return push_


def pusher(directory: Path) -> Any:
    return build_component(resolve(PUSHER), {"push_destination": {"filesystem": {"base_directory": str(directory)}}})


def test_what_TFX_pushes_is_a_version_with_a_passport(
    tmp_path: Path, model: Model, push: Callable[..., PushedModel]
) -> None:
    evaluation = {"type": "ModelEvaluation", "digest": "sha256:evaluation", "properties": {"metrics": {"auc": 0.8}}}
    lineage = Lineage(
        pipeline="taxi",
        run="r1",
        steps={"evaluator": {"outputs": {"evaluation": evaluation}}},
        inputs={
            "model": {"step": "trainer", "digest": "sha256:candidate"},
            "model_blessing": {"step": "evaluator", "digest": "sha256:blessing"},
        },
    )

    pushed = push(lineage=lineage)

    version = pushed.version_path
    assert (version / "saved_model.pb").read_bytes() == (model.serving / "saved_model.pb").read_bytes()
    passport = Passport.read(version)
    assert passport is not None
    assert (passport.pipeline, passport.model_digest) == ("taxi", "sha256:candidate")
    assert passport.metrics == {"auc": 0.8}
    assert (pushed.path / "saved_model.pb").is_file()  # TFX's own copy, which its components read
    served = pusher(tmp_path / "serving").served()
    assert served is not None
    assert served[0] == pushed.properties["version"]
    assert pusher(tmp_path / "serving").holds(pushed)


def test_versions_only_grow_and_none_is_removed(tmp_path: Path, push: Callable[..., PushedModel]) -> None:
    first, second = push(), push()

    assert int(second.properties["version"]) > int(first.properties["version"])
    assert first.version_path.is_dir()


def test_a_model_that_is_not_blessed_ends_the_run(tmp_path: Path, push: Callable[..., PushedModel]) -> None:
    with pytest.raises(NotBlessed, match="accuracy 0.41 is below 0.60"):
        push("accuracy 0.41 is below 0.60")

    assert not (tmp_path / "serving").exists()


@pytest.fixture
def registry(user_module: Callable[[str, str], str]) -> Any:
    """The Pusher of a user whose executor pushes to where only it knows."""
    return resolve(user_module(PUSHERS, "RegistryPusher"))


def test_an_executor_with_a_destination_of_its_own_runs_as_it_is(
    tmp_path: Path, registry: Any, push: Callable[..., PushedModel]
) -> None:
    component = build_component(registry, {})

    pushed = push(component=component)

    assert pushed.properties["custom_properties"]["pushed_destination"] == "registry://models/taxi"
    assert component.served() is None
    assert component.holds(pushed)
    with pytest.raises(NotBlessed, match="accuracy 0.41 is below 0.60"):
        push("accuracy 0.41 is below 0.60", component=component)


def test_an_executor_that_leaves_its_push_destination_alone_is_told_what_to_do(
    tmp_path: Path, registry: Any, push: Callable[..., PushedModel]
) -> None:
    destination = {"filesystem": {"base_directory": str(tmp_path / "serving")}}

    with pytest.raises(ArtifactError, match=r"Elsewhere wrote no version .*leave push_destination out"):
        push(component=build_component(registry, {"push_destination": destination}))


TWO = """
name: two
steps:
  model: {uses: tfx.types.standard_artifacts.Model, with: {source_uri: model}}
  ours: {uses: Pusher, with: {destination: serving, require_blessing: false}, inputs: {model: model.result}}
  theirs:
    uses: tfx.v1.components.Pusher
    with: {push_destination: {filesystem: {base_directory: serving}}}
    inputs: {model: model.result}
  nowhere:
    uses: tfx.v1.components.Pusher
    with: {push_destination: {}}
    inputs: {model: model.result}
"""


def test_a_push_to_where_another_step_pushes_or_to_nowhere_is_found_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.yaml").write_text(TWO)

    errors = check_pipeline("two.yaml").errors

    assert any("'serving' is where 'ours' pushes too" in error for error in errors)
    assert any("nowhere" in error and "push_destination: names no directory" in error for error in errors)


def test_a_push_to_no_directory_is_an_error() -> None:
    component = build_component(resolve(PUSHER), {"push_destination": {}})

    with pytest.raises(ConfigError, match="push_destination: names no directory"):
        component.served()
