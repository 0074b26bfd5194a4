"""The whole contract of a step: what `run`'s signature may say, and what the framework gives it.

A component is a frozen, keyword-only dataclass. Its fields are settings, `__post_init__` checks them (raising ConfigError
with every problem, each beginning with the field's name), and `run` is the work:

    @dataclass(frozen=True, kw_only=True)
    class StatisticsGen:
        sample_rate: float = 1.0

        def run(self, examples: Examples, beam: BeamOptions, statistics: Out[Statistics]) -> None: ...

The types of `run`'s parameters are the contract, and nothing else declares ports:

| annotation | meaning |
|---|---|
| an artifact type (`Examples`) | an input; wired by name, or left out where exactly one earlier step makes one: that very type first, then one derived from it |
| `TransformedExamples \\| Examples` | an input of the first of these types that an earlier step makes |
| an artifact type `\\| None = None` | an input that may stay unwired, and does unless it is wired where the type is `EXPLICIT` |
| `IfOnlyOne[Statistics] = None` | an input that may stay unwired, and does where several earlier steps make one and none is named |
| `Out[Statistics]` | an output: an existing empty directory to fill |
| `Out[ModelRun] \\| None = None` | an output likewise, which only who calls `run` from Python may leave out |
| `BeamOptions`, `Scratch`, `Seed`, `Baseline`, `Progress`, `Lineage`, `PlannedFiles`, `PartCache`, `Earlier` | what the step asks of the framework |

Types of settings that the framework acts on:

| annotation | meaning |
|---|---|
| `UserCode` | dotted path of a user's function, or path of a Python file (`....py`); its module and what that imports become part of the step's key |
| `InputFiles` | a path, glob or `pkg://package/path`; the content of the files becomes part of the step's key |
| `ChoosesFiles[int]` | chooses among the files of the `InputFiles` settings, and so is itself no part of the key: what it chose is |
| `Annotated[bool, Makes("examples")]` | whether the step makes that output: while this is false it is left empty, and nothing is wired to it |
| `LeavesOut` | names of outputs that the step does not make: they are left empty, and nothing is wired to them |
| `WantsBaseline` | whether the step, which asks for a `Baseline`, wants it: while this is false it is given none, and none is part of its key |
| `Annotated[str, WantsBaselineMarker("retrain")]` | likewise: it wants one where this is "retrain" |
| `Annotated[str, MayEndRunMarker("retrain")]` | where this is "retrain", every step below waits for this one, which may find that it is not needed (NotNeeded) |

A step that publishes outside the store (Pusher) also has the two methods of `Publisher`, one whose settings are written in
another form than they are kept in has that of `ReadsSettings`, one that reads what artifacts say of themselves, beside
their files, that of `ReadsProperties`, one whose settings choose among
the files that an `InputFiles` setting names has that of `SelectsFiles`, and one that loads the user's modules in its own way that of
`HoldsUserCode`. A class attribute `LEAST_MEMORY`
says how many bytes a step's process takes whatever the data: libraries, and buffers of a fixed size; `PASSES_ON = True`, that
what the step puts out is of an earlier run and no result of this one.

Whether a step runs at all is no business of its component: a definition has a `Condition` for that.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar, runtime_checkable

from schemas.artifacts.pushed_model import PushedModel

JsonScalar = bool | int | float | str | None

if TYPE_CHECKING:
    from schemas.artifact import Artifact
    from schemas.input_files import FoundFile
    from schemas.location import Location, ObjectUrl
    from schemas.passport import Passport

T = TypeVar("T")


class OutputMarker:
    """What makes `Out[T]` an output. There is one, `OUTPUT`."""


class MayEndRunMarker:
    """What makes a setting have every step below wait while its value is one of `when`."""

    def __init__(self, *when: JsonScalar) -> None:
        self.when = when


OUTPUT = OutputMarker()
Out = Annotated[T, OUTPUT]
"""`Out[Statistics]` is a Statistics whose directory is still empty."""


class IfOnlyOneMarker:
    """What lets an input stay unwired where it could be several."""


IfOnlyOne = Annotated[T | None, IfOnlyOneMarker()]
"""`IfOnlyOne[Statistics]` is a Statistics, or None where no earlier step makes one, or several do and nobody says which."""


class UserCodeMarker:
    """What makes `UserCode` followed into the user's modules."""


