"""Pusher: a model becomes a new version, whole, or nothing changes."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from components.io import tfrecord
from components.release import staging, versions, warmup
from components.release.pusher import Pusher
from components.release.rollback import roll_back
from schemas.artifacts import Blessing, Evaluation, Examples, Model, PushedModel, Statistics
from schemas.artifacts.pushed_model import training_statistics
from schemas.component import Baseline, Lineage, Publisher, Scratch
from schemas.errors import ArtifactError, ConfigError, NotBlessed, StoreError
from schemas.passport import Passport

Push = Callable[..., PushedModel]


def visible(directory: Path) -> list[str]:
    """What is in a serving directory besides our own hidden files."""
    return sorted(child.name for child in directory.iterdir() if not child.name.startswith("."))


def refused(path: Path, *reasons: str) -> Blessing:
    blessing = Blessing(path)
    blessing.write(reasons)
    return blessing


def test_a_pushed_version_holds_the_models_files_and_their_digests(tmp_path: Path, model: Model, push: Push) -> None:
    pushed = push(Pusher(destination=str(tmp_path / "serving")))

    version = pushed.version_path
    assert version.parent == tmp_path / "serving"
    assert visible(tmp_path / "serving") == [str(pushed.properties["version"])]
    passport = Passport.read(version)
    assert passport is not None
    there = {file.relative_to(version).as_posix() for file in version.rglob("*") if file.is_file()}
    assert there - {Passport.FILE} == set(passport.files)
    assert "assets/vocabulary.txt" in passport.files
    for name, digest in passport.files.items():
        assert (version / name).read_bytes() == (model.serving / name).read_bytes()
        assert hashlib.sha256((version / name).read_bytes()).hexdigest() == digest


def test_the_passport_says_where_the_model_came_from_and_what_it_was_measured_by(tmp_path: Path, push: Push) -> None:
    blessing = refused(tmp_path / "blessing")
    blessing.properties["thresholds"] = [{"metric": "auc", "slice": "overall", "bound": "min", "limit": 0.7}]
    evaluation = Evaluation(tmp_path / "evaluation", {"metrics": {"auc": 0.91, "recall": None}, "examples": 300})
    lineage = Lineage(
        pipeline="chicago-taxi",
        run="r1",
        graph_digest="sha256:graph",
        git_commit="c0ffee",
        steps={"trainer": {"key": "k", "outputs": {"model": {"type": "Model", "digest": "sha256:candidate"}}}},
        inputs={"model": {"step": "trainer", "digest": "sha256:candidate"}, "blessing": {"step": "judge"}},
        libraries={"tensorflow": "2.16.2"},
        baseline=Baseline(tmp_path, "sha256:before", 7),
    )

    pushed = push(
        Pusher(destination=str(tmp_path / "serving")), blessing=blessing, evaluation=evaluation, lineage=lineage
    )

    passport = Passport.read(pushed.version_path)
    assert passport is not None
    assert (passport.pipeline, passport.run, passport.graph_digest) == ("chicago-taxi", "r1", "sha256:graph")
    assert passport.git_commit == "c0ffee"
    assert passport.version == pushed.properties["version"]
    assert passport.model_digest == pushed.properties["model_digest"] == "sha256:candidate"
    assert passport.baseline == {"version": 7, "digest": "sha256:before"}
    assert passport.metrics == {"auc": 0.91, "recall": None}
    assert passport.steps == lineage.steps
    assert passport.libraries == {"tensorflow": "2.16.2"}
    gate, size = passport.gates
    assert size["size_bytes"] > 0
    assert gate["gate"] == "judge"
    assert gate["blessed"] is True
    assert gate["thresholds"] == blessing.properties["thresholds"]
    assert gate["examples"] == 300


def test_the_statistics_of_the_data_that_a_model_was_trained_on_are_in_its_version(
    tmp_path: Path, push: Push, statistics: Statistics
) -> None:
    version = push(Pusher(destination=str(tmp_path / "serving")), statistics=statistics).version_path

    passport = Passport.read(version)
    assert passport is not None
    for split in ("train", "eval"):
        kept = training_statistics(version, split)
        assert kept is not None
        assert kept.read_bytes() == statistics.file(split).read_bytes()
        assert passport.files[str(kept.relative_to(version))] == hashlib.sha256(kept.read_bytes()).hexdigest()
    assert training_statistics(version, "test") is None


def test_a_rollback_brings_the_statistics_of_the_model_that_it_brings_back(
    tmp_path: Path, push: Push, statistics: Statistics
) -> None:
    serving = tmp_path / "serving"
    lineage = Lineage(inputs={"model": {"digest": "sha256:other"}})
    push(Pusher(destination=str(serving)), statistics=statistics)
    push(Pusher(destination=str(serving)), lineage=lineage)

    back = roll_back(serving, by="ada@host")

    kept = training_statistics(serving / str(back.version), "train")
    assert kept is not None
    assert kept.read_bytes() == statistics.file("train").read_bytes()


def test_an_unblessed_model_is_not_pushed(tmp_path: Path, push: Push) -> None:
    blessing = refused(
        tmp_path / "no", "accuracy 0.41 overall (98 examples) is below 0.6", "auc 0.5 overall is below 0.7"
    )

    with pytest.raises(NotBlessed, match=r"accuracy 0\.41 .* is below 0\.6\n  auc 0\.5 overall is below 0\.7\n"):
        push(Pusher(destination=str(tmp_path / "serving")), blessing=blessing)

    assert not (tmp_path / "serving").exists()


def test_a_model_that_tfx_refused_is_not_pushed_either(tmp_path: Path, push: Push) -> None:
    blessing = Blessing(tmp_path / "blessing")
    blessing.path.mkdir()
    (blessing.path / "NOT_BLESSED").touch()

    with pytest.raises(NotBlessed, match="left no reason"):
        push(Pusher(destination=str(tmp_path / "serving"), require_blessing=False), blessing=blessing)


def test_a_model_that_nobody_judged_is_pushed_only_when_that_is_said(tmp_path: Path, model: Model) -> None:
    def run(pusher: Pusher) -> None:
        pushed = PushedModel(tmp_path / "pushed")
        pusher.run(model, lineage=Lineage(), scratch=Scratch(tmp_path / "scratch"), pushed_model=pushed)

    with pytest.raises(ConfigError, match=r"^require_blessing: .* require_blessing: false"):
        run(Pusher(destination=str(tmp_path / "serving")))
    assert not (tmp_path / "serving").exists()

    run(Pusher(destination=str(tmp_path / "serving"), require_blessing=False))
    assert len(visible(tmp_path / "serving")) == 1


def test_the_blessing_of_another_model_does_not_count(tmp_path: Path, push: Push) -> None:
    lineage = Lineage(
        steps={"evaluator": {"inputs": {"model": {"type": "Model", "digest": "sha256:other"}}}},
        inputs={"model": {"digest": "sha256:candidate"}, "blessing": {"step": "evaluator"}},
    )

    with pytest.raises(NotBlessed, match="of another model"):
        push(Pusher(destination=str(tmp_path / "serving")), lineage=lineage)


def test_a_directory_that_cannot_be_served_is_refused(tmp_path: Path, push: Push) -> None:
    pusher = Pusher(destination=str(tmp_path / "serving"))

    with pytest.raises(ArtifactError, match=r"has no saved_model\.pb"):
        push(pusher, model=Model(tmp_path / "nothing"))
    assert not (tmp_path / "serving").exists()


def test_a_model_that_tensorflow_cannot_load_is_refused(tmp_path: Path, model: Model, push: Push) -> None:
    broken = Model(tmp_path / "broken")
    shutil.copytree(model.path, broken.path)
    shutil.rmtree(broken.serving / "variables")

    with pytest.raises(ArtifactError, match="TensorFlow cannot load this SavedModel"):
        push(Pusher(destination=str(tmp_path / "serving")), model=broken)
    assert not (tmp_path / "serving").exists()


def test_versions_grow_also_past_one_that_was_removed(tmp_path: Path, push: Push) -> None:
    pusher = Pusher(destination=str(tmp_path / "serving"))
    (tmp_path / "serving" / "09999999999").mkdir(parents=True)

    first = push(pusher).properties["version"]
    shutil.rmtree(tmp_path / "serving" / str(first))
    shutil.rmtree(tmp_path / "serving" / "09999999999")
    second = push(pusher).properties["version"]

    assert (first, second) == (10_000_000_000, 10_000_000_001)


def test_what_is_served_is_the_newest_version_and_its_passport(tmp_path: Path, push: Push) -> None:
    pusher = Pusher(destination=str(tmp_path / "serving"))
    assert isinstance(pusher, Publisher)
    assert pusher.served() is None

    push(pusher)
    newest = push(pusher)

    served = pusher.served()
    assert served is not None
    version, passport, path = served
    assert (version, path) == (newest.properties["version"], newest.version_path)
    assert passport == Passport.read(path)


def test_a_version_that_another_tool_pushed_has_no_passport(tmp_path: Path, model: Model) -> None:
    shutil.copytree(model.serving, tmp_path / "serving" / "5")

    assert Pusher(destination=str(tmp_path / "serving")).served() == (5, None, tmp_path / "serving" / "5")


def test_a_push_is_held_until_a_file_of_it_is_gone(tmp_path: Path, push: Push) -> None:
    pusher = Pusher(destination=str(tmp_path / "serving"))
    pushed = push(pusher)
    assert pusher.holds(pushed)
    assert not Pusher(destination=str(tmp_path / "elsewhere")).holds(pushed)

    (pushed.version_path / "assets" / "vocabulary.txt").unlink()

    assert not pusher.holds(pushed)


def test_a_version_that_now_holds_another_model_is_not_held(tmp_path: Path, push: Push) -> None:
    pusher = Pusher(destination=str(tmp_path / "serving"))
    pushed = push(pusher)
    file = pushed.version_path / Passport.FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_digest": "sha256:other"}))

    assert not pusher.holds(pushed)


def test_a_repeated_attempt_finds_what_the_killed_one_published(tmp_path: Path, push: Push) -> None:
    pusher = Pusher(destination=str(tmp_path / "serving"))
    scratch = Scratch(tmp_path / "scratch")

    first = push(pusher, scratch=scratch)
    again = push(pusher, scratch=scratch)  # the first was killed before its step was recorded

    assert again.properties == first.properties
    assert len(visible(tmp_path / "serving")) == 1


def test_an_attempt_that_was_killed_before_publishing_is_made_again(tmp_path: Path, push: Push) -> None:
    pusher = Pusher(destination=str(tmp_path / "serving"))
    scratch = Scratch(tmp_path / "scratch")
    first = push(pusher, scratch=scratch)
    shutil.rmtree(first.version_path)

    again = push(pusher, scratch=scratch)

    assert again.properties["version"] > first.properties["version"]
    assert again.version_path.is_dir()


def test_the_destination_may_be_relative_to_the_working_directory(
    tmp_path: Path, push: Push, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert push(Pusher(destination="serving/taxi")).version_path.parent == tmp_path / "serving" / "taxi"


def test_pushers_at_work_together_all_succeed_with_numbers_of_their_own(tmp_path: Path, model: Model) -> None:
    pusher = Pusher(destination=str(tmp_path / "serving"), require_blessing=False)
    start = threading.Barrier(4)

    def run(number: int) -> int:
        pushed = PushedModel(tmp_path / f"pushed-{number}")
        start.wait()
        scratch = Scratch(tmp_path / f"scratch-{number}")
        pusher.run(model, lineage=Lineage(run=str(number)), scratch=scratch, pushed_model=pushed)
        return int(pushed.properties["version"])

    with ThreadPoolExecutor(4) as pool:
        pushed = list(pool.map(run, range(4)))

    assert len(set(pushed)) == 4
    assert visible(tmp_path / "serving") == sorted(map(str, pushed))
    runs = {Passport.read(tmp_path / "serving" / str(version)).run for version in pushed}  # type: ignore[union-attr]
    assert runs == {"0", "1", "2", "3"}
    assert not list((tmp_path / "serving").glob(f"{staging.PREFIX}*"))


def test_a_destination_that_cannot_be_made_is_a_store_error(tmp_path: Path, push: Push) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match="cannot be written .*Nothing was pushed"):
        push(Pusher(destination=str(tmp_path / "file" / "serving")))


def test_a_full_disk_leaves_what_was_served_and_nothing_else(tmp_path: Path, push: Push) -> None:
    pusher = Pusher(destination=str(tmp_path / "serving"))
    before = push(pusher)
    # The last file that is written before the version appears lands on a device that is always full.
    (tmp_path / "serving" / f"{versions.HIGH_WATER}.new").symlink_to("/dev/full")

    with pytest.raises(StoreError, match="the disk is full"):
        push(pusher)

    assert visible(tmp_path / "serving") == [str(before.properties["version"])]
    assert not list((tmp_path / "serving").glob(f"{staging.PREFIX}*"))
    assert pusher.holds(before)


@pytest.mark.slow
def test_a_pushed_model_answers_in_a_fresh_process(tmp_path: Path, push: Push) -> None:
    pushed = push(Pusher(destination=str(tmp_path / "serving")))
    ask = (
        "import sys, tensorflow as tf\n"
        "model = tf.saved_model.load(sys.argv[1], tags=['serve'])\n"
        "print(model.signatures['serving_default'](x=tf.constant([[21.0]]))['outputs'].numpy().tolist())\n"
    )

    answer = subprocess.run(
        [sys.executable, "-c", ask, str(pushed.version_path)], check=True, capture_output=True, text=True
    )

    assert answer.stdout == "[[42.0]]\n"


def test_the_passport_has_the_metrics_of_every_slice_and_what_every_gate_said(
    tmp_path: Path, push: Push, evaluated: Evaluation
) -> None:
    lineage = Lineage(
        steps={
            "validator": {
                "outputs": {"anomalies": {"type": "ExampleAnomalies", "properties": {"anomalies": {"eval": 2}}}}
            }
        },
        inputs={"model": {"digest": "sha256:candidate"}},
    )

    pushed = push(Pusher(destination=str(tmp_path / "serving")), evaluation=evaluated, lineage=lineage)

    passport = Passport.read(pushed.version_path)
    assert passport is not None
    assert passport.slices == (
        {"slice": "hour:9", "examples": 2, "metrics": {"auc": 0.75}, "intervals": {"auc": [0.5, 1.0]}},
        {"slice": "hour:10", "examples": 3, "metrics": {"auc": None}},
    )
    data, judged, size = passport.gates
    assert (data["gate"], data["blessed"], data["reasons"]) == ("validator", False, ["eval: 2 with anomalies"])
    assert (judged["gate"], judged["blessed"]) == ("evaluator", True)
    assert (size["gate"], size["blessed"], size["max_size_mb"]) == ("size", True, None)


@pytest.fixture
def evaluated(tmp_path: Path) -> Evaluation:
    """What TFMA's files say of two slices, of the whole, and of a baseline and the difference to it."""
    from tensorflow_model_analysis.proto import metrics_for_slice_pb2

    records = []
    for hour, examples, auc in ((10, 3, float("nan")), (9, 2, 0.75), (None, 5, 0.5)):
        record = metrics_for_slice_pb2.MetricsForSlice()
        if hour is not None:
            record.slice_key.single_slice_keys.add(column="hour", int64_value=hour)
        for model, is_change in (("candidate", False), ("baseline", False), ("candidate", True)):
            added = record.metric_keys_and_values.add()
            added.key.name, added.key.model_name, added.key.is_diff = "auc", model, is_change
            added.value.double_value.value = auc
            if hour == 9:
                added.confidence_interval.lower_bound.double_value.value = 0.5
                added.confidence_interval.upper_bound.double_value.value = 1.0
        added = record.metric_keys_and_values.add()
        added.key.name = "example_count"
        added.value.double_value.value = examples
        records.append(record.SerializeToString())
    evaluation = Evaluation(tmp_path / "evaluation", {"metrics": {"auc": 0.5}, "examples": 5})
    evaluation.path.mkdir()
    specs = [{"name": "candidate"}, {"name": "baseline", "isBaseline": True}]
    (evaluation.path / "eval_config.json").write_text(json.dumps({"evalConfig": {"modelSpecs": specs}}))
    for kind in ("plots", "attributions"):
        tfrecord.write(evaluation.path / f"{kind}-00000-of-00001.tfrecord", [])
    tfrecord.write(evaluation.path / "metrics-00000-of-00001.tfrecord", records)
    return evaluation


