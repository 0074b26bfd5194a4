"""What keeps a definition from running on Kubeflow, each with its place, what was found, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli.check import check_pipeline
from pipeline.runners.kubeflow.checks import check_on_cluster
from schemas.errors import ConfigError

IMAGE = "  image: registry.example.com/toy:1\n"
VOLUMES = "  defaults: {volumes: [{claim: penstock, path: /mnt/penstock}]}\n"
PARAMETERS = "parameters: {most: 100,"


def errors(file: Path, *changes: tuple[str, str]) -> tuple[str, ...]:
    """What is wrong with the definition once it is changed."""
    text = file.read_text()
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    file.write_text(text)
    return check_on_cluster(str(file)).errors


def test_the_project_as_it_is_has_nothing_wrong(toy: Path) -> None:
    assert errors(toy) == ()


def test_a_definition_without_the_section_says_what_to_write(toy: Path) -> None:
    text = toy.read_text()
    start, end = text.index("kubeflow:"), text.index("steps:\n")
    toy.write_text(text[:start] + text[end:])

    with pytest.raises(ConfigError, match=r"pipeline.yaml: there is no section `kubeflow`.*image:"):
        check_on_cluster(str(toy))


def test_an_image_that_is_no_name_is_refused(toy: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"pipeline.yaml:6: kubeflow.image: 'my image' is not valid here: expected an image's name"
    ):
        errors(toy, ("registry.example.com/toy:1", "my image"))


def test_a_section_without_an_image_is_refused(toy: Path) -> None:
    with pytest.raises(ConfigError, match=r"pipeline.yaml:5: kubeflow.image: missing"):
        errors(toy, (IMAGE, ""))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param(
            [("judge: {uses", "count_: {uses")],
            "pipeline.yaml:12: steps.count_: its task would be called 'count', as that of 'count' is. Rename the step",
            id="names that become one",
        ),
        pytest.param(
            [("judge: {uses", "ended: {uses")],
            "pipeline.yaml:12: steps.ended: its task would be called 'ended', as that of the last task is. Rename the step",
            id="the last task's name",
        ),
        pytest.param(
            [("judge: {uses", "condition_2: {uses")],
            "pipeline.yaml:12: steps.condition_2: 'condition-2' is what KFP calls a group of tasks. Rename the step",
            id="a group's name",
        ),
        pytest.param(
            [("judge: {uses", "root: {uses")],
            "pipeline.yaml:12: steps.root: 'root' is what KFP calls a group of tasks. Rename the step",
            id="the name of all tasks together",
        ),
        pytest.param(
            [("judge: {uses", "count_driver: {uses")],
            "pipeline.yaml:12: steps.count_driver: 'count-driver' is what KFP calls a pod of its own, which prepares 'count'. "
            "Rename the step",
            id="a driver's name",
        ),
        pytest.param(
            [("announce: {uses: project_release.Announce}", "announce: {uses: project_release.Odd}")],
            "pipeline.yaml:18: steps.announce: 'summary' of Odd is what a task says of every step on Kubeflow (outcome, "
            "executions, blessed, summary, metrics, roc). Call it otherwise in its `run`",
            id="a port with an output's name",
        ),
        pytest.param(
            [(PARAMETERS, "parameters: {penstock_most: 1, most: 100,")],
            "pipeline.yaml:4: parameters.penstock_most: names that begin with penstock_ are Penstock's own on Kubeflow. "
            "Rename the parameter",
            id="a reserved parameter",
        ),
        pytest.param(
            [(PARAMETERS, "parameters: {train-steps: 1, most: 100,")],
            "pipeline.yaml:4: parameters.train-steps: KFP takes no parameter 'train-steps'. Rename it: letters, digits and "
            "underscores, beginning with a letter, and not with penstock_, and no word of Python's own",
            id="a parameter with a hyphen",
        ),
        pytest.param(
            [(PARAMETERS, "parameters: {class: 1, most: 100,")],
            "pipeline.yaml:4: parameters.class: KFP takes no parameter 'class'. Rename it: letters, digits and underscores, "
            "beginning with a letter, and not with penstock_, and no word of Python's own",
            id="a word of Python's",
        ),
        pytest.param(
            [(PARAMETERS, "parameters: {model: 1, most: 100,")],
            "pipeline.yaml:4: parameters.model: 'model' is also an artifact of 'fit', and a task of KFP has one of each name. "
            "Rename the parameter",
            id="a parameter with an artifact's name",
        ),
        pytest.param(
            [(PARAMETERS, "parameters: {note: null, most: 100,")],
            "pipeline.yaml:4: parameters.note: null has no type, and KFP wants one of 'note'. Give it a default of the type it is "
            "to have, here or in kubeflow.parameters",
            id="null",
        ),
        pytest.param(
            [(PARAMETERS, 'parameters: {note: "a\\nb", most: 100,')],
            "pipeline.yaml:4: parameters.note: 'a\\nb' has line breaks or other characters that do not print, which KFP's "
            "compiler cannot write as a default",
            id="several lines",
        ),
        pytest.param(
            [(PARAMETERS, "parameters: {note: '{{x}}', most: 100,")],
            "pipeline.yaml:4: parameters.note: '{{x}}' has '{{' in it, which KFP takes for the beginning of a placeholder. Write it "
            "otherwise",
            id="a placeholder",
        ),
        pytest.param(
            [(PARAMETERS, "parameters: {note: .inf, most: 100,")],
            "pipeline.yaml:4: parameters.note: inf is no number in JSON, in which KFP keeps parameters. Give a finite one",
            id="infinity",
        ),
        pytest.param(
            [(PARAMETERS, "parameters: {note: 9007199254740992, most: 100,")],
            "pipeline.yaml:4: parameters.note: 9007199254740992 is not below 2**53, up to which KFP keeps integers exactly. Give it "
            "as text",
            id="a large integer",
        ),
        pytest.param(
            [(", most: 50}", ", mots: 50}")],
            "pipeline.yaml:7: kubeflow.parameters.mots: the definition has no parameter 'mots'. Did you mean 'most'?",
            id="an unknown parameter",
        ),
        pytest.param(
            [(", most: 50}", ", most: many}")],
            "pipeline.yaml:7: kubeflow.parameters.most: 'many' is of type str, and the parameter 'most' is of type int",
            id="a parameter of another type",
        ),
        pytest.param(
            [(IMAGE, IMAGE + "  root: penstock\n")],
            "pipeline.yaml:7: kubeflow.root: penstock is relative, and pods share no working directory. Give the store's path on "
            "the volume, as /mnt/penstock/.penstock",
            id="a relative root",
        ),
        pytest.param(
            [(IMAGE, IMAGE + "  root: /data/penstock/store\n")],
            "pipeline.yaml:7: kubeflow.root: /data/penstock/store is on no volume that the pods mount, so what they make would be "
            "lost with them. Add one, as kubeflow.defaults.volumes: [{claim: penstock, path: /data/penstock}]",
            id="a root on no volume",
        ),
        pytest.param(
            [("{destination: /mnt/penstock/serving/toy, ", "{")],
            "pipeline.yaml:17: steps.push.with.destination: serving/toy is relative, and what a pod writes there is lost with "
            "it. Give a path on a mounted volume, or an address such as gs://bucket/models or s3://bucket/models; where the path "
            "is another one on this machine, make it a parameter and set kubeflow.parameters",
            id="a relative destination",
        ),
        pytest.param(
            [("/mnt/penstock/serving/toy", "/srv/toy")],
            "pipeline.yaml:17: steps.push.with.destination: /srv/toy is on no volume that the step's pod mounts (/mnt/penstock). "
            "Give a path on a mounted volume, or an address such as gs://bucket/models or s3://bucket/models; where the path "
            "is another one on this machine, make it a parameter and set kubeflow.parameters",
            id="a destination on no volume",
        ),
        pytest.param(
            [("source: configs/numbers.txt", "source: data/numbers.txt")],
            "pipeline.yaml:10: steps.read.with.source: data/numbers.txt is relative, and the image has no such file: below its "
            "working directory lie configs, schemas. Put the files on a mounted volume and give their path there, or in a package "
            "as pkg://package/path; where the path is another one on this machine, make it a parameter and set kubeflow.parameters",
            id="an input that the image lacks",
        ),
        pytest.param(
            [("source: configs/numbers.txt", "source: /home/me/numbers.txt")],
            "pipeline.yaml:10: steps.read.with.source: /home/me/numbers.txt lies on this machine, on no volume that the step's pod "
            "mounts (/mnt/penstock). Put the files on a mounted volume and give their path there, or in a package "
            "as pkg://package/path; where the path is another one on this machine, make it a parameter and set kubeflow.parameters",
            id="an input on this machine",
        ),
        pytest.param(
            [(VOLUMES, VOLUMES + "  steps: {fits: {cpu: 2}}\n")],
            "pipeline.yaml:9: kubeflow.steps.fits: there is no step 'fits'. Did you mean 'fit'?",
            id="resources of an unknown step",
        ),
        pytest.param(
            [(IMAGE, IMAGE + "  ledger: sqlite:////mnt/penstock/ledger.sqlite\n")],
            "pipeline.yaml:7: kubeflow.ledger: sqlite:////mnt/penstock/ledger.sqlite is a file, and pods on several hosts that write "
            "to one at once damage it. Give PostgreSQL's URL, or none: the store alone is enough, and a ledger can be rebuilt from it",
            id="an SQLite ledger",
        ),
        pytest.param(
            [("seed: 7\n", "seed: 7\nledger: sqlite:///ledger.sqlite\n")],
            "pipeline.yaml:4: ledger: sqlite:///ledger.sqlite is a file, and pods on several hosts that write to one at once damage "
            "it. Give PostgreSQL's URL, or none: the store alone is enough, and a ledger can be rebuilt from it, as kubeflow.ledger",
            id="the definition's own SQLite ledger",
        ),
        pytest.param(
            [(IMAGE, IMAGE + "  ledger: nome\n")],
            "pipeline.yaml:7: kubeflow.ledger: 'nome' is no URL. Give PostgreSQL's URL, or none: the store alone is enough, and a "
            "ledger can be rebuilt from it",
            id="a ledger that is no URL",
        ),
        pytest.param(
            [(IMAGE, IMAGE + "  notify: {}\n")],
            "pipeline.yaml:7: kubeflow.notify: says neither of webhook and secret. Give the address itself, or the secret and key "
            "that hold it",
            id="nobody to notify",
        ),
        pytest.param(
            [(IMAGE, IMAGE + "  exit_handler: false\n  notify: {webhook: https://chat.example.com/x}\n")],
            "pipeline.yaml:8: kubeflow.notify: it is the last task that notifies, and exit_handler: false leaves it out. Remove one "
            "of the two",
            id="nobody who notifies",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place_and_what_to_do(
    toy: Path, changes: list[tuple[str, str]], expected: str
) -> None:
    assert errors(toy, *changes) == (expected,)


def test_a_variable_that_is_called_as_a_secret_is_refused_and_not_repeated(toy: Path) -> None:
    (problem,) = errors(
        toy, (VOLUMES, VOLUMES[:-2] + ", env: {AWS_SECRET_ACCESS_KEY: hunter2, AWS_TOKEN: /etc/token}}\n")
    )

    assert "kubeflow.defaults.env.AWS_SECRET_ACCESS_KEY: has a password in it" in problem
    assert "hunter2" not in problem


def test_what_kubernetes_takes_for_no_label_is_refused(toy: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        errors(toy, (VOLUMES, VOLUMES[:-2] + ", labels: {'bad key!': x, team: 'b c'}}\n"))

    (key, value) = raised.value.problems
    assert "'bad key!' is not valid here: expected what Kubernetes takes for a label" in key
    assert "'b c' is not valid here: expected what Kubernetes takes for a label" in value


def test_a_destination_in_a_file_of_the_pods_own_is_refused(toy: Path) -> None:
    (problem,) = errors(toy, ("destination: /mnt/penstock/serving/toy", "destination: file:///serving/toy"))

    assert "steps.push.with.destination: file:///serving/toy" in problem


def test_a_password_in_the_ledgers_url_is_refused_and_not_repeated(toy: Path) -> None:
    (problem,) = errors(toy, (IMAGE, IMAGE + "  ledger: postgresql+psycopg://penstock:hunter2@db/penstock\n"))

    assert problem.startswith("pipeline.yaml:7: kubeflow.ledger: has a password in it")
    assert "PENSTOCK_LEDGER" in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        (IMAGE, IMAGE + "  ledger: postgresql://db/x?sslpassword=hunter2\n", "pipeline.yaml:7: kubeflow.ledger"),
        (IMAGE, IMAGE + "  ledger: penstock:hunter2@db/x\n", "pipeline.yaml:7: kubeflow.ledger"),
        (
            IMAGE,
            IMAGE + "  notify: {webhook: 'https://me:hunter2@chat/x'}\n",
            "pipeline.yaml:7: kubeflow.notify.webhook",
        ),
        (PARAMETERS, PARAMETERS + " db: 'mysql://me:hunter2@db/x',", "pipeline.yaml:4: parameters.db"),
    ],
    ids=["a certificate's", "of no URL", "a webhook's", "a parameter's"],
)
def test_a_password_that_would_be_in_the_package_is_refused_and_not_repeated(
    toy: Path, old: str, new: str, place: str
) -> None:
    (problem,) = errors(toy, (old, new))

    assert problem.startswith(f"{place}: ")
    assert "hunter2" not in problem


def test_a_step_that_is_given_the_model_that_serves_has_to_see_it(toy: Path) -> None:
    """Without it the step would compare with nothing, and a model that is worse would pass."""
    release = Path("project_release.py")
    given = "evaluation: Evaluation, baseline: Baseline, blessing"
    text = release.read_text().replace("evaluation: Evaluation, blessing", given)
    release.write_text(text.replace("import InputFiles, Out", "import Baseline, InputFiles, Out"))
    volume = "[{claim: models, path: /srv}]"
    elsewhere = ("/mnt/penstock/serving/toy", "/srv/toy")

    (problem,) = errors(toy, elsewhere, (IMAGE, f"{IMAGE}  steps: {{push: {{volumes: {volume}}}}}\n"))

    assert problem == (
        "pipeline.yaml:17: steps.bless: is given the model that is served from /srv/toy, which is on no volume that its pod mounts "
        "(/mnt/penstock), and would take it that none is served. Give it the volume that push has, as kubeflow.steps.bless.volumes"
    )
    assert errors(toy, ("steps: {push", f"steps: {{bless: {{volumes: {volume}}}, push")) == ()


def test_a_postgresql_ledger_without_a_password_is_taken(toy: Path) -> None:
    assert errors(toy, (IMAGE, IMAGE + "  ledger: postgresql+psycopg://penstock@db/penstock\n")) == ()


def test_a_parameter_without_a_default_may_have_one_on_the_cluster(toy: Path) -> None:
    changes = (PARAMETERS, "parameters: {note: null, most: 100,"), (", most: 50}", ", most: 50, note: x}")

    assert errors(toy, *changes) == ()


def test_input_files_on_a_mounted_volume_need_not_be_here(toy: Path) -> None:
    assert errors(toy, ("source: configs/numbers.txt", "source: /mnt/penstock/data/*.csv")) == ()


def test_input_files_in_the_image_are_looked_for_here(toy: Path) -> None:
    (problem,) = errors(toy, ("source: configs/numbers.txt", "source: configs/nubers.txt"))

    assert "steps.read.with.source: configs/nubers.txt: there is no such file. Did you mean 'numbers.txt'?" in problem


READ = (
    'read: {uses: project_steps.Read, with: {source: "${parameters.source}"}}',
    'read: {uses: ExampleGen, with: {source: "SPANS"}}',
)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("/mnt/penstock/data/{SPAN}/*.csv", None),
        ("/mnt/penstock/{YYYY}/{MM}/{DD}/v{VERSION}/*.csv", None),
        ("pkg://package_of_the_image/data/{SPAN}/*.csv", None),
        ("configs/data/{SPAN}/*.csv", None),
        ("configs/days/{SPAN}/*.csv", "configs/days/{SPAN}/*.csv: no file matches, so there is no span"),
        (
            "/srv/data/{SPAN}/*.csv",
            "/srv/data/{SPAN}/*.csv lies on this machine, on no volume that the step's pod mounts",
        ),
        ("data/{SPAN}/*.csv", "data/{SPAN}/*.csv is relative, and the image has no such file"),
        ("{SPAN}/data/*.csv", "{SPAN}/data/*.csv is relative, and the image has no such file"),
    ],
)
def test_spans_are_looked_for_where_the_pods_have_them(toy: Path, source: str, problem: str | None) -> None:
    (toy.parent / "configs/data/41").mkdir(parents=True)
    (toy.parent / "configs/data/41/a.csv").write_text("a,b\n1,2\n")

    found = errors(toy, (READ[0], READ[1].replace("SPANS", source)))

    assert (problem is None) == (not found)
    assert all("steps.read.with.source: " in one and str(problem) in one for one in found)


def test_a_window_on_a_mounted_volume_is_not_counted_here(toy: Path) -> None:
    source = '/mnt/penstock/data/{SPAN}/*.csv", window: 30, missing_spans: skip, last_span: "41'

    assert errors(toy, (READ[0], READ[1].replace("SPANS", source))) == ()


def test_a_window_in_the_image_has_to_be_there(toy: Path) -> None:
    (toy.parent / "configs/data/41").mkdir(parents=True)
    (toy.parent / "configs/data/41/a.csv").write_text("a,b\n1,2\n")

    (problem,) = errors(toy, (READ[0], READ[1].replace('"SPANS"', '"configs/data/{SPAN}/*.csv", window: 2')))

    assert "1 of the 2 spans up to 41 is not there: 40" in problem


def test_a_volume_that_one_step_lacks_is_missed_there(toy: Path) -> None:
    """A step's volumes are added to the defaults', so one that is mounted by single steps is not the others'."""
    volumes = "[{claim: penstock, path: /mnt/penstock}]"
    text = toy.read_text().replace(
        VOLUMES, f"  steps: {{push: {{volumes: {volumes}}}, read: {{volumes: {volumes}}}}}\n"
    )
    toy.write_text(text)

    (problem,) = check_on_cluster(str(toy)).errors

    assert "is on no volume that the pods of count, judge, apply, fit, evaluate, bless, announce mount" in problem


