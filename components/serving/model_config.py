"""Which models are served from where, which of their versions, and under which labels: arguments and `models.config`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class VersionPolicy:
    """Which of the versions that are there are served: the `latest` ones, all (`latest` None), or the `specific` ones."""

    latest: int | None = 1
    specific: tuple[int, ...] = ()

    def choose(self, there: Collection[int]) -> set[int]:
        """The versions to serve out of those that are there."""
        if self.specific:
            return set(self.specific).intersection(there)
        ordered = sorted(there, reverse=True)
        return set(ordered if self.latest is None else ordered[: self.latest])


ALL_VERSIONS = VersionPolicy(latest=None)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One model: its name in requests, its serving directory, its policy and labels."""

    name: str
    base_path: Path
    policy: VersionPolicy = VersionPolicy()
    labels: Mapping[str, int] = field(default_factory=dict)


def from_arguments(directories: Sequence[str]) -> tuple[ModelConfig, ...]:
    """`DIR` or `name=DIR` each; a directory without a name is called what its last part is called.

    Raises ConfigError, with all problems, for a name that no URL can hold, a name used twice, or a directory that is not there.
    """
    models: list[ModelConfig] = []
    for argument in directories:
        name, given, path = argument.partition("=")
        path = path if given else argument
        _refuse(
            [f"{path}: `pipeline serve` reads directories. TensorFlow Serving reads object stores"] * ("://" in path)
        )
        base = Path(path)
        models.append(ModelConfig(name=name if given else base.resolve().name, base_path=base))
    _refuse([*_wrong_names(models), *_wrong_directories(models)])
    return tuple(models)


def read_models_config(file: Path) -> tuple[ModelConfig, ...]:
    """The models of a `models.config`, a ModelServerConfig in protobuf's text format, as TensorFlow Serving reads it.

    Relative base paths are looked for from the file's directory. Raises ConfigError, with all problems, when the file is not
    there, is not such a message, or asks for what cannot be served.
    """
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error})") from error
    try:
        message = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    except text_format.ParseError as error:
        raise ConfigError(f"{file}: {error}. It should be a ModelServerConfig in protobuf's text format") from error
    if message.WhichOneof("config") != "model_config_list":
        raise ConfigError(f"{file}: has no model_config_list; nothing else can be served")
    problems: list[str] = []
    models = [_model(entry, file, problems) for entry in message.model_config_list.config]
    if not models:
        problems.append("model_config_list is empty; name a model in it")
    _refuse([f"{file}: {problem}" for problem in [*problems, *_wrong_names(models)]])
    return tuple(models)


def _model(entry: Any, file: Path, problems: list[str]) -> ModelConfig:
    """One `config {}`. What cannot be served is added to `problems`."""
    if entry.model_platform not in ("", "tensorflow"):
        problems.append(f"{entry.name}: model_platform is '{entry.model_platform}', and only 'tensorflow' is served")
    if not entry.base_path:
        problems.append(f"{entry.name}: base_path is empty; name the model's serving directory")
    choice = entry.model_version_policy.WhichOneof("policy_choice")
    policy = VersionPolicy()
    if choice == "all":
        policy = ALL_VERSIONS
    elif choice == "latest":
        policy = VersionPolicy(latest=max(1, entry.model_version_policy.latest.num_versions))
    elif choice == "specific":
        policy = VersionPolicy(specific=tuple(entry.model_version_policy.specific.versions))
        if not policy.specific:
            problems.append(f"{entry.name}: specific names no versions; name some, or leave the policy out")
    labels = dict(entry.version_labels)
    return ModelConfig(name=entry.name, base_path=file.parent / entry.base_path, policy=policy, labels=labels)


def _wrong_names(models: Sequence[ModelConfig]) -> Iterable[str]:
    names = [model.name for model in models]
    for name in dict.fromkeys(names):
        if not re.fullmatch(r"[^/:\s]+", name):
            yield f"'{name}' cannot be a model's name in a URL; write name=DIR with a name without /, : and spaces"
        if names.count(name) > 1:
            yield f"the name '{name}' is used twice; write name=DIR with a name of its own for each"


def _wrong_directories(models: Sequence[ModelConfig]) -> Iterable[str]:
    for model in models:
        if not model.base_path.is_dir():
            yield f"{model.base_path}: there is no such directory; `pipeline run` with a Pusher makes one"


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise ConfigError(*problems)