def test_a_model_above_the_largest_size_is_refused_with_both_numbers(tmp_path: Path, model: Model, push: Push) -> None:
    pusher = Pusher(destination=str(tmp_path / "serving"), max_size_mb=0.001)

    with pytest.raises(NotBlessed, match=r"size 0\.\d+ MB of the SavedModel is above max_size_mb 0\.001"):
        push(pusher)

    assert not (tmp_path / "serving").exists()


def test_a_model_that_was_blessed_anyway_is_pushed_and_the_passport_says_who_when_and_why(
    tmp_path: Path, push: Push
) -> None:
    blessing = refused(tmp_path / "blessing", "auc 0.41 overall (98 examples) is below 0.6")
    blessing.bless_anyway("ada@host", "2026-11-21T12:00:00+00:00", "the demo")

    pushed = push(Pusher(destination=str(tmp_path / "serving"), max_size_mb=0.001), blessing=blessing)

    passport = Passport.read(pushed.version_path)
    assert passport is not None
    judged, size = passport.gates
    assert judged["reasons"] == ["auc 0.41 overall (98 examples) is below 0.6"]
    assert judged["anyway"] == {"by": "ada@host", "at": "2026-11-21T12:00:00+00:00", "reason": "the demo"}
    assert size["anyway"] == judged["anyway"]
    assert "above max_size_mb" in size["reasons"][0]


