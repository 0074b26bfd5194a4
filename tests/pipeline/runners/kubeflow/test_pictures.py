"""What Kubeflow's UI shows of a step is what its outputs hold, in the shapes that the UI draws."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from kfp import dsl

from components.io import tfrecord
from pipeline.contract import Contract, read_contract
from pipeline.manifest import InputRecord
from pipeline.runners.kubeflow import pictures
from pipeline.store import Execution, Store
from schemas.artifact import Artifact
from schemas.artifacts import Blessing, Evaluation, Model, PushedModel
from schemas.component import Out

PLOTS = """
slice_key {}
plot_keys_and_values { value { confusion_matrix_at_thresholds {
  matrices { threshold: 0.5 true_positives: 3 false_positives: 1 true_negatives: 5 false_negatives: 1 }
  matrices { threshold: 1 true_negatives: 6 false_negatives: 4 }
} } }
"""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Model -> Evaluation, Blessing."""

    def run(self, model: Model, evaluation: Out[Evaluation], blessing: Out[Blessing]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Push:
    """Model -> PushedModel."""

    def run(self, model: Model, pushed_model: Out[PushedModel]) -> None: ...


@pytest.fixture
def contract() -> Contract:
    return read_contract(Judge)


def published(tmp_path: Path, contract: Contract, plots: str = "", **properties: dict[str, Any]) -> Execution:
    with Store(tmp_path / "root").stage("judge", "ab" * 32) as staging:
        for output in contract.outputs:
            staging.output(output)
        if plots:
            from tensorflow_model_analysis.proto import metrics_for_slice_pb2

            message: Any = text_format.Parse(plots, metrics_for_slice_pb2.PlotsForSlice())
            tfrecord.write(
                staging.output("evaluation") / "plots-00000-of-00001.tfrecord", [message.SerializeToString()]
            )
        return staging.publish(
            component="tests.Judge",
            pipeline="toy",
            run="run-1",
            seconds=2.5,
            key_parts={},
            inputs={"model": InputRecord("fit", "cd" * 32, "model", "Model", "sha256:0")},
            outputs={name: (kind.TYPE_NAME, properties.get(name, {})) for name, kind in contract.outputs.items()},
        )


def test_metadata_of_an_output_says_what_it_is_where_it_is_and_its_scalar_properties(
    tmp_path: Path, contract: Contract
) -> None:
    made = published(
        tmp_path,
        contract,
        evaluation={"metrics": {"auc": 0.75, "of_nothing": None}},
        blessing={"blessed": False, "reasons": ["auc 0.4 is below 0.7"]},
    )

    assert pictures.artifact_metadata(made, "evaluation") == {
        "auc": 0.75,
        "type": "ModelEvaluation",
        "path": str(made.output("evaluation")),
        "digest": made.manifest.outputs["evaluation"].digest,
        "step": "judge",
        "key": "ab" * 32,
        "run": "run-1",
    }
    assert pictures.artifact_metadata(made, "blessing")["blessed"] is False


class Tally(Artifact):
    """A type of a user's."""

    TYPE_NAME = "PicturesTally"


@dataclass(frozen=True, kw_only=True)
class Count:
    """-> Tally."""

    def run(self, tally: Out[Tally]) -> None: ...


def test_of_a_type_that_is_not_ours_every_scalar_property_is_told(tmp_path: Path) -> None:
    contract = read_contract(Count)
    made = published(tmp_path, contract, tally={"factor": 2, "share": 0.5, "of": "trips", "bins": [1, 2], "none": None})

    told = pictures.artifact_metadata(made, "tally", contract)

    assert {name: told[name] for name in told if name in ("factor", "share", "of", "bins", "none")} == {
        "factor": 2,
        "share": 0.5,
        "of": "trips",
    }


def test_metadata_of_a_pushed_model_says_which_version_of_what(tmp_path: Path) -> None:
    made = published(
        tmp_path,
        read_contract(Push),
        pushed_model={"destination": "/serving", "version": 3, "model_digest": "sha256:1"},
    )

    found = pictures.artifact_metadata(made, "pushed_model")

    assert (found["destination"], found["version"]) == ("/serving", 3)


def test_metrics_are_finite_numbers_with_their_intervals_and_the_baselines(tmp_path: Path, contract: Contract) -> None:
    made = published(
        tmp_path,
        contract,
        evaluation={
            "metrics": {"auc": 0.75, "of_nothing": None, "loss": math.inf},
            "intervals": {"auc": [0.7, 0.8]},
            "baseline_metrics": {"auc": 0.72},
        },
    )

    assert pictures.metrics(made, contract) == {
        "auc": 0.75,
        "auc (95 % from)": 0.7,
        "auc (95 % to)": 0.8,
        "auc (baseline)": 0.72,
    }
    assert pictures.metrics(published(tmp_path / "b", read_contract(Push)), read_contract(Push)) == {}


def test_curves_are_what_kfps_own_classification_metrics_hold(tmp_path: Path, contract: Contract) -> None:
    made = published(tmp_path, contract, PLOTS, evaluation={"plots": 1})
    theirs = dsl.ClassificationMetrics()
    theirs.log_roc_curve(fpr=[0.0, 1 / 6], tpr=[0.0, 0.75], threshold=[1.0, 0.5])
    theirs.log_confusion_matrix(["0", "1"], [[5, 1], [1, 3]])

    assert pictures.curves(made, contract) == theirs.metadata


def test_an_evaluation_without_plots_has_no_curves(tmp_path: Path, contract: Contract) -> None:
    assert pictures.curves(published(tmp_path, contract), contract) == {}


def test_the_summary_says_how_it_ended_what_was_made_and_where(tmp_path: Path, contract: Contract) -> None:
    made = published(tmp_path, contract, evaluation={"metrics": {"auc": 0.75}}, blessing={"blessed": True})

    page = pictures.summary(
        "my_judge",
        "done",
        run="job-1",
        reason="input model changed",
        seconds=2.51,
        notes=("an attempt before this one was killed",),
        execution=made,
        contract=contract,
    )

    assert page.startswith("# my\\_judge: done\n\nDone, after 2.5 s: input model changed.\n")
    assert "| evaluation | ModelEvaluation | auc 0.75 |" in page
    assert "| blessing | ModelBlessing | blessed |" in page
    assert f"* in the store: `{made.path}`" in page
    assert "* an attempt before this one was killed" in page


def test_a_refusal_is_shown_in_full_and_as_it_is() -> None:
    page = pictures.summary("push", "refused", run="job-1", message="auc 0.41 is below 0.60 on a|b\n  <b>tell</b> it")

    assert "    auc 0.41 is below 0.60 on a|b\n      <b>tell</b> it\n" in page
