"""What is served: arguments and models.config."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.serving.model_config import (
    ALL_VERSIONS,
    ModelConfig,
    VersionPolicy,
    from_arguments,
    read_models_config,
)
from schemas.errors import ConfigError

EVERY_POLICY = """
model_config_list {
  config { name: 'one', base_path: '/models/one', model_platform: 'tensorflow' }
  config { name: 'two', base_path: 'two', model_version_policy { latest { num_versions: 2 } } }
  config { name: 'all', base_path: '/models/all', model_version_policy { all {} } }
  config {
    name: 'some' base_path: '/models/some' model_platform: 'tensorflow'
    model_version_policy { specific { versions: 42 versions: 43 } }
    version_labels { key: 'stable' value: 42 }
    version_labels { key: 'canary' value: 43 }
  }
}
"""


def test_a_directory_is_served_under_its_own_name_or_the_one_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taxi").mkdir()
    monkeypatch.chdir(tmp_path / "taxi")

    assert from_arguments([".", f"cab={tmp_path}/taxi"]) == (
        ModelConfig(name="taxi", base_path=Path()),
        ModelConfig(name="cab", base_path=tmp_path / "taxi"),
    )


def test_every_wrong_argument_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        from_arguments([f"a/b={tmp_path}", f"x={tmp_path}", f"x={tmp_path}", f"{tmp_path}/nothing"])

    assert [problem.split(":")[0] for problem in error.value.problems] == [
        "'a/b' cannot be a model's name in a URL; write name=DIR with a name without /, ",
        "the name 'x' is used twice; write name=DIR with a name of its own for each",
        f"{tmp_path}/nothing",
    ]


def test_models_config_is_read_as_tensorflow_serving_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text(EVERY_POLICY)

    assert read_models_config(file) == (
        ModelConfig(name="one", base_path=Path("/models/one")),
        ModelConfig(name="two", base_path=tmp_path / "two", policy=VersionPolicy(latest=2)),
        ModelConfig(name="all", base_path=Path("/models/all"), policy=ALL_VERSIONS),
        ModelConfig(
            name="some",
            base_path=Path("/models/some"),
            policy=VersionPolicy(specific=(42, 43)),
            labels={"stable": 42, "canary": 43},
        ),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_config_lst {}", "has no field named"),
        ("", "has no model_config_list"),
        ("model_config_list {}", "model_config_list is empty"),
        ("model_config_list { config { name: 'x' } }", "x: base_path is empty"),
        ("model_config_list { config { name: 'x' base_path: '/x' model_platform: 'torch' } }", "'torch'"),
        (
            "model_config_list { config { name: 'x' base_path: '/x' model_version_policy { specific {} } } }",
            "x: specific names no versions",
        ),
        ("model_config_list { config { base_path: '/x' } }", "'' cannot be a model's name"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_file(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "models.config"
    file.write_text(text)

    with pytest.raises(ConfigError) as error:
        read_models_config(file)

    assert str(file) in str(error.value)
    assert message in str(error.value)


def test_a_models_config_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_models_config(tmp_path / "models.config")
