"""The cost of one span more: what each data step takes for the newest window of 1, 10 and 30 spans, and what TFX takes for it.

    PYTHONPATH=. python tests/benchmarks/spans.py [--windows 1 10 30] [--rows 5000] [--repeats 3] [--data DIRECTORY]

A span is a CSV file of `--rows` taxi trips. "ours" is a step of ours after it ran for the window before, which began and ended
a span earlier, and kept parts of what it made; "ours, from nothing" is the same work without them, and gives the same files byte
for byte. "TFX" is its executor, which has the window's files as one input, and nothing that is kept. Transform runs configs/taxi's
preprocessing_fn with statistics; without `materialize` it writes no transformed examples, which the Trainer then makes while
it reads. ExampleValidator keeps nothing: it reads statistics alone. Each step reads what our step before it made.

Seconds are the executor's own, without imports. `ratio` is TFX's seconds by these; `spans` is these seconds by those of "ours,
from nothing" for a window of the one span that is new: 1.0 is what that one costs. Each run is a fresh process, and the variants
take turns. TFX is run for windows up to `--vanilla-rows` rows.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import harness

HEAD = "| step | window | | s | ratio | spans | peak RSS MB |\n|---|---|---|---|---|---|---|"
FUNCTION = "configs.taxi.features.preprocessing_fn"
COMPONENTS = {
    "example_gen": "components.data.example_gen.ExampleGen",
    "statistics_gen": "components.data.statistics_gen.StatisticsGen",
    "example_validator": "components.data.example_validator.ExampleValidator",
    "transform": "components.features.transform.Transform",
}
STEPS: dict[
    str, dict[str, dict[str, Any]]
] = {  # name: the settings that it is measured with, by what the table calls them
    "example_gen": {"": {}},
    "statistics_gen": {"": {}},
    "example_validator": {"": {"on_anomaly": "warn"}},
    "transform": {
        "": {"preprocessing_fn": FUNCTION},
        ", materialize: false": {"preprocessing_fn": FUNCTION, "materialize": False},
    },
}


def main() -> None:
    parser = harness.repeated(__doc__)
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 10, 30])
    parser.add_argument("--rows", type=int, default=5000, help="of each span")
    parser.add_argument("--vanilla-rows", type=int, default=150_000)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    args = parser.parse_args()
    windows = sorted({1, *args.windows})  # what one span costs is what the others are compared with
    source = spans(max(windows) + 1, args.rows, args.data)
    print(harness.load())
    print(HEAD)
    with tempfile.TemporaryDirectory(dir=args.data) as made:
        for window in windows:
            harness.measure(Path(__file__), {"": ("make", str(source), made, str(window))}, 1)
        for step in args.steps:
            one: dict[str, float] = {}
            for window in windows:
                variants = variants_of(step, vanilla=window * args.rows <= args.vanilla_rows)
                found = harness.measure(
                    Path(__file__),
                    {name: (*variant, str(source), made, str(window)) for name, variant in variants.items()},
                    args.repeats,
                )
                one = one or {name: each["seconds"] for name, each in found.items()}
                print(table(step, window, found, one), flush=True)
    print(harness.load())


def variants_of(step: str, *, vanilla: bool) -> dict[str, tuple[str, str, str]]:
    """What is measured of a step: (step, whose, name of the settings), by what the table calls it."""
    variants = {"TFX": (step, "vanilla", "")} if vanilla else {}
    for name in STEPS[step]:
        variants[f"ours, from nothing{name}"] = (step, "anew", name)
        variants[f"ours{name}"] = (step, "ours", name)
    if step == "example_validator":  # what it does hangs on no number of rows, and nothing of it is kept
        del variants["ours"]
    return variants


def table(step: str, window: int, found: Mapping[str, Mapping[str, float]], one: Mapping[str, float]) -> str:
    lines = []
    for name, each in found.items():
        ratio = f"{found['TFX']['seconds'] / each['seconds']:.1f}" if "TFX" in found else ""
        alone = one[
            name if "ours" not in name else name.replace(", from nothing", "").replace("ours", "ours, from nothing")
        ]
        lines.append(
            f"| {step} | {window} | {name} | {each['seconds']:.2f} | {ratio} | {each['seconds'] / alone:.1f} | "
            f"{each['peak_mb']:.0f} |"
        )
    return "\n".join(lines)


def spans(number: int, rows: int, data: Path) -> Path:
    """A source with `number` spans, from 1 on, of `rows` trips each; no two have the same trips."""
    directory = data / f"taxi-spans-{rows}"
    whole = harness.taxi_replicas(number * rows, data)
    with whole.open(encoding="utf-8") as lines:
        header = next(lines)
        for span in range(1, number + 1):
            file = directory / str(span) / "trips.csv"
            taken = list(itertools.islice(lines, rows))
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                unfinished = file.with_suffix(".part")
                unfinished.write_text("".join([header, *taken]), encoding="utf-8")
                unfinished.rename(file)
    return directory


# In processes of their own


def child(arguments: list[str]) -> None:
    step, *others = arguments
    if step == "make":
        source, made, window = others
        make(Path(source), Path(made, window), int(window))
        return
    whose, named, source, made, window = others
    before = Path(made, window)
    with tempfile.TemporaryDirectory(dir=made) as to:
        if whose == "vanilla":
            vanilla(step, Path(source), before / "newest", Path(to), int(window))
            return
        if whose == "ours":
            shutil.copytree(before / "kept", Path(to, "kept"), copy_function=os.link)
        window_of = (Path(source), int(window), int(window) + 1)
        ours(step, STEPS[step][named], window_of, before / "newest", Path(to, step), Path(to, "kept"))


def make(source: Path, made: Path, window: int) -> None:
    """What the steps keep of the window before the newest, and what each reads of the newest one."""
    for end, directory, kept in (
        (window, made / "before", made / "kept"),
        (window + 1, made / "newest", made / "none"),
    ):
        for step, each in STEPS.items():
            if end == window or step in ("example_gen", "statistics_gen"):
                for name, settings in each.items():
                    ours(step, settings, (source, window, end), directory, directory / f"{step}{name}", kept)
    for directory in (made / "before", made / "none"):
        shutil.rmtree(directory)


def ours(
    step: str, settings: Mapping[str, Any], window: tuple[Path, int, int], made: Path, to: Path, kept: Path
) -> None:
    """Run a step on what those before it left under `made`, into `to`, with the parts in the store `kept`.

    `window` is the source of the spans, how many there are in the window, and the last of them.
    """
    import apache_beam
    import pyarrow.csv
    import pyarrow.parquet
    import tensorflow
    import tensorflow_data_validation
    import tensorflow_transform.beam

    from components.io import beam as beam_io
    from pipeline.contract import build_component, read_contract
    from pipeline.order import Order
    from pipeline.parts import stored_parts
    from pipeline.plan import parts_of
    from pipeline.store import Store
    from schemas.component import Baseline, BeamOptions, InputFile, PartCache, PlannedFiles, Progress
    from schemas.dotted_path import resolve

    # Imports are not measured.
    del apache_beam, pyarrow, tensorflow, tensorflow_data_validation, tensorflow_transform, beam_io
    kind = resolve(COMPONENTS[step])
    contract = read_contract(kind)
    source, spans, last = window
    if step == "example_gen":
        settings = {"source": f"{source}/{{SPAN}}/trips.csv", "window": spans, "last_span": last}
    key_parts = parts_of(contract, COMPONENTS[step], settings, inputs={}, seed=None, baseline=None)
    order = Order(
        pipeline="taxi",
        run="bench",
        step=step,
        component=COMPONENTS[step],
        settings=settings,
        key="0" * 64,
        key_parts=key_parts,
        inputs={},
        root=str(kept),
        directory=str(harness.ROOT),
    )
    files = {
        setting: tuple(InputFile(**{**file, "path": Path(file["path"])}) for file in found)
        for setting, found in key_parts["files"].items()
    }
    outputs = harness.outputs(kind, to)
    with stored_parts(Store(kept).open(), order) as parts:
        given = (BeamOptions(), Progress(), Baseline(), PlannedFiles(files))
        asked: dict[type, Any] = {PartCache: parts, **{type(each): each for each in given}}
        arguments = {name: asked[each] for name, each in contract.asks.items()}
        arguments |= {name: found for name in contract.inputs if (found := artifact(made, name)) is not None}
        component = build_component(kind, settings)
        with harness.timed():
            component.run(**arguments, **outputs)
    for name, output in outputs.items():
        (to / f"{name}.json").write_text(json.dumps(output.properties), encoding="utf-8")


def artifact(made: Path, name: str) -> Any:
    """An input of a step: what the step that makes it left; None where no step that is measured does."""
    from schemas.artifacts import Examples, FeatureSchema, Statistics

    if name == "schema":
        schema = made / "schema"
        schema.mkdir(exist_ok=True)
        (schema / "schema.pbtxt").write_bytes((harness.ROOT / "schemas/datasets/taxi.pbtxt").read_bytes())
        return FeatureSchema(schema)
    kinds = {"examples": ("example_gen", Examples), "statistics": ("statistics_gen", Statistics)}
    if name not in kinds:
        return None
    step, kind = kinds[name]
    properties = json.loads((made / step / f"{name}.json").read_text(encoding="utf-8"))
    return kind(made / step / name, properties)


def vanilla(step: str, source: Path, made: Path, to: Path, window: int) -> None:
    """TFX's executor of a step, on the whole window."""
    import example_gen
    import statistics_gen
    import transform

    examples = made / "example_gen/examples"
    if step == "example_gen":
        example_gen.vanilla(to, *(source / str(span) / "trips.csv" for span in range(2, window + 2)))
    elif step == "statistics_gen":
        statistics_gen.vanilla(examples)
    elif step == "transform":
        transform.vanilla(examples, to, bare=False)
    else:
        validate(made, to)


def validate(made: Path, to: Path) -> None:
    import tfx.v1  # noqa: F401
    from tfx.components.example_validator.executor import Executor
    from tfx.types import artifact_utils, standard_artifacts

    def given(kind: str, path: Path) -> Any:
        found = getattr(standard_artifacts, kind)()
        found.uri = str(path)
        return found

    statistics = given("ExampleStatistics", made / "statistics_gen/statistics")
    statistics.split_names = artifact_utils.encode_split_names(["train", "eval"])
    schema = artifact(made, "schema")
    with harness.timed():
        Executor(Executor.Context(tmp_dir=str(to), unique_id="1")).Do(
            {"statistics": [statistics], "schema": [given("Schema", schema.path)]},
            {"anomalies": [given("ExampleAnomalies", to / "anomalies")]},
            {},
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        # By a name that a Beam worker, and a dotted path, can import.
        import spans as itself

        harness.child(itself.child)
    else:
        main()