def test_all_mistakes_are_named_at_once(toy: Path) -> None:
    found = errors(
        toy,
        (PARAMETERS, "parameters: {penstock_x: 1, note: null, most: 100,"),
        ("{destination: /mnt/penstock/serving/toy, ", "{"),
        (IMAGE, IMAGE + "  ledger: sqlite://\n  root: here\n"),
        (VOLUMES, VOLUMES + "  steps: {fits: {cpu: 2}}\n"),
    )

    assert [problem.split(": ")[1] for problem in found] == [
        "kubeflow.steps.fits",
        "kubeflow.root",
        "steps.push.with.destination",
        "parameters.penstock_x",
        "parameters.note",
        "kubeflow.ledger",
    ]


def test_a_definition_outside_the_working_directory_is_refused(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = toy.absolute()
    (file.parent / "elsewhere").mkdir()
    monkeypatch.chdir(file.parent / "elsewhere")

    assert "lies outside the working directory" in check_on_cluster(str(file)).errors[0]


def test_an_absolute_path_below_the_working_directory_is_the_relative_one(toy: Path) -> None:
    checked = check_on_cluster(str(toy.absolute()))

    assert checked.errors == ()
    assert checked.definition.target == "pipeline.yaml"


def test_check_finds_the_same(toy: Path) -> None:
    (problem,) = errors(toy, ("{destination: /mnt/penstock/serving/toy, ", "{"))

    result = check_pipeline(str(toy))

    assert result.errors == (problem,)
    assert not result.ok
