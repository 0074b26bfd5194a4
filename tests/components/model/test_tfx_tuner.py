"""TFX's Tuner: a search that was killed goes on where it was, as the step's scratch space has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SEARCH = """
import os
import signal
from pathlib import Path

import keras_tuner
from tfx import v1 as tfx

TRIED = Path(os.environ["TRIED"])


class Search(keras_tuner.GridSearch):
    def run_trial(self, trial, **given):
        units, rate = trial.hyperparameters.Int("units", 1, 2), trial.hyperparameters.Choice("rate", [0.1, 0.2])
        with TRIED.open("a") as out:
            out.write(f"{units}/{rate} ")
        if len(TRIED.read_text().split()) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"loss": abs(units - 2) + rate}


def tuner_fn(fn_args):
    objective = keras_tuner.Objective("loss", "min")
    tuner = Search(objective=objective, max_trials=10, directory=fn_args.working_dir, project_name="search")
    return tfx.components.TunerFnResult(tuner=tuner, fit_kwargs={})
"""

TWICE = """
import json
import os
import sys
from pathlib import Path

from components.io import tfx_warm
from pipeline.contract import build_component, read_contract
from schemas.artifacts import Examples
from schemas.component import BeamOptions, Lineage, Scratch
from schemas.dotted_path import resolve

place, examples = map(Path, sys.argv[1:])


def tune(outputs):
    kind = resolve("tfx.v1.components.Tuner")
    contract = read_contract(kind)
    made = {name: one(outputs / name) for name, one in contract.outputs.items()}
    for one in made.values():
        one.path.mkdir(parents=True)
    asked = {BeamOptions: BeamOptions(), Scratch: Scratch(place / "scratch"), Lineage: Lineage()}
    steps = {"num_steps": 1}
    settings = {"module_file": str(place / "search.py"), "train_args": steps, "eval_args": steps}
    asks = {name: asked[ask] for name, ask in contract.asks.items()}
    build_component(kind, settings).run(examples=Examples(examples), **made, **asks)
    return made["best_hyperparameters"]


first = os.fork()  # from a process that has imported TFX, as a run's steps are
if not first:
    tune(place / "first")
    os._exit(0)
_, ended = os.waitpid(first, 0)
properties = tune(place / "second").properties
(place / "found.json").write_text(json.dumps([os.waitstatus_to_exitcode(ended), properties]))
"""


def test_a_killed_search_goes_on_with_the_trial_that_it_was_killed_in(tfx_testdata: Path, tmp_path: Path) -> None:
    (tmp_path / "search.py").write_text(SEARCH)
    (tmp_path / "scratch").mkdir()

    done = subprocess.run(
        [sys.executable, "-c", TWICE, str(tmp_path), str(tfx_testdata / "penguin/data")],
        env={**os.environ, "TRIED": str(tmp_path / "tried.txt")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    ended, properties = json.loads((tmp_path / "found.json").read_text())
    assert ended == -9
    assert (tmp_path / "tried.txt").read_text().split() == ["1/0.1", "1/0.2", "2/0.1", "2/0.1", "2/0.2"]
    assert properties == {"values": {"units": 2, "rate": 0.1}, "trials": 4, "score": 0.1}