class InputFilesMarker:
    """What makes the files behind `InputFiles` part of the key."""


class ChoosesFilesMarker:
    """What keeps a setting out of the key because the files it chooses are in it."""


@dataclass(frozen=True)
class Makes:
    """What makes a setting decide whether the step makes its output of that name."""

    output: str


class LeavesOutMarker:
    """What makes a setting name outputs that the step does not make."""


class WantsBaselineMarker:
    """What makes a setting decide whether the step is given a `Baseline`: it is where the value is one of `when`, or is true."""

    def __init__(self, *when: JsonScalar) -> None:
        self.when = when

    def wants(self, value: object) -> bool:
        """Whether a setting of this value wants one."""
        return value in self.when if self.when else bool(value)


UserCode = Annotated[str, UserCodeMarker()]
InputFiles = Annotated[str, InputFilesMarker()]
ChoosesFiles = Annotated[T, ChoosesFilesMarker()]
LeavesOut = Annotated[tuple[str, ...], LeavesOutMarker()]
WantsBaseline = Annotated[bool, WantsBaselineMarker()]


@runtime_checkable
class Component(Protocol):
    """Anything with a `run` method whose annotations follow this module's table."""

    run: Any  # every component has its own signature


@dataclass(frozen=True)
class BeamOptions:
    """Where a step's Beam pipeline runs, and in how much memory. `args` are passed to Beam as they are.

    `runner` is a Beam runner's name; `InMemoryRunner` is Beam's in-process one, named outright because newer versions of
    DirectRunner try to download a binary. `memory` bounds, in bytes, what a process of the step may hold of the data; None
    bounds nothing. It is no part of the key: a step makes the same whatever the bound, or says that it cannot.
    """

    runner: str = "InMemoryRunner"
    args: tuple[str, ...] = ()
    memory: int | None = None


@dataclass(frozen=True)
class Scratch:
    """A directory that survives a killed run and is removed once the step's outputs are published.

    It belongs to the step's key: what is found there was written by an earlier attempt at exactly this work.
    """

    path: Path


@dataclass(frozen=True)
class Seed:
    """The run's seed; None means that randomness is wanted. Part of the key of the steps that ask for it."""

    value: int | None = None


@dataclass(frozen=True)
class Baseline:
    """The model to compare against: what the serving directory serves now. `path` is a SavedModel, None when there is none.

    `digest` is the Model artifact's digest as its passport records it; `version` the served version number. Until a step runs
    that takes it, a model that is served from an object store has its address in `remote` and no `path`; then the framework
    fetches it, and `path` is the local copy.
    """

    path: Path | None = None
    digest: str | None = None
    version: int | None = None
    remote: ObjectUrl | None = None


class Progress:
    """How far a step is. Calling it is cheap and may be done as often as one likes; the base class drops the report."""

    def __call__(self, done: int, total: int | None = None, unit: str = "rows") -> None:
        """`done` of `total` (None when unknown) `unit` are finished."""


@dataclass(frozen=True)
class InputFile:
    """A file that a step reads, as it was when the step was planned. `span`, `version` and `label` are None without a {SPAN}."""

    path: Path
    digest: str  # sha256:<hex>
    bytes: int
    span: int | None = None
    version: int | None = None
    label: str | None = None  # what a person calls the span: '41' or '2026-07-31'
    name: str | None = None  # what the key knows it by; None: its own name, wherever it lies


@dataclass(frozen=True)
class PlannedFiles:
    """The input files that the step's key counts, by setting, in the order in which they are read.

    What appeared since the step was planned is not among them: it is left for the next run. Empty where nobody planned: a
    component that is called from Python looks for its files itself.
    """

    by_setting: Mapping[str, tuple[InputFile, ...]] = field(default_factory=dict)


class PartCache:
    """What earlier executions of the same code made of parts of their input (a span, a shard), so that it is not made again.

    A part is a directory under a name: hexadecimal digits, a digest of everything it depends on but the component's own code and
    the libraries, which the framework adds: the content it was made of, the settings that matter, the user's code. Whether a
    part is found must not change what the step makes. To be called in the step's own process, never in a Beam worker. A file of a
    part may share its content with an output (components.io.links), so neither is ever written to again. The base class finds
    nothing and keeps nothing.
    """

    def find(self, name: str) -> Path | None:
        """The directory kept as `name`, every byte of it checked; None when there is none. To be read, linked to or copied.

        It stays for as long as the step runs.
        """
        return None

    @contextlib.contextmanager
    def keep(self, name: str) -> Iterator[Path]:
        """An empty directory to put files, copies or hard links in; once the context ends without an exception, `find` gives it.

        Where another process has kept a part under the name meanwhile, `find` gives that one.
        """
        with tempfile.TemporaryDirectory() as dropped:
            yield Path(dropped)


