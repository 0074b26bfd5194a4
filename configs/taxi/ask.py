"""Asks the newest pushed taxi model about three trips, in a process that knows nothing but the serving directory."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_DAY = {"trip_start_month": 5, "trip_start_day": 6, "trip_start_hour": 19}
_LONG = {"trip_miles": 8.1, "trip_seconds": 1320, "fare": 22.5}
_SHORT = {"trip_miles": 0.6, "trip_seconds": 240, "fare": 5.25}
TRIPS = (
    {"payment_type": "Credit Card", "company": "Flash Cab", **_LONG, **_DAY},
    {"payment_type": "Cash", "company": "Flash Cab", **_LONG, **_DAY},
    {"payment_type": "Credit Card", "company": "Taxi Affiliation Services", **_SHORT, **_DAY},
)
"""Neither a tip nor a place: the first is what is asked, the others may be missing."""


def newest_version(serving: Path) -> Path:
    """The version that a server would serve: the largest number."""
    versions = [path for path in serving.glob("*") if path.name.isdigit()]
    if not versions:
        sys.exit(f"{serving}: no version was pushed yet; `make demo` pushes one")
    return max(versions, key=lambda path: int(path.name))


def ask(version: Path, trips: Sequence[Mapping[str, object]]) -> list[float]:
    """The probability of a big tip for each trip. What a trip does not say is left out, as in a row with empty cells."""
    import tensorflow as tf

    def feature(value: object) -> tf.train.Feature:
        if isinstance(value, str):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
        if isinstance(value, float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        if isinstance(value, int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        raise TypeError(f"{value!r} is neither text nor a number")

    model = tf.saved_model.load(str(version))
    rows = [
        tf.train.Example(features=tf.train.Features(feature={name: feature(value) for name, value in trip.items()}))
        for trip in trips
    ]
    examples = tf.constant([row.SerializeToString() for row in rows])
    return [float(p) for p in model.signatures["serving_default"](examples=examples)["probabilities"][:, 0]]


def main() -> None:
    """`python -m configs.taxi.ask serving/taxi`."""
    version = newest_version(Path(sys.argv[1] if len(sys.argv) > 1 else "serving/taxi"))
    print(f"{version} on three trips, the probability of a tip above a fifth of the fare:")
    for trip, probability in zip(TRIPS, ask(version, TRIPS), strict=True):
        print(f"  {probability:.3f}  {', '.join(f'{n} {v}' for n, v in trip.items() if n not in _DAY)}")


if __name__ == "__main__":
    main()
