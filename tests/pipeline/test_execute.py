"""One step from its order: what is published is what the key says, and what goes wrong is said with the user's line first."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.execute import Outcome, run_order
from pipeline.loading import load
from pipeline.order import Order, make_order
from pipeline.plan import decide, make_plan
from pipeline.store import Store
from schemas.component import BeamOptions


def order_of(step: str, *overrides: str) -> Order:
    """What a run would tell the step to do now. The steps before it must have run."""
    definition = load("pipeline.yaml", overrides)
    store = Store(definition.root)
    graph = definition.graph.upto(step)
    executions = {plan.step: plan.execution for plan in make_plan(graph, store) if plan.execution and plan.step != step}
    plan = decide(graph, graph[step], executions, store)
    return make_order(graph, graph[step], plan, executions, run="by-hand", store=store, beam=BeamOptions(), commit=None)


def forget_the_users_modules() -> None:
    """As in the process of its own that a step has."""
    for name in [name for name in sys.modules if name.startswith("project_")]:
        del sys.modules[name]


def work(order: Order) -> Outcome:
    forget_the_users_modules()
    return run_order(order)


def published(order: Order) -> bool:
    return Store(order.root).find(order.step, order.key) is not None


def write(files: Mapping[str, str]) -> None:
    for name, text in files.items():
        Path(name).write_text(text)


class TestTheKey:
    def test_is_not_taken_for_code_that_was_edited_after_the_plan(self, ran: Path) -> None:
        write({"project_functions.py": "def double(line):\n    return int(line) * 5\n"})
        order = order_of("apply")
        write({"project_functions.py": "def double(line):\n    return int(line) * 6\n"})

        outcome = work(order)

        assert outcome.message.startswith("project_functions.py: double changed after this step was planned")
        assert "run again" in outcome.message
        assert not published(order)

    def test_stays_that_of_a_module_that_was_edited_once_it_was_loaded(self, ran: Path) -> None:
        write(
            {
                "project_functions.py": "from pathlib import Path\nimport project_helpers\n\n"
                "def double(line):\n    Path('project_helpers.py').write_text('x = 1')\n    return int(line) * 5\n"
            }
        )
        order = order_of("apply")

        assert work(order).action == "run"
        assert published(order)
        assert order_of("apply").key != order.key

    @pytest.mark.parametrize("edit", ["import project_new\n", "def double(line:\n"])
    def test_is_none_of_an_edit_that_a_loaded_module_shall_have_next(self, ran: Path, edit: str) -> None:
        write(
            {
                "project_functions.py": "from pathlib import Path\n\n\n"
                "def double(line):\n"
                "    Path('project_new.py').write_text('x = 1')\n"
                f"    Path('project_functions.py').write_text({edit!r})\n"
                "    import project_late\n    return int(line) * project_late.VALUE\n",
                "project_late.py": "VALUE = 1\n",
            }
        )
        order = order_of("apply")

        outcome = work(order)

        assert (outcome.action, outcome.message) == ("run", "")
        assert published(order)

    def test_is_of_the_source_that_AutoGraph_would_find_of_a_loaded_function(self, ran: Path) -> None:
        write(
            {
                "project_functions.py": "import inspect\nfrom pathlib import Path\n\nimport project_helpers\n\n\n"
                "def double(line):\n"
                "    Path('project_helpers.py').write_text('def scale(number):\\n    return 0\\n')\n"
                "    return inspect.getsource(project_helpers.scale)\n"
            }
        )
        told = Path("project_helpers.py").read_text()
        order = order_of("apply")

        assert work(order).action == "run"
        execution = Store(order.root).find(order.step, order.key)
        assert execution is not None
        (found, *_) = json.loads((execution.output("transformed_examples") / "Split-train" / "lines.json").read_text())
        assert found in told

    def test_is_not_taken_for_a_module_that_was_edited_before_the_step_loaded_it(self, ran: Path) -> None:
        write(
            {
                "project_late.py": "VALUE = 1\n",
                "project_functions.py": "from pathlib import Path\n\n"
                "def double(line):\n    Path('project_late.py').write_text('VALUE = 2')\n"
                "    import project_late\n    return int(line) * project_late.VALUE\n",
            }
        )
        order = order_of("apply")

        assert work(order).message.startswith("project_late.py: VALUE changed while this step ran")
        assert not published(order)

    def test_is_not_taken_for_a_module_that_who_runs_the_step_reads_again(self, ran: Path) -> None:
        edited = Path("project_functions.py").read_text() + "\nFACTOR = 7\n"
        write(
            {
                "project_again.py": "import importlib\nfrom dataclasses import dataclass\nfrom pathlib import Path\n\n"
                "import project_functions\nfrom project_steps import Apply as Applying\n"
                "from schemas.artifacts import Examples, TransformedExamples\nfrom schemas.component import Out\n\n"
                "@dataclass(frozen=True, kw_only=True)\nclass Apply(Applying):\n"
                "    RUN_BY = ('project_again.Apply',)\n\n"
                "    def run(self, examples: Examples, transformed_examples: Out[TransformedExamples]) -> None:\n"
                f"        Path('project_functions.py').write_text({edited!r})\n"
                "        importlib.reload(project_functions)\n"
                "        super().run(examples, transformed_examples)\n"
            }
        )
        order = order_of("apply", "steps.apply.uses=project_again.Apply")

        assert work(order).message.startswith("project_functions.py: FACTOR changed while this step ran")
        assert not published(order)

    def test_stays_that_of_a_module_that_who_runs_the_step_holds(self, ran: Path) -> None:
        write(
            {
                "project_held.py": "from collections.abc import Collection\nfrom dataclasses import dataclass\n"
                "from pathlib import Path\n\nfrom project_steps import Apply as Applying\n"
                "from schemas.artifacts import Examples, TransformedExamples\nfrom schemas.component import Out\n\n"
                "@dataclass(frozen=True, kw_only=True)\nclass Apply(Applying):\n"
                "    RUN_BY = ('project_held.Apply',)\n\n"
                "    def hold_user_code(self) -> Collection[str]:\n        return ('project_functions',)\n\n"
                "    def run(self, examples: Examples, transformed_examples: Out[TransformedExamples]) -> None:\n"
                "        Path('project_functions.py').write_text('def double(line):\\n    return 0\\n')\n"
                "        super().run(examples, transformed_examples)\n"
            }
        )
        order = order_of("apply", "steps.apply.uses=project_held.Apply")

        assert work(order).action == "run"
        assert published(order)

    def test_is_not_taken_for_files_that_changed_while_they_were_read(self, project: Path) -> None:
        write(
            {
                "project_reading.py": "from dataclasses import dataclass\nfrom project_steps import Read as Reading\n"
                "from schemas.artifacts import Examples\nfrom schemas.component import Out, Progress\n\n"
                "@dataclass(frozen=True, kw_only=True)\nclass Read(Reading):\n"
                "    def run(self, progress: Progress, examples: Out[Examples]) -> None:\n"
                "        super().run(progress, examples)\n"
                "        open(self.source, 'a').write('4')\n"
            }
        )
        order = order_of("read", "steps.read.uses=project_reading.Read")

        assert work(order).message.startswith("numbers.txt changed while this step ran")
        assert not published(order)
        assert list((project / "store-root/staging").iterdir()) == []

    def test_is_not_taken_for_an_input_that_was_replaced_while_it_was_read(self, ran: Path) -> None:
        (count,) = (ran / "store-root/store/count").iterdir()
        replace = (
            "from pathlib import Path\nimport json\n\ndef double(line):\n"
            "    (file,) = Path('store-root/store/read').glob('*/manifest.json')\n"
            "    found = json.loads(file.read_text())\n"
            "    found['outputs']['examples']['digest'] = 'sha256:another'\n"
            "    file.write_text(json.dumps(found))\n    return int(line)\n"
        )
        write({"project_functions.py": replace})
        order = order_of("apply")

        assert work(order).message.startswith("read.examples was replaced by run")
        assert not published(order)
        assert count.is_dir()


SPANS = """
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from schemas.artifacts import Examples
from schemas.component import ChoosesFiles, InputFiles, Out, PlannedFiles
from schemas.input_files import FoundFile, expand
from schemas.spans import has_span, select