def test_the_newest_versions_are_kept(tmp_path: Path, push: Push) -> None:
    pusher = Pusher(destination=str(tmp_path / "serving"), keep=2)

    pushed = [str(push(pusher).properties["version"]) for _ in range(3)]

    assert visible(tmp_path / "serving") == pushed[1:]


def test_a_version_that_a_servers_configuration_labels_is_kept(tmp_path: Path, push: Push) -> None:
    first = push(Pusher(destination=str(tmp_path / "serving"))).properties["version"]
    (tmp_path / "models.config").write_text(
        f"model_config_list {{ config {{ name: 'taxi' base_path: '/models/serving' version_labels {{ key: 'stable' value: {first} }} }} }}"
    )
    pusher = Pusher(destination=str(tmp_path / "serving"), keep=1, models_config=str(tmp_path / "models.config"))

    push(pusher)
    newest = push(pusher).properties["version"]

    assert visible(tmp_path / "serving") == [str(first), str(newest)]


def test_a_models_config_that_cannot_be_read_is_found_before_the_push(tmp_path: Path, push: Push) -> None:
    with pytest.raises(ConfigError, match="^models_config: "):
        push(Pusher(destination=str(tmp_path / "serving"), models_config=str(tmp_path / "gone.config")))

    assert not (tmp_path / "serving").exists()


