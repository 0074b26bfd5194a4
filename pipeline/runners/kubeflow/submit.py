"""Package -> a run on Kubeflow Pipelines: its version uploaded if it is not there, its parameters checked."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pipeline.runners.kubeflow.api import AlreadyThere, Api, PackageRefused
from pipeline.runners.kubeflow.package_file import PackageFile
from schemas.errors import KubeflowError


@dataclass(frozen=True)
class Uploaded:
    """A pipeline's version in Kubeflow. `new` when this call put it there."""

    pipeline: str
    version: str
    new: bool


@dataclass(frozen=True)
class Started:
    """A run that Kubeflow has taken."""

    run: str
    name: str
    pipeline: str
    version: str
    uploaded: bool
    experiment: str
    arguments: Mapping[str, Any]
    page: str | None  # where the UI shows it
    endpoint: str
    fast: Mapping[str, str] = field(default_factory=dict)  # what --fast made of each step of TFX's, in words

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "run": self.run,
            "name": self.name,
            "pipeline": self.pipeline,
            "version": self.version,
            "uploaded": self.uploaded,
            "experiment": self.experiment,
            "parameters": dict(self.arguments),
            "url": self.page,
            **({"fast": dict(self.fast)} if self.fast else {}),
        }

    def as_text(self) -> str:
        """What was uploaded and started, and where to look."""
        lines = [
            f"{self.version}  {'uploaded' if self.uploaded else 'was there already'}",
            f"run {self.run}  '{self.name}', experiment '{self.experiment}'",
        ]
        if self.arguments:
            lines.append("parameters: " + ", ".join(f"{name}={value}" for name, value in self.arguments.items()))
        lines += [f"{step}: {what}" for step, what in self.fast.items()]
        lines.append(self.page or f"{self.endpoint} has no pages: the UI shows it at #/runs/details/{self.run}")
        return "\n".join(lines)


def upload(api: Api, package: PackageFile) -> Uploaded:
    """Have this very package as a version of its pipeline; nothing is uploaded when it is there.

    Any number of processes may do so at once: who comes second takes what the first has made. Raises PackageRefused with what
    the API server found wrong, and KubeflowError.
    """
    pipeline = api.pipelines.find(package.name)
    created = pipeline is None
    if pipeline is None:
        try:
            pipeline = api.pipelines.create(package.name, "Made by Penstock")
        except AlreadyThere:
            created = False
            pipeline = api.pipelines.find(package.name)
            if pipeline is None:
                raise
    version = api.pipelines.find_version(pipeline, package.version)
    if version:
        return Uploaded(pipeline, version, new=False)
    try:
        version = api.pipelines.upload_version(
            pipeline, package.version, package.file, f"Made by Penstock from {package.file.name}"
        )
    except KubeflowError as error:
        # 2.5 answers 500 where later ones say 409.
        theirs = None if isinstance(error, PackageRefused) else api.pipelines.find_version(pipeline, package.version)
        if theirs:
            return Uploaded(pipeline, theirs, new=False)
        if created:
            with contextlib.suppress(KubeflowError):  # somebody else's version may be in it by now
                api.pipelines.delete_empty(pipeline)
        raise
    return Uploaded(pipeline, version, new=True)


def start(
    api: Api,
    package: PackageFile,
    arguments: Mapping[str, Any],
    *,
    name: str | None = None,
    experiment: str | None = None,
    service_account: str | None = None,
    description: str = "",
) -> Started:
    """Upload the package if need be and start a run of it in `experiment`, by default the one named like the pipeline.

    Raises KubeflowError.
    """
    uploaded = upload(api, package)
    name = name or f"{package.name} {datetime.now():%Y-%m-%d %H-%M-%S}"
    experiment = experiment or package.name
    run = api.runs.create(
        name,
        pipeline=uploaded.pipeline,
        version=uploaded.version,
        experiment=have_experiment(api, experiment),
        arguments=arguments,
        service_account=service_account,
        description=description,
    )
    return Started(
        run=run,
        name=name,
        pipeline=package.name,
        version=package.version,
        uploaded=uploaded.new,
        experiment=experiment,
        arguments=arguments,
        page=api.runs.page_of(run),
        endpoint=api.endpoint,
    )


def have_experiment(api: Api, name: str) -> str:
    """The id of the experiment of this name, made if it is not there. Any number of processes may ask at once."""
    found = api.experiments.find(name)
    if found:
        return found
    try:
        return api.experiments.create(name)
    except AlreadyThere:
        theirs = api.experiments.find(name)
        if theirs is None:
            raise
        return theirs
