"""The lineage of runs -> an ML Metadata SQLite file, as TFX's own runner writes one."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from components.io.tfx_artifacts import CUSTOM, OURS, empty_tfx, set_custom, to_tfx
from schemas.artifact import ABSENT, Artifact
from schemas.dotted_path import resolve
from schemas.errors import ArtifactError, ConfigError
from schemas.run_lineage import MadeArtifact, RanStep, RunLineage

_DIGEST = "penstock_digest"  # custom property of artifacts: a forced run puts another content at the same uri
_FACT = "__penstock_{}__"  # custom property of executions; TFX takes what begins so for nobody's setting
_IMPORTER = "tfx.dsl.components.common.importer.Importer"
_RESOLVER = "tfx.dsl.components.common.resolver.Resolver"
_RESOLVERS = ("components.io.tfx_nodes.LatestBlessedModel", "components.io.tfx_resolvers.")  # as these begin
_OWN_SETTINGS = ("executor", "user_code", "left_out", "named_files")  # of a TFX component, beside TFX's parameters
_JUDGED = {
    "current_model": "model",
    "baseline_model": "baseline_model",
}  # of a blessing, by TFX's name: the port of its step
_FAILED = 13  # google.rpc.Code.INTERNAL


def check(file: Path) -> None:
    """Raise ConfigError when a file that is there is no ML Metadata database in SQLite that this version can add to."""
    from ml_metadata import errors
    from ml_metadata.metadata_store import MetadataStore

    try:
        MetadataStore(_connection(file, read_only=True)).get_artifact_types()
    except (RuntimeError, errors.StatusError) as error:
        raise ConfigError(
            f"{file} is no ML Metadata database in SQLite that this version can add to ({_first_line(error)}). Name another file: it "
            f"is made"
        ) from error


def write(file: Path, runs: Sequence[RunLineage]) -> Mapping[str, Any]:
    """Add runs to a database, older ones first, since TFX takes what was added last for the latest; gives what was added.

    `file` is an ML Metadata database, or is made. What it has of a run already stays as it is, unless the run went on since.
    Gives how many `executions` and `artifacts` are new or changed, and `notes`, sentences on what could not be written as it is.
    """
    from tfx.orchestration.metadata import Metadata

    with Metadata(_connection(file)) as handle:
        writer = _Writer(handle)
        for run in runs:
            writer.add(run)
    if writer.executions or writer.artifacts:
        _correct(file, writer.times, writer.floats)
    return {"executions": writer.executions, "artifacts": writer.artifacts, "notes": list(dict.fromkeys(writer.notes))}


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


class _Writer:
    """Adds runs to an open database."""

    def __init__(self, handle: Any) -> None:
        self.executions = self.artifacts = 0  # new or changed
        self.notes: list[str] = []
        self.times: dict[str, dict[int, tuple[datetime, datetime]]] = {"Artifact": {}, "Execution": {}, "Context": {}}
        self.floats: dict[str, list[tuple[float, int, str, bool]]] = {"Artifact": [], "Execution": []}
        self._handle = handle
        self._store = handle.store
        self._types: dict[
            tuple[str, ...], int
        ] = {}  # ids of artifact types by name and properties: one that is gone has none

    def add(self, run: RunLineage) -> None:
        """Add one run: contexts, artifacts, executions and the events between them."""
        pb = _messages()

        pipeline = self._context("pipeline", run.pipeline, run)
        contexts = [pipeline, self._context("pipeline_run", run.run, run, [pipeline])]
        placed = self._placed(run)
        edges = []
        executions: list[tuple[RanStep, Any]] = []
        artifacts = list({artifact.id: artifact for artifact in placed.values()}.values())
        places = {artifact.id: at for at, artifact in enumerate(artifacts)}
        for artifact in artifacts:
            self.floats["Artifact"] += _floats(artifact, artifact.id)
        for step in run.steps:
            execution = self._execution(run, step)
            if execution is None:
                continue
            known = {
                (event.artifact_id, event.type)
                for event in (self._store.get_events_by_execution_ids([execution.id]) if execution.id else ())
            }
            for event, artifact in _events(step, {path: artifact.id for path, artifact in placed.items()}):
                if (artifact, event.type) not in known:
                    edges.append((len(executions), places[artifact], event))
            executions.append((step, execution))
        if not executions:
            return
        self.executions += len(executions)
        ids, _, _ = self._store.put_lineage_subgraph(
            executions=[execution for _, execution in executions],
            artifacts=artifacts,
            contexts=contexts,
            event_edges=edges,
            reuse_context_if_already_exist=True,
        )
        attributions, associations = [], []
        for (step, execution), id_ in zip(executions, ids, strict=True):
            self.floats["Execution"] += _floats(execution, id_)
            self.times["Execution"][id_] = (step.began_at, step.ended_at)
            node = self._context("node", f"{run.pipeline}.{step.step}", run)
            associations.append(pb.Association(execution_id=id_, context_id=node.id))
            used = {made.path for made in (*step.inputs.values(), *step.outputs.values())}
            attributions += [
                pb.Attribution(artifact_id=id_, context_id=node.id)
                for id_ in sorted({placed[path].id for path in used & set(placed)})
            ]
        self._store.put_attributions_and_associations(attributions, associations)

    def _context(self, kind: str, name: str, run: RunLineage, parents: Sequence[Any] = ()) -> Any:
        from tfx.orchestration.portable.mlmd import context_lib

        known = self._store.get_context_by_type_and_name(kind, name)
        found = known or context_lib.register_context_if_not_exists(self._handle, kind, name, list(parents))
        if known is None:
            self.times["Context"][found.id] = (run.began_at, run.began_at)
        return found

    # Artifacts

    def _placed(self, run: RunLineage) -> dict[Path, Any]:
        """Every artifact of a run as the database has it now, by its directory."""
        placed: dict[Path, Any] = {}
        for step in run.steps:
            for made in step.inputs.values():
                if made.path not in placed and not made.properties.get(ABSENT):
                    placed[made.path] = self._artifact(self._itself(made), {})
            judged = {port: placed[made.path] for port, made in step.inputs.items() if made.path in placed}
            for made in step.outputs.values():
                if made.path not in placed and not made.properties.get(ABSENT):
                    placed[made.path] = self._artifact(self._itself(made), judged)
        return placed

    def _itself(self, made: MadeArtifact) -> MadeArtifact:
        """What is written: for what a Resolver passed on the original, as TFX's does, or the copy where that is all that is known."""
        original = made.original
        return original if original is not None and (original.is_there or self._known(original) is not None) else made

    def _known(self, made: MadeArtifact) -> Any:
        """The very artifact as the database has it; None where it has none."""
        for other in self._store.get_artifacts_by_uri(str(made.path)):
            if _DIGEST in other.custom_properties and other.custom_properties[_DIGEST].string_value == made.digest:
                return other
        return None

    def _artifact(self, made: MadeArtifact, read: Mapping[str, Any]) -> Any:
        """The artifact in the database, put there if need be. `read` is what its step read, by port."""
        pb = _messages()

        found = self._tfx(made, read)
        wanted = found.mlmd_artifact
        wanted.type_id = self._type(found)
        known = None
        for other in self._store.get_artifacts_by_uri(found.uri):
            if _DIGEST not in other.custom_properties:
                continue  # another tool's
            if other.custom_properties[_DIGEST].string_value == made.digest:
                known = other
            elif other.state != pb.Artifact.DELETED:
                other.state = pb.Artifact.DELETED  # made again since by a forced run
                self._put_artifact(other)
        if known is None:
            wanted.id = self._put_artifact(wanted)
            if made.made_at is not None:
                self.times["Artifact"][wanted.id] = (made.made_at, made.made_at)
            return wanted
        if not made.is_there:  # the database may know more of it than the store does
            wanted = pb.Artifact()
            wanted.CopyFrom(known)
            wanted.state = pb.Artifact.DELETED
        elif not read:  # who only reads a blessing does not know of which model it is
            for name in _JUDGED.keys() & known.custom_properties.keys():
                wanted.custom_properties[name].CopyFrom(known.custom_properties[name])
                wanted.custom_properties[f"{name}_id"].CopyFrom(known.custom_properties[f"{name}_id"])
        wanted.id = known.id
        if not _is_same(wanted, known):
            self._put_artifact(wanted)
        return wanted

    def _put_artifact(self, artifact: Any) -> int:
        self.artifacts += 1
        (id_,) = self._store.put_artifacts([artifact])
        return int(id_)

    def _type(self, found: Any) -> int:
        from tfx.orchestration.portable.mlmd import common_utils

        asked = (found.type_name, *sorted(found.artifact_type.properties))
        if asked not in self._types:
            self._types[asked] = common_utils.register_type_if_not_exist(self._handle, found.artifact_type).id
        return self._types[asked]

    def _tfx(self, made: MadeArtifact, read: Mapping[str, Any]) -> Any:
        """As an instance of TFX's class, with the properties that TFX, and what else our own step, said of it."""
        from tfx.types.artifact import ArtifactState

        kind = self._kind(made)
        is_there = made.is_there and made.path.is_dir()
        properties = {name: value for name, value in made.properties.items() if value is not None}

        def filled() -> Any:
            if not is_there:
                return empty_tfx(kind, made.path, {}, properties.get(CUSTOM, {}))
            return to_tfx(kind, OURS.get(made.type, Artifact)(made.path, dict(properties)))

        try:
            found = filled()
            self._type(found)
        except (ArtifactError, RuntimeError) as error:
            what = (
                f"{made.path} has some that it does not take now ({_first_line(error)})"
                if isinstance(error, ArtifactError)
                else "the file has a type of this name with other properties"
            )
            self.notes.append(f"{made.type}: the properties of this type are written as custom ones, since {what}")
            kind = _of_name(made.type)
            found = filled()
        others = {name: value for name, value in properties.items() if name not in (kind.PROPERTIES or {})}
        others = {**_as_tfx_says(made), **others, **_judged(made, read), _DIGEST: made.digest}
        others.pop(CUSTOM, None)
        for name, value in others.items():
            set_custom(found, name, value)
        found.is_external = False
        found.state = ArtifactState.PUBLISHED if is_there else ArtifactState.DELETED
        return found

    def _kind(self, made: MadeArtifact) -> type[Any]:
        """TFX's class for an artifact: a standard one, that of the component, or one that has the name and nothing more."""
        from tfx.types import standard_artifacts

        for kind in vars(standard_artifacts).values():
            if isinstance(kind, type) and getattr(kind, "TYPE_NAME", None) == made.type:
                return kind
        if made.component is not None and not made.component.startswith("components."):
            try:
                component = resolve(made.component)
            except Exception as error:  # noqa: BLE001 a user's module raises what it likes
                self.notes.append(
                    f"{made.type}: the properties of this type are written as custom ones, since {made.component}, which "
                    f"declares it, does not import: {error}"
                )
            else:
                spec = getattr(component, "SPEC_CLASS", None)
                port = getattr(spec, "OUTPUTS", {}).get(made.output)
                if port is not None and made.type == port.type.TYPE_NAME:
                    return port.type
                if getattr(component, "TYPE_NAME", None) == made.type and hasattr(component, "PROPERTIES"):
                    return component
        return _of_name(made.type)

    # Executions

    def _execution(self, run: RunLineage, step: RanStep) -> Any:
        """The execution to be put; None where the database has it as it is."""
        pb = _messages()
        from tfx.orchestration.portable.mlmd import execution_lib
        from tfx.proto.orchestration import execution_result_pb2

        type_ = self._execution_type(step)
        found = execution_lib.prepare_execution(
            self._handle,
            type_,
            getattr(pb.Execution, step.state.upper()),
            _exec_properties(step, type_.name),
            execution_name=f"{run.run}.{step.step}",
        )
        if step.state == "complete" and _is_tfx(step):
            for name, value in step.settings.items():
                if isinstance(value, bool):  # what TFX's executor is done with is written a second time, and so
                    found.custom_properties[name].int_value = int(value)
        if step.message and step.state in ("failed", "canceled"):
            said = execution_result_pb2.ExecutionResult(  # type: ignore[attr-defined]
                code=_FAILED, result_message=step.message
            )
            execution_lib.set_execution_result(said, found)
        known = self._store.get_execution_by_type_and_name(type_.name, found.name)
        if known is None:
            return found
        found.id = known.id
        return None if _is_same(found, known) else found

    def _execution_type(self, step: RanStep) -> Any:
        """The type by the component's dotted path, as TFX's own have it, with TFX's base type where it names one."""
        pb = _messages()

        if step.component.startswith(_RESOLVERS):
            return pb.ExecutionType(name=_RESOLVER)
        made = pb.ExecutionType(name=step.component)
        if not step.component.startswith("components."):
            with contextlib.suppress(Exception):  # a user's module; its artifacts tell what is wrong with it
                component = resolve(step.component)
                if hasattr(component, "TYPE_NAME"):
                    return pb.ExecutionType(name=_IMPORTER)
                annotation = component.SPEC_CLASS.TYPE_ANNOTATION
                if annotation is not None:
                    made.base_type = annotation.MLMD_SYSTEM_BASE_TYPE
        return made


