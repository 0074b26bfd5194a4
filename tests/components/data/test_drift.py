"""Drift and skew: the distances are TFDV's, and what follows from them is what the settings say."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from components.data.example_validator import ExampleValidator
from schemas.artifacts import Anomalies, FeatureSchema, Statistics
from schemas.artifacts.pushed_model import STATISTICS
from schemas.component import Baseline
from schemas.errors import AnomaliesFound, ArtifactError, ConfigError, DriftFound, NotNeeded
from schemas.passport import Passport

SCHEMA = """
feature { name: "payment" type: BYTES presence { min_fraction: 0 } }
feature { name: "fare" type: FLOAT presence { min_fraction: 0 } }
feature { name: "tip" type: FLOAT presence { min_fraction: 0 } }
"""
DRIFT = "drift_comparator { infinity_norm { threshold: 0.2 } }"
SKEW = "skew_comparator { jensen_shannon_divergence { threshold: 0.1 } }"

Rows = dict[str, list[Any]]


def trips(cash: int, fare: float, count: int = 200) -> Rows:
    """So many trips of a hundred are paid in cash, and fares are around a mean. Tips are the same in all."""
    return {
        "payment": ["Cash" if n % 100 < cash else "Card" for n in range(count)],
        "fare": [fare + n % 10 / 10 for n in range(count)],
        "tip": [float(n % 4) for n in range(count)],
    }


CALM = trips(cash=50, fare=10.0)
CLOSE = trips(cash=55, fare=10.0)
FAR = trips(cash=90, fare=30.0)


def of(rows: Rows) -> Any:
    return tfdv.generate_statistics_from_dataframe(pandas.DataFrame(rows))


def together(*several: Rows) -> Rows:
    return {name: [value for rows in several for value in rows.get(name, [])] for name in several[0]}


@pytest.fixture
def statistics(tmp_path: Path) -> Callable[..., Statistics]:
    """Of a window: the spans before the newest one, if there are any, and that; of one split, or without spans."""

    def make(
        newest: Rows, before: Rows | None = None, *, spans: bool = True, splits: tuple[str, ...] = ("train",)
    ) -> Statistics:
        made = Statistics(tmp_path / f"statistics-{len(list(tmp_path.glob('statistics-*')))}")
        for split in splits:
            parts = {made.split_path(split): together(before, newest) if before else newest}
            if spans:
                parts[made.newest_path(split)] = newest
            if before:
                parts[made.previous_path(split)] = before
            for directory, rows in parts.items():
                directory.mkdir(parents=True)
                (directory / Statistics.FILE).write_bytes(of(rows).SerializeToString(deterministic=True))
        if spans:
            made.properties["newest_span"] = "41"
        return made

    return make


@pytest.fixture
def schema(schema_of: Callable[[str], FeatureSchema]) -> FeatureSchema:
    """Without comparators."""
    return schema_of(SCHEMA)


@pytest.fixture
def serving(tmp_path: Path) -> Callable[..., Baseline]:
    """The model that serves, which was trained on such rows; on None, it does not say on what."""

    def make(rows: Rows | None, splits: tuple[str, ...] = ("train",)) -> Baseline:
        version = tmp_path / "serving" / "7"
        version.mkdir(parents=True)
        for split in splits if rows is not None else ():
            directory = version / STATISTICS / split
            directory.mkdir(parents=True)
            (directory / Statistics.FILE).write_bytes(of(rows or {}).SerializeToString(deterministic=True))
        spans = [{"span": n, "version": None, "label": str(n), "shards": [n, n + 1]} for n in (35, 36)]
        steps = {"example_gen": {"outputs": {"examples": {"type": "Examples", "properties": {"spans": spans}}}}}
        Passport(pipeline="", run="", pushed_at="", version=7, model_digest="sha256:m", files={}, steps=steps).write(
            version
        )
        return Baseline(path=version, digest="sha256:m", version=7)

    return make


@pytest.fixture
def anomalies(tmp_path: Path) -> Anomalies:
    return Anomalies(tmp_path / "anomalies")


def with_comparators(**of_feature: str) -> str:
    """The schema with one comparator or more in some features."""
    parsed = text_format.Parse(SCHEMA, schema_pb2.Schema())
    for feature in parsed.feature:
        text_format.Merge(of_feature.get(feature.name, ""), feature)
    return str(text_format.MessageToString(parsed))


def parsed(text: str) -> schema_pb2.Schema:
    return text_format.Parse(text, schema_pb2.Schema())


def read(file: Path) -> anomalies_pb2.Anomalies:
    return anomalies_pb2.Anomalies.FromString(file.read_bytes())


def distances(anomalies: Anomalies) -> dict[tuple[str, str, str], tuple[float | None, float, bool]]:
    return {
        (one["feature"], one["against"], one["measure"]): (one["value"], one["threshold"], one["over"])
        for one in anomalies.properties["drift"]["distances"]
    }


class TestDistances:
    def test_of_the_newest_span_from_those_before_it_are_tfdvs(self, statistics, schema_of, anomalies) -> None:
        text = with_comparators(payment=DRIFT, fare=DRIFT.replace("infinity_norm", "jensen_shannon_divergence"))

        ExampleValidator().run(statistics(FAR, CALM), schema_of(text), anomalies)

        theirs = tfdv.validate_statistics(of(FAR), parsed(text), previous_statistics=of(CALM))
        ours = read(anomalies.file("train"))
        assert list(ours.drift_skew_info) == list(theirs.drift_skew_info)
        assert ours.anomaly_info == theirs.anomaly_info
        assert set(ours.anomaly_info) == {"payment", "fare"}
        values = {info.path.step[0]: info.drift_measurements[0].value for info in theirs.drift_skew_info}
        assert distances(anomalies) == {
            ("payment", "spans", "infinity_norm"): (values["payment"], 0.2, True),
            ("fare", "spans", "jensen_shannon_divergence"): (values["fare"], 0.2, True),
        }

    def test_from_what_the_served_model_was_trained_on_are_tfdvs(
        self, statistics, schema_of, serving, anomalies
    ) -> None:
        text = with_comparators(fare=SKEW, tip=SKEW)

        ExampleValidator(skew="schema").run(statistics(FAR, spans=False), schema_of(text), anomalies, serving(CALM))

        theirs = tfdv.validate_statistics(of(FAR), parsed(text), serving_statistics=of(CALM))
        assert read(anomalies.file("train")) == theirs
        assert distances(anomalies)["tip", "served", "jensen_shannon_divergence"] == (0.0, 0.1, False)
        assert distances(anomalies)["fare", "served", "jensen_shannon_divergence"][2]

    def test_are_of_the_newest_span_and_anomalies_of_the_whole_window(self, statistics, schema_of, anomalies) -> None:
        narrow = with_comparators(payment=DRIFT + ' domain: "of_payment"')
        text = narrow + 'string_domain { name: "of_payment" value: "Cash" }'

        with pytest.raises(AnomaliesFound, match="payment: .*Card"):
            ExampleValidator().run(statistics(trips(100, 10.0), CALM), schema_of(text), anomalies)

        found = read(anomalies.file("train"))
        (anomaly,) = found.anomaly_info.values()
        kinds = [anomalies_pb2.AnomalyInfo.Type.Name(reason.type) for reason in anomaly.reason]
        assert kinds == ["ENUM_TYPE_UNEXPECTED_STRING_VALUES", "COMPARATOR_L_INFTY_HIGH"]
        assert anomalies.properties["anomalies"] == {"train": 1}
        assert distances(anomalies)["payment", "spans", "infinity_norm"] == (0.5, 0.2, True)

    def test_with_a_number_alone_are_of_the_measure_that_suits_the_values(self, statistics, schema, anomalies) -> None:
        ExampleValidator(drift={"payment": 0.1, "fare": 0.1}).run(statistics(FAR, CALM), schema, anomalies)

        assert set(distances(anomalies)) == {
            ("payment", "spans", "infinity_norm"),
            ("fare", "spans", "jensen_shannon_divergence"),
        }

    def test_may_be_of_several_measures(self, statistics, schema, anomalies) -> None:
        both = {"infinity_norm": 0.1, "jensen_shannon_divergence": 0.9}

        ExampleValidator(drift={"payment": both}).run(statistics(FAR, CALM), schema, anomalies)

        over = {measure: found[2] for (_, _, measure), found in distances(anomalies).items()}
        assert over == {"infinity_norm": True, "jensen_shannon_divergence": False}

    def test_go_by_the_settings_where_they_say_something_of_a_feature_and_by_the_schema_elsewhere(
        self, statistics, schema_of, anomalies
    ) -> None:
        text = with_comparators(payment=DRIFT, fare=DRIFT.replace("infinity_norm", "jensen_shannon_divergence"))

        ExampleValidator(drift={"payment": {"jensen_shannon_divergence": 0.9}}).run(
            statistics(FAR, CALM), schema_of(text), anomalies
        )

        assert {key: found[1:] for key, found in distances(anomalies).items()} == {
            ("payment", "spans", "jensen_shannon_divergence"): (0.9, False),
            ("fare", "spans", "jensen_shannon_divergence"): (0.2, True),
        }

    def test_from_the_served_model_are_not_asked_for_by_a_schema_alone(
        self, statistics, schema_of, serving, anomalies
    ) -> None:
        ExampleValidator().run(statistics(FAR, CALM), schema_of(with_comparators(fare=SKEW)), anomalies, serving(CALM))

        assert "drift" not in anomalies.properties
        assert not read(anomalies.file("train")).drift_skew_info

    def test_of_a_feature_that_lost_all_its_values_or_just_got_some_are_over_any_threshold(
        self, statistics, schema, anomalies
    ) -> None:
        lost = {**CALM, "tip": [None] * 200}

        ExampleValidator(drift={"tip": 1.0, "fare": 1.0}).run(statistics(lost, CALM), schema, anomalies)
        assert distances(anomalies)["tip", "spans", "jensen_shannon_divergence"] == (None, 1.0, True)

        shutil.rmtree(anomalies.path)
        new = {name: values for name, values in CALM.items() if name != "tip"}
        ExampleValidator(drift={"tip": 1.0}).run(statistics(CALM, new), schema, anomalies)
        assert distances(anomalies)["tip", "spans", "jensen_shannon_divergence"] == (None, 1.0, True)
        assert anomalies.properties["drift"]["over"] == [
            "train: tip: has values on one side alone (span 41 against the spans before it)"
        ]

    def test_of_a_feature_without_values_on_both_sides_are_none(self, statistics, schema, anomalies) -> None:
        empty = {**CALM, "tip": [None] * 200}

        ExampleValidator(drift={"tip": 0.1, "fare": 0.1}).run(statistics(empty, empty), schema, anomalies)

        assert {feature for feature, _, _ in distances(anomalies)} == {"fare"}

    def test_of_each_split_are_from_the_same_split(self, statistics, schema, serving, anomalies) -> None:
        found = statistics(CALM, spans=False, splits=("train", "eval"))

        ExampleValidator(skew={"fare": 0.1}).run(found, schema, anomalies, serving(CALM, ("train",)))

        assert [one["split"] for one in anomalies.properties["drift"]["distances"]] == ["train"]
        (note,) = anomalies.properties["drift"]["notes"]
        assert note.startswith("eval: version 7 (spans 35 to 36) keeps no statistics of what it was trained on")
        assert anomalies.describe() == "no anomalies; no drift in 1 distance, and not everything could be compared"


class TestWarn:
    def test_goes_on_and_says_so(self, statistics, schema, anomalies, capsys) -> None:
        ExampleValidator(drift={"payment": 0.1, "tip": 0.1}).run(statistics(FAR, CALM), schema, anomalies)

        assert anomalies.describe() == "no anomalies; drift in train payment"
        sentence = "train: payment: L-infinity distance 0.4 is above 0.1 (span 41 against the spans before it)"
        assert anomalies.properties["drift"]["over"] == [sentence]
        assert sentence in capsys.readouterr().err

    def test_says_that_there_is_none(self, statistics, schema, anomalies) -> None:
        ExampleValidator(drift={"payment": 0.1, "tip": 0.1}).run(statistics(CLOSE, CALM), schema, anomalies)

        assert anomalies.describe() == "no anomalies; no drift in 2 distances"

    def test_says_that_a_first_span_has_nothing_to_be_compared_with(self, statistics, schema, anomalies) -> None:
        ExampleValidator(drift={"payment": 0.1}).run(statistics(FAR), schema, anomalies)

        assert anomalies.describe() == (
            "no anomalies; drift unknown (span 41 is the only one of the window: there is none before it to compare with)"
        )


class TestFail:
    def test_refuses_with_feature_measure_value_threshold_against_what_and_what_to_do(
        self, statistics, schema, serving, anomalies
    ) -> None:
        validator = ExampleValidator(drift={"payment": 0.1}, skew={"fare": 0.2}, on_drift="fail")

        with pytest.raises(DriftFound) as caught:
            validator.run(statistics(FAR, CALM), schema, anomalies, serving(CALM))

        lines = str(caught.value).splitlines()
        assert lines[0] == "the data has drifted in 2 places:"
        assert lines[1:3] == [
            "  train: payment: L-infinity distance 0.4 is above 0.1 (span 41 against the spans before it)",
            "  train: fare: Jensen-Shannon divergence 1 is above 0.2 (span 41 against what version 7 (spans 35 to 36) was trained on)",
        ]
        assert "on_drift: warn" in lines[3]
        assert (caught.value.exit_code, caught.value.keep_outputs) == (3, True)
        assert anomalies.file("train").exists()

    def test_lets_pass_what_is_within_its_threshold(self, statistics, schema, anomalies) -> None:
        ExampleValidator(drift={"payment": 0.1, "fare": 0.1}, on_drift="fail").run(
            statistics(CLOSE, CALM), schema, anomalies
        )

    def test_comes_after_anomalies(self, statistics, schema_of, anomalies) -> None:
        validator = ExampleValidator(drift={"payment": 0.1}, on_drift="fail")

        with pytest.raises(AnomaliesFound, match="tip: New column"):
            validator.run(
                statistics(FAR, CALM),
                schema_of(SCHEMA.replace('feature { name: "tip"', 'feature { name: "tips"')),
                anomalies,
            )
        assert anomalies.properties["drift"]["over"]


class TestRetrain:
    def test_needs_nothing_more_where_a_model_serves_and_nothing_has_drifted(
        self, statistics, schema, serving, anomalies
    ) -> None:
        validator = ExampleValidator(drift={"payment": 0.1}, skew={"fare": 0.1, "payment": 0.1}, on_drift="retrain")

        with pytest.raises(NotNeeded) as caught:
            validator.run(statistics(CLOSE, CALM), schema, anomalies, serving(CALM))

        assert str(caught.value).splitlines() == [
            "nothing has drifted, so there is no need to train: 3 distances are within their thresholds",
            "the nearest to its own is train: payment: L-infinity distance 0.05 is within 0.1 (span 41 against the spans before it)",
        ]
        assert anomalies.file("train").exists()

    def test_goes_on_with_drift_from_the_spans_before_or_from_the_served_model(
        self, statistics, schema, serving, anomalies
    ) -> None:
        validator = ExampleValidator(drift={"payment": 0.1}, skew={"fare": 0.1}, on_drift="retrain")
        calm = serving(CALM)

        validator.run(statistics(trips(90, 10.0), CALM), schema, anomalies, calm)
        assert [one[:2] for one, (_, _, over) in distances(anomalies).items() if over] == [("payment", "spans")]
        shutil.rmtree(anomalies.path)
        validator.run(statistics(trips(50, 30.0), trips(50, 30.0)), schema, anomalies, calm)
        assert [one[:2] for one, (_, _, over) in distances(anomalies).items() if over] == [("fare", "served")]

    def test_goes_on_where_no_model_serves(self, statistics, schema, anomalies) -> None:
        ExampleValidator(drift={"payment": 0.1}, on_drift="retrain").run(statistics(CLOSE, CALM), schema, anomalies)

        assert anomalies.properties["drift"]["over"] == []

    def test_goes_on_where_the_served_model_does_not_say_what_it_was_trained_on(
        self, statistics, schema, serving, anomalies
    ) -> None:
        validator = ExampleValidator(drift={"payment": 0.1}, skew={"fare": 0.1}, on_drift="retrain")

        validator.run(statistics(CLOSE, CALM), schema, anomalies, serving(None))

        (note,) = anomalies.properties["drift"]["notes"]
        assert "keeps no statistics of what it was trained on" in note

    def test_takes_the_schemas_own_thresholds_for_the_served_model(
        self, statistics, schema_of, serving, anomalies
    ) -> None:
        validator = ExampleValidator(on_drift="retrain")

        with pytest.raises(NotNeeded):
            validator.run(
                statistics(CLOSE, spans=False), schema_of(with_comparators(fare=SKEW)), anomalies, serving(CALM)
            )

    def test_without_any_threshold_is_an_error(self, statistics, schema, serving, anomalies) -> None:
        with pytest.raises(ConfigError, match="on_drift: retrain needs something that may drift"):
            ExampleValidator(on_drift="retrain").run(statistics(CLOSE, CALM), schema, anomalies, serving(CALM))


class TestBadInput:
    def test_in_settings_is_told_at_once(self) -> None:
        with pytest.raises(ConfigError) as caught:
            ExampleValidator(
                on_drift="retain",
                drift={"fare": 1.5, "tip": {"infinity_normm": 0.1}, "payment": {}},
                skew={"fare": -0.1, "tip": float("nan")},
            )

        problems = caught.value.problems
        assert problems[0] == "on_drift: 'retain' is not one of warn, fail, retrain. Did you mean 'retrain'?"
        assert problems[1] == "drift.fare: 1.5 is no threshold: distances are between 0, no difference, and 1"
        assert problems[2] == "drift.tip.infinity_normm: no such measure. Did you mean 'infinity_norm'?"
        assert problems[3].startswith("drift.payment: names no measure")
        assert [problem.partition(":")[0] for problem in problems[4:]] == ["skew.fare", "skew.tip"]

    def test_a_word_for_skew_that_is_not_schema_is_an_error(self) -> None:
        with pytest.raises(ConfigError, match="skew: 'shema' is not 'schema'"):
            ExampleValidator(skew="shema")

    def test_features_that_are_not_there_are_named_together(self, statistics, schema, serving, anomalies) -> None:
        validator = ExampleValidator(drift={"fair": 0.1}, skew={"payments": 0.1})

        with pytest.raises(ConfigError) as caught:
            validator.run(statistics(CLOSE, CALM), schema, anomalies, serving(CALM))

        assert caught.value.problems == (
            "drift.fair: the schema has no such feature. Did you mean 'fare'?",
            "skew.payments: the schema has no such feature. Did you mean 'payment'?",
        )

    def test_a_measure_of_categories_is_none_of_numbers(self, statistics, schema, schema_of, anomalies) -> None:
        with pytest.raises(ConfigError, match=r"drift\.fare: its values are counted as numbers, and infinity_norm"):
            ExampleValidator(drift={"fare": {"infinity_norm": 0.1}}).run(statistics(CLOSE, CALM), schema, anomalies)

        ExampleValidator().run(statistics(FAR, CALM), schema_of(with_comparators(fare=DRIFT, payment=DRIFT)), anomalies)
        (note,) = anomalies.properties["drift"]["notes"]
        assert note.startswith("fare: its values are counted as numbers, and infinity_norm compares categories")
        assert {feature for feature, _, _ in distances(anomalies)} == {"payment"}

    def test_drift_of_data_without_spans_is_an_error(self, statistics, schema, anomalies) -> None:
        with pytest.raises(ConfigError, match="drift: the data has no spans to compare"):
            ExampleValidator(drift={"fare": 0.1}).run(statistics(CLOSE, spans=False), schema, anomalies)

    def test_the_schemas_own_thresholds_where_it_has_none_are_an_error(self, statistics, schema, anomalies) -> None:
        with pytest.raises(ConfigError, match="skew: no feature of the schema has a skew_comparator"):
            ExampleValidator(skew="schema").run(statistics(CLOSE), schema, anomalies)

    def test_statistics_of_the_served_model_that_are_none_are_named(
        self, statistics, schema, serving, anomalies
    ) -> None:
        baseline = serving(CALM)
        file = baseline.path / STATISTICS / "train" / Statistics.FILE
        file.write_bytes(b"\xff\xff")

        with pytest.raises(ArtifactError, match=str(file)):
            ExampleValidator(skew={"fare": 0.1}).run(statistics(CLOSE), schema, anomalies, baseline)
