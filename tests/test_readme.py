"""The README's commands do what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"README.md has no section '{title}'"
    return found.group(1)


@pytest.mark.slow
def test_your_own_csv_word_for_word_ends_in_a_served_model(tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    blocks = re.findall(r"^```bash\n(.*?)^```$", section("Your own CSV"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 6

    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "flowers/pipeline.yaml: 8 steps, ready to run" in done.stdout
    assert "8 run" in done.stdout
    (version,) = (path for path in (tmp_path / "serving" / "flowers").iterdir() if path.name.isdigit())
    assert (version / "saved_model.pb").is_file()
    answers = re.search(r"key probabilities:\s*\[\[([\d.e-]+)\]\s*\[([\d.e-]+)\]\]", done.stdout)
    assert answers, done.stdout
    assert float(answers.group(1)) > 0.5 > float(answers.group(2))


def test_the_table_of_verbs_is_the_commands_own_list() -> None:
    listed = re.findall(r"^\| `([\w-]+)[^`]*` \|", section("The `pipeline` command"), re.MULTILINE)
    help_text = subprocess.run(
        [str(Path(sys.executable).parent / "pipeline"), "--help"], capture_output=True, text=True, check=True
    ).stdout
    offered = re.findall(r"^  ([\w-]+)  ", help_text.partition("Commands:")[2], re.MULTILINE)

    assert sorted(listed) == sorted(offered)


def test_the_table_of_steps_names_every_component_and_only_settings_that_exist() -> None:
    from pipeline.contract import read_contract
    from pipeline.loading import COMPONENTS
    from schemas.dotted_path import resolve

    rows = re.findall(r"^\| (`[A-Z]\w+`(?:, `\w+`)*) \|.*\|.*\| (.*) \|$", section("The steps"), re.MULTILINE)
    named = {name: settings for cell, settings in rows for name in re.findall(r"`(\w+)`", cell)}

    assert set(named) == set(COMPONENTS)
    for cell, settings in rows:
        kinds = [read_contract(resolve(COMPONENTS[name])).component for name in re.findall(r"`(\w+)`", cell)]
        known = {field for kind in kinds for field in kind.__dataclass_fields__}
        for setting in re.findall(r"`(\w+)(?:: [^`]*)?`", settings):
            assert setting in known | {"warn"}, f"{cell} has no setting {setting}"


def test_every_runner_and_argument_is_one_that_beam_knows() -> None:
    from apache_beam.options.pipeline_options import StandardOptions
    from ruamel.yaml import YAML

    from components.io.beam_options import parsed, unknown
    from schemas.component import BeamOptions
    from schemas.config import BeamConfig

    blocks = re.findall(r"^```yaml\n(.*?)^```$", section("Where the data steps run"), re.MULTILINE | re.DOTALL)
    configs = [BeamConfig.model_validate(YAML(typ="safe").load(block)["beam"]) for block in blocks]

    assert [config.runner for config in configs] == ["DirectRunner", "FlinkRunner", "PortableRunner", "DataflowRunner"]
    for config in configs:
        assert StandardOptions.KNOWN_RUNNER_NAMES.count(config.runner) == 1
        assert not unknown(parsed(BeamOptions(config.runner, tuple(config.args))))


def test_no_output_is_left_to_fill_in() -> None:
    assert not re.findall(r"@[A-Z0-9_]+@", README)