@dataclass(frozen=True, kw_only=True)
class Read:
    source: InputFiles
    window: ChoosesFiles[int] = 2
    last_span: ChoosesFiles[int | None] = None
    keep: float = 1.0

    def select_files(self) -> dict[str, list[FoundFile]]:
        if not has_span(self.source):
            return {"source": [FoundFile(file) for file in expand(self.source)]}
        return {"source": [file for span in select(self.source, self.window, self.last_span) for file in span.found()]}

    def run(self, files: PlannedFiles, examples: Out[Examples]) -> None:
        exec(Path("during.py").read_text())
        train = examples.split_path("train")
        train.mkdir()
        lines = [file.path.read_text() for file in files.by_setting["source"]]
        (train / "lines.json").write_text(json.dumps(lines))
        examples.properties["records"] = {"train": len(lines)}
"""


@pytest.fixture
def spans(project: Path) -> Path:
    """A source with the spans 7 and 8, and a step `read` that reads the newest two. What is in during.py is done while it reads."""
    (project / "data").mkdir()
    write({"project_spans.py": SPANS, "data/7.csv": "seven", "data/8.csv": "eight", "during.py": ""})
    definition = (
        "name: toy\nroot: store-root\nsteps:\n  read: {uses: project_spans.Read, with: {source: data/{SPAN}.csv}}\n"
    )
    write({"pipeline.yaml": definition.replace("data/{SPAN}.csv", '"data/{SPAN}.csv"')})
    return project


def reasons(*overrides: str) -> tuple[str, ...]:
    definition = load("pipeline.yaml", overrides)
    (plan,) = make_plan(definition.graph, Store(definition.root))
    return (plan.action, *plan.reasons)


def lines_of(order: Order) -> list[str]:
    (file,) = (Path(order.root) / "store" / order.step / order.key).glob("**/lines.json")
    lines: list[str] = json.loads(file.read_text())
    return lines


class TestAStepThatReadsWhatWasPlanned:
    def test_leaves_files_that_appear_for_the_next_run(self, spans: Path) -> None:
        order = order_of("read")
        write({"data/9.csv": "nine", "during.py": "Path('data/10.csv').write_text('ten')"})

        assert work(order).action == "run"
        assert lines_of(order) == ["seven", "eight"]
        assert reasons() == ("run", "spans 9 to 10 are new", "spans 7 to 8 left the window")

    def test_leaves_files_that_a_glob_matches_only_now_for_the_next_run_too(self, spans: Path) -> None:
        glob = "read.source=data/*.csv"
        order = order_of("read", glob)
        write({"data/9.csv": "nine", "during.py": "Path('data/10.csv').write_text('ten')"})

        assert work(order).action == "run"
        assert lines_of(order) == ["seven", "eight"]
        assert reasons(glob) == ("run", "10.csv is new", "9.csv is new")

    @pytest.mark.parametrize(
        ("when", "change", "message"),
        [
            ("before", "Path('data/8.csv').write_text('acht')", "data/8.csv changed after this step was planned"),
            ("before", "Path('data/7.csv').unlink()", "data/7.csv is gone after this step was planned"),
            ("during", "Path('data/8.csv').write_text('acht')", "data/8.csv changed while this step ran"),
        ],
    )
    def test_fails_where_they_are_not_what_they_were(self, spans: Path, when: str, change: str, message: str) -> None:
        order = order_of("read")
        if when == "before":
            exec(change)
        else:
            write({"during.py": change})

        assert work(order).message.startswith(message)
        assert not published(order)

    def test_is_reused_whichever_setting_chose_the_same_files(self, spans: Path) -> None:
        assert work(order_of("read")).action == "run"

        assert reasons("read.last_span=8") == ("reuse", "nothing changed")
        assert reasons("read.window=1", "read.last_span=8") == ("run", "span 7 left the window")
        assert reasons("read.keep=0.5")[1:] == ("keep 1.0 -> 0.5",)

    def test_is_run_by_hand_on_the_files_that_there_are_now(self, spans: Path) -> None:
        order = order_of("read")
        write({"data/9.csv": "nine"})

        assert order.as_of_now().key == order_of("read").key != order.key


class TestTheError:
    def message(self, functions: str, helpers: str = "") -> str:
        write({"project_functions.py": functions, "project_helpers.py": helpers})
        outcome = work(order_of("apply"))
        assert outcome.action == "failed"
        return outcome.message

    def test_names_the_innermost_line_of_the_users_and_not_of_a_librarys(self, ran: Path) -> None:
        functions = "from project_helpers import parse\n\ndef double(line):\n    return parse(line)\n"
        helpers = "import json\n\ndef parse(line):\n    return json.loads('{' + line)\n"

        message = self.message(functions, helpers)

        assert message.startswith("project_helpers.py:4 in parse: JSONDecodeError: Expecting property name")

    def test_without_words_is_named_by_its_class(self, ran: Path) -> None:
        message = self.message("def double(line):\n    assert line == '5'\n")

        assert message == "project_functions.py:2 in double: AssertionError"

    def test_in_a_users_exception_group_of_causes_is_the_users_own(self, ran: Path) -> None:
        functions = "def double(line):\n    try:\n        return 1 / 0\n    except ZeroDivisionError as e:\n        raise ValueError('no') from e\n"

        assert self.message(functions) == "project_functions.py:5 in double: ValueError: no"

    def test_while_a_module_is_imported_names_the_line_that_raised(self, ran: Path) -> None:
        message = self.message("import project_helpers\n\ndef double(line):\n    pass\n", "\nTABLE = {}['no']\n")

        assert message == "project_helpers.py:2 in <module>: KeyError: 'no'"

    def test_of_a_missing_library_names_the_line_that_imports_it(self, ran: Path) -> None:
        message = self.message("import not_installed_here\n\ndef double(line):\n    pass\n")

        assert message == (
            "project_functions.py:1 in <module>: ModuleNotFoundError: No module named 'not_installed_here'"
        )

    def test_in_a_component_of_the_users_names_its_line(self, ran: Path) -> None:
        write({"project_functions.py": "double = None\n"})

        outcome = work(order_of("apply"))

        assert outcome.error == "UserCodeError"
        assert outcome.message.startswith("project_steps.py:")
        assert " in <listcomp>: TypeError: 'NoneType' object is not callable" in outcome.message

    @pytest.mark.parametrize(
        "exception", ["OSError(28, 'No space left on device', 'x')", "RuntimeError('writing: No space left on device')"]
    )
    def test_of_a_full_disk_says_so_whoever_met_it(self, ran: Path, exception: str) -> None:
        message = self.message(f"def double(line):\n    raise {exception}\n")

        assert message.startswith("the disk is full: ")
        assert "run again; finished steps are kept" in message

    def test_is_told_although_the_log_is_on_the_full_disk(self, ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class Full(io.StringIO):
            def write(self, text: str) -> int:
                raise OSError(28, "No space left on device")

        monkeypatch.setattr(sys, "stderr", Full())

        assert self.message("def double(line):\n    raise ValueError('no')\n").endswith("ValueError: no")


@pytest.mark.parametrize(("setting", "action"), [("most=2", "refused"), ("fewest=4", "no need")])
def test_a_refusal_that_another_run_published_meanwhile_is_one_of_this_run_too(
    ran: Path, setting: str, action: str
) -> None:
    order = order_of("judge", f"steps.judge.with.{setting}")
    first = work(order)

    second = work(order)

    assert second.action == first.action == action
    assert second.message == first.message != ""


def test_scratch_goes_once_the_step_is_published(ran: Path) -> None:
    order = order_of("fit", "fit.pause_s=0.001")

    assert work(order).action == "run"
    assert not (ran / "store-root/scratch/fit").exists()
    assert json.loads((ran / "store-root/store/fit" / order.key / "manifest.json").read_text())["run"] == "by-hand"


def test_a_step_is_told_its_own_place_and_memory(ran: Path) -> None:
    write(
        {
            "project_place.py": "from dataclasses import dataclass\n"
            "from schemas.artifacts import Anomalies\n"
            "from schemas.component import BeamOptions, Out\n\n"
            "@dataclass(frozen=True, kw_only=True)\n"
            "class Where:\n"
            "    def run(self, beam: BeamOptions, anomalies: Out[Anomalies]) -> None:\n"
            "        anomalies.properties['given'] = [beam.runner, list(beam.args), beam.memory]\n",
            "pipeline.yaml": "name: toy\nroot: store-root\nsteps:\n"
            "  where:\n    uses: project_place.Where\n    resources: {memory: 2Gi}\n"
            "    beam: {runner: DirectRunner, args: [--direct_num_workers=2]}\n",
        }
    )
    order = order_of("where")

    assert work(order).action == "run"
    (output,) = Store(order.root).find(order.step, order.key).manifest.outputs.values()
    assert output.properties["given"] == ["DirectRunner", ["--direct_num_workers=2"], 2 * 1024**3]


def test_a_step_finds_the_parts_that_it_kept_for_other_inputs_and_its_manifest_names_them(project: Path) -> None:
    write(
        {
            "project_parts.py": "import hashlib\nfrom dataclasses import dataclass\nfrom pathlib import Path\n"
            "from schemas.artifacts import Anomalies\n"
            "from schemas.component import InputFiles, Out, PartCache\n\n"
            "@dataclass(frozen=True, kw_only=True)\n"
            "class Count:\n"
            "    source: InputFiles\n\n"
            "    def run(self, parts: PartCache, anomalies: Out[Anomalies]) -> None:\n"
            "        anomalies.properties['made'] = made = []\n"
            "        for line in Path(self.source).read_text().split():\n"
            "            name = hashlib.sha256(line.encode()).hexdigest()\n"
            "            if parts.find(name) is None:\n"
            "                made.append(line)\n"
            "                with parts.keep(name) as directory:\n"
            "                    (directory / 'line').write_text(line)\n",
            "pipeline.yaml": "name: toy\nroot: store-root\nsteps:\n"
            "  count: {uses: project_parts.Count, with: {source: numbers.txt}}\n",
        }
    )

    def made(*overrides: str) -> tuple[list[str], tuple[str, ...]]:
        order = order_of("count", *overrides)
        assert work(order).action == "run"
        manifest = Store(order.root).find(order.step, order.key).manifest
        return manifest.outputs["anomalies"].properties["made"], manifest.parts

    first, named_first = made()
    write({"numbers.txt": "2\n3\n4\n"})
    second, named_second = made()

    assert (first, second) == (["1", "2", "3"], ["4"])
    assert len(named_first) == len(named_second) == 3
    assert len({*named_first, *named_second}) == 4
    assert {path.name for path in (project / "store-root/parts").iterdir()} == {*named_first, *named_second}

    write({"numbers.txt": "3\n4\n5\n"})
    assert made("steps.count.cache=false")[0] == ["3", "4", "5"], (
        "what runs whatever the store holds takes no part of it"
    )


PREPARED = """
import sys
from pipeline.execute import prepare_process
from pipeline.order import Order

prepare_process(Order(
    pipeline="p", run="r", step="s", component=sys.argv[1], settings={}, key="k", key_parts={}, inputs={}, root="r", directory="."
))
print(*(type(finder).__name__ for finder in sys.meta_path))
"""


@pytest.mark.parametrize(
    ("component", "arranged"), [("project_steps.Count", True), ("components.data.statistics_gen.StatisticsGen", False)]
)
def test_a_component_of_the_users_own_may_be_the_first_to_import_KerasTuner(component: str, arranged: bool) -> None:
    command = [sys.executable, "-c", PREPARED, component]
    finders = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert ("_KerasTunerFinder" in finders) == arranged