def _of_name(name: str) -> type[Any]:
    """A class for the type that declares no properties."""
    from tfx.types.artifact import Artifact as TfxArtifact

    return type(name, (TfxArtifact,), {"TYPE_NAME": name})


def _exec_properties(step: RanStep, type_: str) -> dict[str, Any]:
    """The settings as TFX keeps execution parameters, and the facts that it has no place for."""
    facts = {_FACT.format(name): _text(value) for name, value in step.facts.items()}
    settings = {name: value for name, value in step.settings.items() if value is not None}
    if type_ == _IMPORTER and "source_uri" in settings:
        return {"artifact_uri": settings["source_uri"], "output_key": "result", "reimport": 0, **facts}
    if _is_tfx(step):
        own = {name: _taken(value) for name, value in settings.items() if name not in _OWN_SETTINGS}
    else:
        own = {name: _text(value) for name, value in settings.items()}
    return own | facts


def _is_tfx(step: RanStep) -> bool:
    return step.settings.keys() >= {"executor", "user_code", "left_out"}


def _taken(value: Any) -> Any:
    """A value as TFX keeps it, with its schema; its JSON text where TFX takes none such."""
    from tfx.orchestration import data_types_utils
    from tfx.proto.orchestration import pipeline_pb2

    try:
        data_types_utils.set_parameter_value(pipeline_pb2.Value(), value)  # type: ignore[attr-defined]
    except ValueError:
        return _text(value)
    return value


