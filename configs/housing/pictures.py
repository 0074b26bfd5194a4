"""Examples, Model -> Pictures: what the preparation does to the columns, how training went, and what the model gets wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from configs.housing.features import EVEN, FLAG, LABEL, SKEWED, transformed
from schemas.artifact import Artifact
from schemas.artifacts import Examples, Model
from schemas.component import Out
from schemas.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Values = dict[str, np.ndarray[Any, np.dtype[Any]]]  # a column's values by its name, each [rows]

UNITS = {
    "CRIM": "crime rate of the town",
    "ZN": "land for large lots (%)",
    "INDUS": "business acres (%)",
    "CHAS": "by the Charles River",
    "NOX": "nitric oxides (parts per 10 M)",
    "RM": "rooms per home",
    "AGE": "homes from before 1940 (%)",
    "DIS": "distance to employment",
    "RAD": "access to highways (index)",
    "TAX": "property tax ($ per $10,000)",
    "PTRATIO": "pupils per teacher",
    "LSTAT": "lower status (% of residents)",
    "MEDV": "median price of a home ($1000)",
}
COLUMNS = (*SKEWED, *EVEN, FLAG)
RAW, READY, RIVER = "#4c72b0", "#dd8452", "#55a868"


@dataclass(frozen=True)
class Pictures(Artifact):
    """
    ```
    preparation.png     every column of the train split, as it is and as the model sees it
    correlation.png     how these columns go together, before and after
    training.png        errors on both splits, epoch by epoch; absent for a model without learning curves
    result.png          predictions and errors on the eval split
    ```
    """

    TYPE_NAME: ClassVar[str] = "Pictures"

    def describe(self) -> str:
        return ", ".join(sorted(file.stem for file in self.path.glob("*.png")))


@dataclass(frozen=True, kw_only=True)
class DrawPictures:
    """Examples, Model -> Pictures: what the preparation does to the columns, how training went, and what the model gets wrong.

    The model is asked through the signatures that are served, on the raw examples, which are held in memory. Equal inputs
    give equal files.
    """

    dots_per_inch: int = 100

    def __post_init__(self) -> None:
        if self.dots_per_inch < 1:
            raise ConfigError(f"dots_per_inch: {self.dots_per_inch} is not at least 1")

    def run(self, examples: Examples, model: Model, pictures: Out[Pictures]) -> None:
        """Write the pictures."""
        import matplotlib as mpl

        train, evaluation = (_Split.read(examples, split, model) for split in ("train", "eval"))
        with mpl.rc_context():
            mpl.rcdefaults()  # whatever the machine's own settings are
            mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
            mpl.rcParams["text.parse_math"] = False  # a dollar is a dollar
            figures = {
                "preparation": _preparation(train),
                "correlation": _correlation(train),
                "result": _result(evaluation),
            }
            if model.curves.is_file():
                figures["training"] = _training(model.curves)
            for name, figure in figures.items():
                # Without the version of Matplotlib, which would be written into the file.
                figure.savefig(pictures.path / f"{name}.png", dpi=self.dots_per_inch, metadata={"Software": None})


@dataclass(frozen=True)
class _Split:
    """One split: its columns as they are and as the model sees them, and what the model says."""

    raw: Values
    ready: Values
    predicted: np.ndarray[Any, np.dtype[Any]]  # [rows], 1000 dollars

    @classmethod
    def read(cls, examples: Examples, split: str, model: Model) -> _Split:
        import tensorflow as tf

        from components.io import saved_model, tf_example, tfrecord

        records = [record for file in examples.files(split) for record in tfrecord.read(file)]
        columns = tf_example.decode(records)
        signatures = saved_model.load(model.serving).signatures
        given = signatures["transform_features"](examples=tf.constant(records))
        (predicted,) = signatures["serving_default"](examples=tf.constant(records)).values()
        return cls(
            {name: columns.column(name).flatten().to_numpy(zero_copy_only=False) for name in (*COLUMNS, LABEL)},
            {name: given[transformed(name)].numpy()[:, 0] for name in COLUMNS} | {LABEL: given[LABEL].numpy()[:, 0]},
            predicted.numpy()[:, 0],
        )


def _figure(title: str, width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontsize=13)
    return figure


def _preparation(split: _Split) -> Figure:
    rows = len(split.predicted)
    figure = _figure(
        f"Boston housing, train split ({rows} tracts): each column as it is, and as the model sees it", 14, 13
    )
    across = 4
    bands = figure.subfigures(len(COLUMNS) // across, 1)
    for at, name in enumerate(COLUMNS):
        if at % across == 0:
            axes = bands[at // across].subplots(2, across)
        before, after = axes[:, at % across]
        before.hist(split.raw[name], bins=30, color=RAW)
        before.set(title=name, xlabel=UNITS[name])
        after.hist(split.ready[name], bins=30, color=READY)
        if name == FLAG:
            before.set_xticks([0, 1])
            after.set_xticks([0, 1])
        how = (
            "0 or 1, as it is"
            if name == FLAG
            else f"z-score of log({SKEWED[name]:g} + {name})"
            if name in SKEWED
            else "z-score"
        )
        after.set(xlabel=how)
        if at % across == 0:
            before.set_ylabel("tracts")
            after.set_ylabel("tracts")
    return figure


def _correlation(split: _Split) -> Figure:
    import numpy as np

    figure = _figure(f"Boston housing, train split ({len(split.predicted)} tracts): correlation (Pearson's r)", 15, 7.5)
    names = (*COLUMNS, LABEL)
    sides: list[Axes] = list(figure.subplots(1, 2))
    for axes, values, title in zip(
        sides, (split.raw, split.ready), ("columns as they are", "as the model sees them"), strict=True
    ):
        found = np.corrcoef([values[name] for name in names])
        image = axes.imshow(found, cmap="RdBu_r", vmin=-1, vmax=1)
        axes.set_title(title)
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
        axes.set_yticks(range(len(names)), names)
        for row, column in np.ndindex(found.shape):
            value = found[row, column]
            shade = "white" if abs(value) > 0.6 else "black"
            axes.text(column, row, f"{value:.1f}".replace("-0.0", "0.0"), ha="center", va="center", color=shade, size=8)
    figure.colorbar(image, ax=sides, shrink=0.7)
    return figure


def _training(curves: Path) -> Figure:
    import csv

    from matplotlib.ticker import LogLocator, MaxNLocator

    with curves.open(encoding="utf-8", newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    epochs = [row["epoch"] for row in rows]
    figure = _figure("Boston housing: training, epoch by epoch", 13, 4.5)
    for axes, metric, title, unit in zip(
        figure.subplots(1, 2),
        ("mse", "mae"),
        ("Mean squared error, which is minimised", "Mean absolute error"),
        ("million $ squared, logarithmic scale", "$1000, logarithmic scale"),
        strict=True,
    ):
        axes.plot(epochs, [row[metric] for row in rows], color=RAW, label="train, while it was trained on")
        axes.plot(epochs, [row[f"val_{metric}"] for row in rows], color=READY, label="eval")
        axes.set(title=title, xlabel="epoch", ylabel=unit, yscale="log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5, 7)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.grid(visible=True, which="both", color="0.9")
        axes.legend(frameon=False)
    return figure


def _result(split: _Split) -> Figure:
    import numpy as np

    true, predicted = split.raw[LABEL], split.predicted
    errors = predicted - true
    figure = _figure(
        f"Boston housing, eval split ({len(true)} tracts): mean absolute error ${1000 * np.abs(errors).mean():,.0f}, "
        f"root mean squared error ${1000 * np.sqrt((errors**2).mean()):,.0f}",
        15,
        5,
    )
    against, left, often = figure.subplots(1, 3)
    river = split.raw[FLAG] == 1
    for which, color, label in ((~river, RAW, "elsewhere"), (river, RIVER, "by the Charles River")):
        against.scatter(true[which], predicted[which], s=16, color=color, alpha=0.8, label=label)
        left.scatter(predicted[which], errors[which], s=16, color=color, alpha=0.8, label=label)
    ends = [0, max(true.max(), predicted.max()) * 1.05]
    against.plot(ends, ends, color="grey", linewidth=1, label="no error")
    against.set(
        title="Predicted against true",
        xlabel="true price ($1000); 50 means 50 or more",
        ylabel="predicted price ($1000)",
    )
    against.set(xlim=ends, ylim=ends, aspect="equal")
    against.legend(loc="upper left", frameon=False)
    left.axhline(0, color="grey", linewidth=1)
    left.set(
        title="Errors by what was predicted", xlabel="predicted price ($1000)", ylabel="predicted less true ($1000)"
    )
    often.hist(errors, bins=30, color=RAW)
    often.axvline(0, color="grey", linewidth=1)
    often.set(title="How often which error", xlabel="predicted less true ($1000)", ylabel="tracts")
    return figure