@dataclass(frozen=True)
class Lineage:
    """Where a run's artifacts came from, as far as the step's ancestors go. JSON data throughout.

    `steps` maps each ancestor's id to {"key", "component", "settings", "inputs", "outputs", "files", "code"}, where `inputs` and `outputs`
    map a port to {"type", "digest", "properties"}, an ExampleGen's `files` lists {"path", "digest", "bytes"} of what it
    read, with "span", "version" and "label" where its source has a {SPAN}, and `code` maps each module of the user's that the step's key counts to {"file", "digest"}. `inputs` are the asking step's own: port -> {"step", "output", "type", "digest"}.
    """

    pipeline: str = ""
    run: str = ""
    graph_digest: str = ""
    git_commit: str | None = None
    steps: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    baseline: Baseline = field(default_factory=Baseline)


@dataclass(frozen=True, kw_only=True)
class Sought:
    """What a step looks for among all that earlier runs of the pipeline made, whatever definition they were of."""

    type: str  # the type's name
    step: str | None = None  # None: whatever step made it
    output: str | None = None  # None: under whatever name
    besides: tuple[str, ...] = ()  # what the dotted paths of components begin with that only pass artifacts on


@dataclass(frozen=True)
class Earlier:
    """The newest artifact of what a step `sought`, from before this run; `path` is None where there is none.

    While nothing that a run is made of changes, what was made of the one that a step was given does not take its place: an
    unchanged run changes nothing.
    """

    path: Path | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)
    run: str | None = None  # that made it


@runtime_checkable
class LooksBack(Protocol):
    """A component that asks for `Earlier`."""

    def sought(self) -> Sequence[Sought]:
        """What it is given comes first. There is none unless there is one of each."""


@runtime_checkable
class SelectsFiles(Protocol):
    """A component whose settings choose among the files that its `InputFiles` settings name."""

    def select_files(self) -> Mapping[str, Sequence[FoundFile]]:
        """The files that a run begun now would read, by setting, in the order in which they are read. Raises DataError."""


@runtime_checkable
class ReadsSettings(Protocol):
    """A component whose settings are written in another form than they are kept in."""

    @classmethod
    def read_settings(cls, written: Mapping[str, Any]) -> Mapping[str, Any]:
        """The settings to keep of those that a user wrote; of kept ones, the same. Raises ConfigError."""


@runtime_checkable
class ReadsProperties(Protocol):
    """A component that makes something else where an input has the same files and says something else of itself."""

    @classmethod
    def properties_read(cls, port: str, properties: Mapping[str, Any]) -> Mapping[str, Any]:
        """Of the `properties` of the artifact at an input those that may decide what is made, as JSON data: they count for the key."""


class Condition(Protocol):
    """What decides whether a step runs, as soon as the artifacts that it reads are there. A frozen dataclass, as a component is.

    It is asked in the runner's own process, each time: what it takes long for, a step had better do.
    """

    def check(self, read: Mapping[str, Artifact]) -> None:
        """`read` has the artifacts by their wires, as 'evaluator.blessing'.

        Raises NotBlessed where a verdict keeps the step from running, and NotNeeded where anything else does.
        """


@runtime_checkable
class HoldsUserCode(Protocol):
    """A component that has the user's modules read anew while it runs, and can have them stay as they were."""

    def hold_user_code(self) -> Collection[str]:
        """The names by which keys know the modules that are in memory now, and will be taken from there."""


@runtime_checkable
class Publisher(Protocol):
    """A component that publishes outside the store, into a serving directory."""

    def served(self) -> tuple[int, Passport | None, Location] | None:
        """(version, its passport if it has one, its location) of what is served now; None when nothing is."""

    def holds(self, pushed: PushedModel) -> bool:
        """Whether what an earlier run pushed is still there, so that the push need not be repeated."""