def _text(value: Any) -> Any:
    """A number or text as it is, what holds several as JSON text."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def _events(step: RanStep, ids: Mapping[Path, int]) -> Iterator[tuple[Any, int]]:
    """(event, the id of its artifact, by its directory in `ids`): what was read twice has one event with both names."""
    pb = _messages()
    from tfx.orchestration.portable.mlmd import event_lib

    passes_on = step.component.startswith(_RESOLVERS) or any(made.original for made in step.outputs.values())
    output = pb.Event.INTERNAL_OUTPUT if passes_on else pb.Event.OUTPUT  # which is for the step that made it
    for type_, at, artifacts in (
        (pb.Event.INPUT, step.began_at, step.inputs),
        (output, step.ended_at, step.outputs),
    ):
        events: dict[int, Any] = {}
        for port, made in artifacts.items():
            if made.path not in ids:
                continue
            if ids[made.path] in events:
                event_lib.add_event_path(events[ids[made.path]], key=port, index=0)
            else:
                event = event_lib.generate_event(type_, key=port, index=0)
                event.milliseconds_since_epoch = _milliseconds(at)
                events[ids[made.path]] = event
        yield from ((event, artifact) for artifact, event in events.items())


def _as_tfx_says(made: MadeArtifact) -> dict[str, Any]:
    """What TFX's component says of such an artifact and ours says in other words: what Pusher pushed, and where."""
    if made.type != "PushedModel" or "destination" not in made.properties:
        return {}
    version = str(made.properties["version"])
    return {
        "pushed": 1,
        "pushed_destination": f"{made.properties['destination']}/{version}",
        "pushed_version": version,
    }