def test_wrong_settings_are_all_reported() -> None:
    with pytest.raises(ConfigError) as caught:
        Pusher(destination=" ", keep=0, max_size_mb=-1, warmup_requests=501)

    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "destination",
        "keep",
        "max_size_mb",
        "warmup_requests",
    ]


@pytest.mark.parametrize(
    ("destination", "problem"),
    [
        ("s3://", "s3:// names no bucket"),
        ("nope://bucket/taxi", "nobody knows what nope:// is"),
        ("file:///srv/taxi", "is a directory on this machine. Write its path alone"),
        ("abfs://bucket/taxi", "the driver for abfs:// is not installed .* Install it"),
    ],
)
def test_an_address_that_nothing_can_be_pushed_to_is_found_before_the_run(destination: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=f"^destination: .*{problem}"):
        Pusher(destination=destination)


def test_warm_up_requests_made_from_raw_examples_are_in_the_version(
    tmp_path: Path, asked: Model, raw: Examples, push: Push
) -> None:
    pushed = push(Pusher(destination=str(tmp_path / "serving"), warmup_requests=2), model=asked, examples=raw)

    passport = Passport.read(pushed.version_path)
    assert passport is not None
    assert len(list(tfrecord.read(pushed.version_path / warmup.FILE))) == passport.warmup_requests == 4
    assert warmup.FILE in passport.files


def test_the_requests_that_a_model_brings_are_tried_and_kept(
    tmp_path: Path, asked: Model, raw: Examples, push: Push
) -> None:
    brought = Model(tmp_path / "brought")
    shutil.copytree(asked.path, brought.path)
    (brought.serving / warmup.FILE).parent.mkdir()
    (brought.serving / warmup.FILE).write_bytes(b"")

    pushed = push(Pusher(destination=str(tmp_path / "serving")), model=brought, examples=raw)

    assert (pushed.version_path / warmup.FILE).read_bytes() == b""
    tfrecord.write(brought.serving / warmup.FILE, [b"\x0a"])
    with pytest.raises(ArtifactError, match="request 1 fails"):
        push(Pusher(destination=str(tmp_path / "serving")), model=brought, examples=raw)
