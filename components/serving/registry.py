"""Which versions of which models can be asked now: serving directories, polled, loaded before what they replace is let go."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from components.io import serving_directory
from components.serving import servable, warmup
from components.serving.model_config import ModelConfig
from components.serving.servable import Servable
from components.serving.status import Code, Unanswered, invalid
from schemas.errors import ArtifactError

START, LOADING, AVAILABLE, UNLOADING, END = "START", "LOADING", "AVAILABLE", "UNLOADING", "END"
_ENDED_KEPT = 10  # how many ended versions of a model its status still tells of

Say = Callable[[str], None]


@dataclass(frozen=True)
class VersionStatus:
    """Where a version is in its life. END with an error is one that could not be loaded or warmed up."""

    version: int
    state: str
    error: str = ""

    @property
    def code(self) -> str:
        """The name of its canonical code."""
        return Code.UNKNOWN.name if self.error else "OK"


class Registry:
    """The models that are served. `poll` looks at the disk; everything else answers from memory, in any thread.

    A version that fails to load or to warm up is END with its error, and the newest that can be served goes on being served; it
    is tried again when its files change. A model whose directory is gone, or holds nothing to serve, keeps what it has.
    """

    def __init__(self, models: Iterable[ModelConfig], say: Say) -> None:
        self.say = say
        self._polling = threading.Lock()
        self._models: dict[str, _Model] = {}
        self._coming: dict[str, _Model] = {}  # in another directory than before, until they have something to serve
        self._wanted: tuple[ModelConfig, ...] = ()
        self.configure(models)

    def configure(self, models: Iterable[ModelConfig]) -> None:
        """Replace the whole configuration. The next `poll` does what that takes."""
        self._wanted = tuple(models)

    def poll(self) -> None:
        """Load what should be served and is not, then drop what is served and should not be."""
        with self._polling:
            wanted = self._wanted
            models = dict(self._models)
            for config in wanted:
                old = models.get(config.name)
                model = old
                if model is None or model.config.base_path != config.base_path:
                    model = self._coming.get(config.name)
                if model is None or model.config.base_path != config.base_path:
                    model = self._coming[config.name] = _Model(config, self.say)
                model.config = config
                model.poll()
                if model is not old and (old is None or model.available):
                    models[config.name] = self._coming.pop(config.name)
                    self._models = dict(models)
                    if old is not None:
                        old.drop(set(old.available))
            names = {config.name for config in wanted}
            self._coming = {name: model for name, model in self._coming.items() if name in names}
            self._models = {name: model for name, model in models.items() if name in names}
            for name, model in models.items():
                if name not in names:
                    model.drop(set(model.available))

    def close(self) -> None:
        """Let go of everything."""
        self.configure(())
        self.poll()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the models."""
        return tuple(self._models)

    def available(self, name: str) -> tuple[int, ...]:
        """The versions of a model that can be asked, the largest first; none for a model that is not there."""
        model = self._models.get(name)
        return tuple(sorted(model.available, reverse=True)) if model else ()

    @property
    def ready(self) -> bool:
        """Whether there is anything that can be asked."""
        return any(model.available for model in self._models.values())

    def acquire(self, name: str, version: int | None = None, label: str | None = None) -> Servable:
        """The version that a request names, its largest without a version or label; the caller releases it.

        Raises Unanswered: NOT_FOUND when it is not served, INVALID_ARGUMENT for a label that the model does not have.
        """
        while True:
            model = self._models.get(name)
            asked = self._labelled(name, label) if label is not None else version
            found = None
            if model is not None:
                found = model.newest if asked is None else model.available.get(asked)
            if found is None:
                what = f"Latest({name})" if asked is None else f"Specific({name}, {asked})"
                raise Unanswered(Code.NOT_FOUND, f"Servable not found for request: {what}")
            if found.acquire():
                return found

    def status(self, name: str, version: int | None = None, label: str | None = None) -> list[VersionStatus]:
        """The states of a model's versions, the largest first, or of the one that is asked for.

        Raises Unanswered when there is none, or for a label that the model does not have.
        """
        if label is not None:
            version = self._labelled(name, label)
        model = self._models.get(name)
        statuses = dict(model.statuses) if model else {}
        if version is not None:
            if version not in statuses:
                raise Unanswered(Code.NOT_FOUND, f"Could not find version {version} of model {name}")
            return [statuses[version]]
        if not statuses:
            raise Unanswered(Code.NOT_FOUND, f"Could not find any versions of model {name}")
        return [statuses[number] for number in sorted(statuses, reverse=True)]

    def why(self, name: str) -> str:
        """Why a model has nothing that can be asked."""
        model = self._models.get(name)
        errors = [status.error for _, status in sorted(model.statuses.items()) if status.error] if model else []
        if model and model.unreadable:
            errors.append(f"It cannot be read ({model.unreadable})")
        return "\n  ".join(errors) or "There is no directory in it that is named by a number which the policy wants"

    def _labelled(self, name: str, label: str) -> int:
        model = self._models.get(name)
        if model is None or label not in model.labels:
            raise invalid(f"Unrecognized servable version label: {label}")
        return model.labels[label]


