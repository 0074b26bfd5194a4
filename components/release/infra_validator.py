"""Model, Examples -> InfraBlessing: whether a model server serves the model, as it was trained and fast enough."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from components.io import saved_model
from components.release import docker_server, latency, model_server, own_answers, parity, warmup
from components.release.model_server import NotServed, ServerProcess
from components.release.questions import Question, Unaskable, first, predict_request, questions, split_of
from components.release.served_model import ServedModel, Unanswered, available
from schemas.artifacts import Examples, InfraBlessing, Model, TransformGraph
from schemas.component import Out, Progress, Scratch
from schemas.errors import ArtifactError, ConfigError, DataError, did_you_mean

_NAME = "model"  # to the server; nothing depends on it
_BOUNDS = {"latency": ("p50_ms", "p99_ms"), "parity": ("absolute", "relative")}


@dataclass(frozen=True, kw_only=True)
class InfraValidator:
    """Model, Examples -> InfraBlessing: whether a model server serves the model, as it was trained and fast enough.

    A server is started on the very files that Pusher pushes: a version directory of links to them, and the warm-up requests,
    made from the first raw examples, which a blessing hands on to Pusher. The server replays them when it loads the model. Then
    it is asked about raw examples, and its answers are compared with those of the Keras model that was trained, given what
    Transform's graph makes of the same examples; for a model without Format-Keras, or without a transform graph, with those of
    the SavedModel in this process. Last, one-row requests of the default signature are timed.

    The blessing is withheld, with figures, from a model that lacks one of the `signatures`, differs by more than `parity`, or
    misses a bound of `latency`. One that the server does not load, or dies of, or that has operations which TensorFlow does
    not, is refused whatever anybody says. Without examples the server only loads the model.
    """

    server: str | None = None  # an image such as tensorflow/serving:2.16.1, run by Docker; None: our own model server
    signatures: tuple[str, ...] = (saved_model.SERVING_DEFAULT,)  # that the model must have
    latency: dict[str, float] = field(default_factory=dict)  # at most, {"p50_ms": 5, "p99_ms": 20}
    parity: dict[str, float] = field(
        default_factory=dict
    )  # {"absolute": 1e-5, "relative": 1e-4}, which hold if left out
    rows: int = 100  # raw examples whose answers are compared; 0: none
    requests: int = 300  # one-row requests that are timed; 0: none
    warmup_requests: int = 10  # raw examples to make requests from; 0: none
    load_timeout_s: float = 300.0  # for the server to load the model, and for Docker to fetch the image
    request_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        problems = []
        if self.server is not None and (not self.server.strip() or self.server.startswith("-")):
            problems.append(f"server: {self.server!r} is no image. Name one, such as tensorflow/serving:2.16.1")
        problems += [
            f"signatures.{at}: is empty. Name a signature" for at, name in enumerate(self.signatures) if not name
        ]
        for setting, known in _BOUNDS.items():
            for name, limit in getattr(self, setting).items():
                if name not in known:
                    there = did_you_mean(name, known) or f" There are: {', '.join(known)}"
                    problems.append(f"{setting}.{name}: no such bound.{there}")
                elif not limit >= 0 or (setting == "latency" and limit == 0):
                    problems.append(f"{setting}.{name}: {limit:g} is not a positive number")
        for setting, most in (("rows", None), ("requests", None), ("warmup_requests", warmup.MOST // 2)):
            value = getattr(self, setting)
            # Each example is asked of two signatures at most.
            if value < 0 or (most is not None and value > most):
                problems.append(f"{setting}: {value} is not {'0 or more' if most is None else f'between 0 and {most}'}")
        for setting, needed in (("latency", "requests"), ("parity", "rows")):
            if getattr(self, setting) and getattr(self, needed) == 0:
                problems.append(f"{setting}: cannot be judged with {needed}: 0. Leave one of them out")
        for setting in ("load_timeout_s", "request_timeout_s"):
            if not getattr(self, setting) > 0:
                problems.append(f"{setting}: {getattr(self, setting):g} is not a positive number of seconds")
        if problems:
            raise ConfigError(*problems)

    def run(
        self,
        model: Model,
        examples: Examples | None = None,
        transform_graph: TransformGraph | None = None,
        *,
        scratch: Scratch,
        progress: Progress,
        infra_blessing: Out[InfraBlessing],
    ) -> None:
        """Serve `model`, ask it, and bless it or not: every model gets a verdict.

        Raises ConfigError when bounds are set and no examples are wired, and for a `server` that Docker does not run;
        DataError for examples without a record.
        """
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # the server needs its share of the memory
        records = self._records(examples)
        infra_blessing.properties["server"] = self.server or "pipeline serve"
        reasons: list[str] = []
        try:
            self._judge(model, examples, transform_graph, records, scratch, progress, infra_blessing, reasons)
        except (ArtifactError, NotServed) as error:
            infra_blessing.write((*reasons, _cannot_be_served(error)), servable=False)
        else:
            infra_blessing.write(tuple(reasons))

    def _records(self, examples: Examples | None) -> list[bytes]:
        if examples is None:
            bounds = [name for name in _BOUNDS if getattr(self, name)]
            if bounds:
                raise ConfigError(
                    *(
                        f"{name}: cannot be judged without raw examples to ask about. Wire `examples` to what ExampleGen made, "
                        f"or leave {name} out"
                        for name in bounds
                    )
                )
            return []
        records = first(examples, max(self.rows, 1))
        if not records:
            raise DataError(
                f"{examples.path}: split '{split_of(examples)}' has no examples to ask about. Give it some, or leave `examples` "
                f"unwired to have the server only load the model"
            )
        return records

    def _judge(
        self,
        model: Model,
        examples: Examples | None,
        graph: TransformGraph | None,
        records: list[bytes],
        scratch: Scratch,
        progress: Progress,
        blessing: InfraBlessing,
        reasons: list[str],
    ) -> None:
        """Fill `blessing` but for its verdict, and `reasons` with what is against the model.

        Raises ArtifactError or NotServed for one that cannot be served.
        """
        there = saved_model.signatures(model.serving)
        reasons += [
            f"signature '{name}' is missing; the model has {', '.join(there) or 'none'}. Export it, or change signatures"
            for name in self.signatures
            if name not in there
        ]
        _refuse_custom_ops(model.serving)
        loaded = saved_model.load(model.serving)
        blessing.properties["warmup_requests"] = self._warm_up(loaded, model, examples, blessing, reasons)
        version = version_directory(scratch.path / "serving", model.serving, blessing.requests)
        log = scratch.path / "server.log"
        try:
            with self._started(version, log) as server:
                asked = list(questions(loaded, records))
                # While the server starts. The SavedModel is asked only where that is all there is.
                own, compared_with = (
                    _own_answers(model, loaded, graph, records, asked, there) if self.rows else ([], "")
                )
                with available(server, _NAME, self.load_timeout_s, self.request_timeout_s) as served:
                    if not asked:
                        self._note_unasked(examples, blessing, reasons)
                        return
                    if self.rows:
                        self._compare(served, loaded, asked, own, compared_with, examples, progress, blessing, reasons)
                    if self.requests:
                        self._time(served, loaded, asked, progress, blessing, reasons)
        except NotServed:
            if log.is_file():
                sys.stderr.write(log.read_text(encoding="utf-8", errors="replace"))
            raise

    def _warm_up(
        self, loaded: Any, model: Model, examples: Examples | None, blessing: InfraBlessing, reasons: list[str]
    ) -> int:
        """Make the warm-up requests of a model that brings none; gives how many."""
        if examples is None or self.warmup_requests == 0 or (model.serving / warmup.FILE).is_file():
            return 0
        try:
            return warmup.write(loaded, _NAME, examples, self.warmup_requests, blessing.requests_path)
        except ArtifactError as error:
            reasons.append(str(error))
            return 0

    @contextlib.contextmanager
    def _started(self, version: Path, log: Path) -> Iterator[ServerProcess]:
        if self.server is None:
            start = model_server.started(_NAME, version.parent, log)
        else:
            start = docker_server.started(self.server, _NAME, version, log)
        with start as server:
            yield server

    def _note_unasked(self, examples: Examples | None, blessing: InfraBlessing, reasons: list[str]) -> None:
        why = (
            f"{saved_model.SERVING_DEFAULT} does not take serialized tf.Examples, and there are no serving_columns of one row"
            if examples is not None
            else "no examples are wired"
        )
        blessing.properties["asked"] = f"nothing: {why}"
        reasons += [
            f"{name} cannot be judged: {why}. Export such a signature, or leave {name} out"
            for name in _BOUNDS
            if getattr(self, name)
        ]

    def _compare(
        self,
        served: ServedModel,
        loaded: Any,
        asked: Sequence[Question],
        own: Sequence[own_answers.Answer],
        compared_with: str,
        examples: Examples | None,
        progress: Progress,
        blessing: InfraBlessing,
        reasons: list[str],
    ) -> None:
        tolerance = parity.Tolerance(**self.parity)
        answers = []
        for number, question in enumerate(asked, 1):
            answers.append(_served_answer(served, loaded, question))
            progress(number, len(asked), "answers")
        signatures: dict[str, Any] = {}
        for name in dict.fromkeys(question.signature for question in asked):
            pairs = [
                (question.row, answer, expected)
                for question, answer, expected in zip(asked, answers, own, strict=True)
                if question.signature == name
            ]
            found = parity.compare(pairs, tolerance)
            signatures[name] = {"rows": found.rows, "differ": found.differ, "largest_difference": found.largest}
            split = split_of(examples) if examples is not None else ""
            if not found.rows:
                reasons.append(
                    f"parity of {name}: none of {len(pairs)} rows of split '{split}' is answered: {pairs[0][1]}"
                )
            elif found.differ:
                reasons.append(
                    f"parity of {name}: {found.differ} of {found.rows} rows of split '{split}' differ from {compared_with} by "
                    f"more than absolute {tolerance.absolute:g} + relative {tolerance.relative:g}, most of all {found.worst}. "
                    f"Export the model that was trained, or raise parity"
                )
        blessing.properties["parity"] = {
            **asdict(tolerance),
            "compared_with": compared_with,
            "signatures": signatures,
        }

    def _time(
        self,
        served: ServedModel,
        loaded: Any,
        asked: Sequence[Question],
        progress: Progress,
        blessing: InfraBlessing,
        reasons: list[str],
    ) -> None:
        signature = asked[0].signature
        requests = [predict_request(loaded, _NAME, question) for question in asked if question.signature == signature]

        def ask(number: int) -> None:
            served.ask(requests[number % len(requests)])
            progress(number + 1, self.requests, "requests")

        try:
            ask(0)
            found = latency.measure(ask, self.requests, self.latency)
        except Unanswered as error:
            reasons.append(f"latency cannot be measured: a one-row request of {signature} is answered {error}")
            return
        bounds = {f"max_{name}": limit for name, limit in self.latency.items()}
        blessing.properties["latency"] = {**asdict(found), "signature": signature, **bounds}
        reasons += [
            f"latency {name.removesuffix('_ms')} {getattr(found, name):.4g} ms of {found.requests} one-row requests of {signature} "
            f"is above {limit:g} ms. Make the model smaller, or raise latency.{name}"
            for name, limit in found.above(self.latency).items()
        ]


def version_directory(serving: Path, model: Path, requests: Path | None) -> Path:
    """A version of `model` as Pusher will push it, in the new directory `serving`: links to its files, and the requests.

    What is left there of an earlier attempt is removed.
    """
    shutil.rmtree(serving, ignore_errors=True)
    version = serving / "1"
    version.mkdir(parents=True)
    extra = Path(warmup.FILE).parent.name
    for child in sorted(model.iterdir()):
        if child.name != extra or not requests:
            (version / child.name).symlink_to(child.absolute())
    if requests:
        (version / extra).mkdir()
        for child in sorted((model / extra).iterdir()) if (model / extra).is_dir() else ():
            (version / extra / child.name).symlink_to(child.absolute())
        shutil.copyfile(requests, version / warmup.FILE)
    return version


def _own_answers(
    model: Model,
    loaded: Any,
    graph: TransformGraph | None,
    records: Sequence[bytes],
    asked: Sequence[Question],
    there: Mapping[str, saved_model.Signature],
) -> tuple[list[own_answers.Answer], str]:
    """(the model's own answer to each question, whose they are)."""
    try:
        trained = own_answers.of_trained(model, graph, records)
        for name in {question.signature for question in asked}:
            outputs = {tuple(sorted(answer)) for answer in trained if not isinstance(answer, str)}
            if outputs - {there[name].outputs}:
                raise own_answers.NotTrained(f"its outputs are not those of {name}")
    except own_answers.NotTrained as why:
        return own_answers.of_saved_model(loaded, asked), f"the SavedModel in process, since {why}"
    return [trained[question.row] for question in asked], "the trained Keras model's in process"


def _served_answer(served: ServedModel, loaded: Any, question: Question) -> own_answers.Answer:
    try:
        return served.answer(predict_request(loaded, _NAME, question))
    except (Unaskable, Unanswered) as error:
        return str(error)


def _refuse_custom_ops(path: Path) -> None:
    custom = saved_model.unregistered_ops(path)
    if custom:
        raise NotServed(
            f"the graph has operations that TensorFlow does not: {', '.join(custom)}. A server has them only if it is built "
            f"with them; use TensorFlow's own"
        )


def _cannot_be_served(error: Exception) -> str:
    return f"it cannot be served: {error}"