def _judged(made: MadeArtifact, read: Mapping[str, Any]) -> dict[str, Any]:
    """Which model a blessing is about: TFX looks for the artifact's id, which only the database has."""
    if made.type != "ModelBlessing":
        return {}
    found: dict[str, Any] = {}
    for name, port in _JUDGED.items():
        if port in read:
            found |= {name: read[port].uri, f"{name}_id": read[port].id}
    return found


def _is_same(wanted: Any, known: Any) -> bool:
    """Whether the database has all that is wanted: it adds the type's name and times of its own."""
    own = ("type", "create_time_since_epoch", "last_update_time_since_epoch", "system_metadata")
    copies = []
    for one in (wanted, known):
        copy = type(one)()
        copy.CopyFrom(one)
        for name in own:
            copy.ClearField(name)
        for value in (*copy.properties.values(), *copy.custom_properties.values()):
            if value.WhichOneof("value") == "double_value":  # the client reads 15 digits of it
                value.double_value = float(f"{value.double_value:.15g}")
        copies.append(copy)
    return bool(copies[0] == copies[1])


def _messages() -> Any:
    """ML Metadata's messages, of which no type checker knows."""
    from ml_metadata.proto import metadata_store_pb2

    return metadata_store_pb2


def _connection(file: Path, *, read_only: bool = False) -> Any:
    pb = _messages()

    found = pb.ConnectionConfig()
    found.sqlite.filename_uri = str(file)
    modes = pb.SqliteMetadataSourceConfig
    found.sqlite.connection_mode = modes.READONLY if read_only else modes.READWRITE_OPENCREATE
    return found