class _Model:
    """One model's versions. Only the polling thread changes it, and never a dictionary that a request may be reading."""

    def __init__(self, config: ModelConfig, say: Say) -> None:
        self.config = config
        self.available: Mapping[int, Servable] = {}
        self.newest: Servable | None = None
        self.labels: Mapping[str, int] = {}
        self.statuses: Mapping[int, VersionStatus] = {}
        self.unreadable = ""  # why the directory could not be read at the last look
        self._say = say
        self._failed: dict[int, object] = {}  # what its files were when a version failed
        self._complaint = ""

    def poll(self) -> None:
        try:
            there = serving_directory.versions(self.config.base_path)
            for version, files in list(self._failed.items()):
                if version not in there or files != _files(there[version]):
                    del self._failed[version]
        except OSError as error:
            self.unreadable = error.strerror or str(error)
            stays = "; what is served stays" if self.available else ""
            self._complain(f"cannot be read ({self.unreadable}){stays}")
            return
        self.unreadable = ""
        while missing := self._choice(there) - self.available.keys():
            self._load(max(missing), there[max(missing)])
        self._set_labels()
        wanted = self._choice(there)
        if wanted:
            self._complaint = ""
            self.drop(self.available.keys() - wanted - set(self.labels.values()))
        elif self.available:
            self._complain("holds nothing to serve; what is served stays")
        elif not self._failed:
            self._complain("holds nothing to serve: no directory in it is named by a number that the policy wants")

    def drop(self, versions: Set[int]) -> None:
        """Let go of versions: no new request reaches them, and they are closed when the last one is answered."""
        for version in sorted(versions):
            servable = self.available[version]
            self._set_available({number: one for number, one in self.available.items() if number != version})
            self._set_status(version, UNLOADING)
            servable.retire()
            self._set_status(version, END)
        if versions:
            gc.collect()  # a graph is cycles of Python objects, and Python would leave several versions of it in memory

    def _choice(self, there: Mapping[int, Path]) -> set[int]:
        return self.config.policy.choose([version for version in there if version not in self._failed])

    def _load(self, version: int, path: Path) -> None:
        self._set_status(version, START)
        try:
            files = _files(path)
        except OSError as error:
            self._fail(version, None, f"{path} cannot be read ({error})")
            return
        self._set_status(version, LOADING)
        try:
            loaded = servable.load(self.config.name, version, path)
            try:
                requests = warmup.warm_up(loaded, path)
            except ArtifactError:
                loaded.retire()
                raise
        except ArtifactError as error:
            self._fail(version, files, str(error))
            return
        self._set_available({**self.available, version: loaded})
        self._set_status(version, AVAILABLE)
        warm = f", {requests} warm-up requests answered" if requests else ""
        self._say(f"{self.config.name} version {version}: available{warm}")

    def _fail(self, version: int, files: object, error: str) -> None:
        self._failed[version] = files
        self._set_status(version, END, error)
        self._say(f"{self.config.name} version {version}: not served: {error}")

    def _set_labels(self) -> None:
        """A label moves to another version when that can be asked, and stays where it was until then."""
        labels = {}
        for label, version in self.config.labels.items():
            before = self.labels.get(label)
            if version in self.available or before not in self.available:
                labels[label] = version
            elif before is not None:
                labels[label] = before
        self.labels = labels

    def _set_available(self, available: Mapping[int, Servable]) -> None:
        self.available = available
        self.newest = available[max(available)] if available else None

    def _set_status(self, version: int, state: str, error: str = "") -> None:
        statuses = {**self.statuses, version: VersionStatus(version, state, error)}
        ended = [number for number, status in statuses.items() if status.state == END and number not in self._failed]
        for number in sorted(ended)[:-_ENDED_KEPT]:
            del statuses[number]
        self.statuses = statuses

    def _complain(self, what: str) -> None:
        """Say it once, not every second."""
        if self._complaint != what:
            self._complaint = what
            self._say(f"{self.config.name}: {self.config.base_path} {what}")


def _files(path: Path) -> list[tuple[str, int, int]]:
    """Every file in a version's directory with its size and when it was written, to notice when one changes."""
    found = ((file, file.stat()) for file in sorted(path.rglob("*")) if file.is_file())
    return [(file.relative_to(path).as_posix(), stat.st_size, stat.st_mtime_ns) for file, stat in found]
