"""A file -> Hyperparameters: values that an earlier search found, kept with the code."""

from __future__ import annotations

import json
from dataclasses import dataclass

from schemas.artifacts import Hyperparameters
from schemas.component import InputFiles, Out
from schemas.errors import ConfigError, DataError
from schemas.input_files import expand


@dataclass(frozen=True, kw_only=True)
class ImportHyperparameters:
    """A file -> Hyperparameters: values that an earlier search found, kept with the code.

    The file is a best_hyperparameters.txt, of this Tuner or of TFX's.
    """

    path: InputFiles  # JSON of keras_tuner.HyperParameters.get_config()

    def __post_init__(self) -> None:
        if not self.path.strip():
            raise ConfigError("path: give the file of an earlier search, as in configs/taxi/best_hyperparameters.txt")

    def run(self, hyperparameters: Out[Hyperparameters]) -> None:
        """Copy the file. Raises DataError when it is not there, or not what KerasTuner writes."""
        files = expand(self.path)
        if len(files) > 1:
            raise DataError(f"{self.path}: {len(files)} files match and one is wanted: {', '.join(map(str, files))}")
        content = files[0].read_bytes()
        try:
            found = json.loads(content)
            values = dict(found["values"])
            named = {parameter["config"]["name"] for parameter in found["space"]}
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{files[0]}: not hyperparameters ({type(error).__name__}: {error}). It is the JSON that Tuner writes as "
                f"best_hyperparameters.txt: the space, and the values"
            ) from error
        unknown = sorted(values.keys() - named - {name for name in values if name.startswith("tuner/")})
        if unknown:
            raise DataError(f"{files[0]}: has a value for {', '.join(unknown)}, which its space does not have")
        hyperparameters.file.write_bytes(content)
        hyperparameters.properties.update(values=values, origin=self.path)