def _floats(put: Any, id_: int) -> Iterator[tuple[float, int, str, bool]]:
    """(value, id, name, whether it is a custom one) of each property of an artifact or execution that is a float."""
    for values, is_custom in ((put.properties, False), (put.custom_properties, True)):
        for name, value in values.items():
            if value.WhichOneof("value") == "double_value":
                yield value.double_value, id_, name, is_custom


def _correct(
    file: Path,
    times: Mapping[str, Mapping[int, tuple[datetime, datetime]]],
    floats: Mapping[str, Sequence[tuple[float, int, str, bool]]],
) -> None:
    """Write what ML Metadata's client cannot: when things were made, and floats with more than six decimals."""
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        for table, rows in times.items():
            database.executemany(
                f"UPDATE {table} SET create_time_since_epoch = ?, last_update_time_since_epoch = ? WHERE id = ?",
                [(_milliseconds(began), _milliseconds(ended), id_) for id_, (began, ended) in rows.items()],
            )
        for table, values in floats.items():
            database.executemany(
                f"UPDATE {table}Property SET double_value = ? WHERE {table.lower()}_id = ? AND name = ? "
                f"AND is_custom_property = ?",
                values,
            )


def _milliseconds(time: datetime) -> int:
    return int(time.timestamp() * 1000)
