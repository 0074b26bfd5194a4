"""Retention: which old versions of a serving directory go, and how they go without a server seeing half of one."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from components.release import staging, versions
from components.serving.model_config import read_models_config
from schemas.errors import ConfigError
from schemas.passport import Passport


def retire(destination: Path, keep: int, protected: Collection[int] = ()) -> list[int]:
    """Remove all but the newest `keep` versions (at least 1) and the `protected` ones; gives what was removed.

    Only versions with a passport count and go: what another tool pushed is its own to remove. What is served now is never
    removed. A version disappears by one rename. What cannot be removed stays, and stderr says so: the push that came before
    is done all the same.
    """
    try:
        with staging.locked(destination):
            ours = [number for number in versions.listed(destination) if _has_passport(destination / str(number))]
            gone = to_retire(ours, keep, {*protected, *_served(destination)})
            for number in gone:
                hidden = destination / f"{staging.REMOVING}{number}"
                shutil.rmtree(hidden, ignore_errors=True)
                (destination / str(number)).rename(hidden)
                staging.sync_names(destination)  # first gone for good, then emptied
                shutil.rmtree(hidden)
            return gone
    except OSError as error:
        sys.stderr.write(f"Pusher: old versions in {destination} could not be removed: {error}\n")
        return []


def to_retire(numbers: Iterable[int], keep: int, protected: Collection[int]) -> list[int]:
    """Of the version `numbers`, those beyond the newest `keep` that nothing protects, oldest first."""
    return [number for number in sorted(numbers, reverse=True)[keep:] if number not in protected][::-1]


def protected_by(models_config: Path, destination: Path) -> set[int]:
    """The versions of `destination` that TensorFlow Serving's `models_config` labels, or tells a server to load.

    A model of that file is taken for the one in `destination` when its base_path ends in the same name: a server in a
    container knows the directory by another path. Raises ConfigError when the file cannot be read or has no such model.
    """
    return named_in(models_config, destination.name, versions.listed(destination))


def named_in(models_config: Path, name: str, there: Collection[int]) -> set[int]:
    """As `protected_by`, for versions that are `there` in a destination of that name."""
    try:
        found = read_models_config(models_config)
    except ConfigError as error:
        raise ConfigError(*(f"models_config: {problem}" for problem in error.problems)) from error
    models = [model for model in found if model.base_path.name == name]
    if not models:
        paths = ", ".join(str(model.base_path) for model in found)
        raise ConfigError(
            f"models_config: no base_path in {models_config} ends in '{name}', so nobody knows which labels are "
            f"this model's. There are: {paths}"
        )
    return {number for model in models for number in (*model.labels.values(), *model.policy.choose(there))}


def _served(destination: Path) -> list[int]:
    path = versions.served(destination)
    return [] if path is None else [int(path.name)]


def _has_passport(version: Path) -> bool:
    return (version / Passport.FILE).is_file()
