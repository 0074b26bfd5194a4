"""The quick way to evaluate: sums over whole batches, where they give what TFMA computes example by example."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.io import beam as beam_io
from components.io import tfrecord
from components.io.workers import Packed
from components.model import answers, evaluation_files, jackknife, known_metrics
from components.model import sums as sums_of
from components.model.judged import Judged
from components.model.row_slices import RowSlices, Unordered
from schemas.component import BeamOptions


def evaluate(
    files: list[Path],
    judged: list[Judged],
    config: Any,
    kinds: dict[str, str],
    count: beam_io.RowCount,
    beam: BeamOptions,
    output: Path,
    *,
    batch_size: int,
    rubber_stamp: bool,
) -> str:
    """Write the files that TFMA would; gives why that would not be exact, and writes nothing then.

    `config` is an EvalConfig, `kinds` are the raw features with what values they have.
    """
    from apache_beam import CombineGlobally, Create, FlatMap, Map
    from tensorflow_model_analysis.utils import config_util

    config = config_util.update_eval_config_with_defaults(
        config, has_baseline=len(judged) > 1, rubber_stamp=rubber_stamp
    )
    wanted = []
    for model in judged:
        if model.asked is None:
            return model.only_tfma
        wanted.append(model.asked)
    try:
        plan = known_metrics.plan(config, tuple(model.name for model in judged))
    except known_metrics.Unknown as unknown:
        return str(unknown)
    for model in judged:
        if len(model.inputs) > 2 or any(name in kinds for name in model.inputs):
            return f"the signatures of {model.path}, which take {', '.join(model.inputs)}"
    slice_by = frozenset(
        feature for spec in config.slicing_specs for feature in (*spec.feature_keys, *spec.feature_values)
    )
    transformed = {feature for model in judged for feature in model.transformed}
    raw = slice_by - transformed
    raw |= {one.label for one in wanted if one.label not in one.transformed}
    add = _AddUp(
        asked=tuple(
            replace(one, transformed=tuple(name for name in one.transformed if name in slice_by or name == one.label))
            for one in wanted
        ),
        raw=tuple((name, kinds[name]) for name in sorted(raw)),
        slice_by=slice_by,
        sums=plan.sums,
        nothing=plan.new(),
        binary=frozenset(plan.binary()),
        jackknife=plan.jackknife,
        config=config.SerializeToString(deterministic=True),
        size=batch_size,
        count=count,
    )
    kept = output / "sums"
    with beam_io.pipeline(beam, [output, *files, *(model.path for model in judged)]) as pipeline:
        _ = (
            pipeline
            | "Files" >> Create([(part, str(file)) for part, file in enumerate(files)])
            | "AddUp" >> FlatMap(Packed(add))
            | "Merge" >> CombineGlobally(sums_of.merged)
            | "Keep" >> Map(Packed(_Keep(str(kept))))
        )
    found = pickle.loads(kept.read_bytes())
    kept.unlink()
    if found.refused:
        return str(found.refused)
    results = jackknife.results(plan, found, config) if plan.jackknife else plan.results(found)
    evaluation_files.write(
        list(results), config, {model.name: str(model.path) for model in judged}, output, rubber_stamp
    )
    return ""


@dataclass(frozen=True)
class _AddUp:
    """A file of serialized tf.Examples -> the sums over all of them."""

    asked: tuple[answers.Asked, ...]
    raw: tuple[tuple[str, str], ...]
    slice_by: frozenset[str]
    sums: tuple[sums_of.Sum, ...]
    nothing: sums_of.Sums
    binary: frozenset[int]  # models whose label has to be 0 or 1
    jackknife: bool
    config: bytes
    size: int
    count: beam_io.RowCount

    def __call__(self, numbered: tuple[int, str]) -> Iterator[sums_of.Sums]:
        import tensorflow_model_analysis as tfma

        part, file = numbered
        slices = RowSlices.of(tfma.EvalConfig.FromString(self.config))
        result = replace(copy.deepcopy(self.nothing), part=part)
        dealt, next_buckets = jackknife.Dealt(result), jackknife.dealer(part)
        number = dealt.number if self.jackknife else result.number
        for records in tfrecord.read_batches(Path(file), self.size):
            try:
                batch = answers.models(self.asked, self.raw, self.slice_by)(records)
            except answers.Different as different:
                result.refused = str(different)
            except Unordered:
                result.refused = "a feature to slice by whose values include NaN or negative zero"
            for model in self.binary:
                if not result.refused and not ((batch.labels[model] == 0) | (batch.labels[model] == 1)).all():
                    result.refused = f"the label '{self.asked[model].label}', which is not always 0 or 1"
            if result.refused:
                break
            members = slices.members(batch.rows, batch.transformed, batch.raw, number)
            if self.jackknife:
                members = dealt.deal(members, next_buckets(batch.rows))
            result.add(self.sums, batch.labels, batch.predictions, members)
            self.count(len(records))
        result.compact()
        yield result


@dataclass(frozen=True)
class _Keep:
    """Writes the sums where the step reads them again, whichever machine merged them."""

    file: str

    def __call__(self, found: sums_of.Sums) -> None:
        Path(self.file).write_bytes(pickle.dumps(found))
