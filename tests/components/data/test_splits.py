from __future__ import annotations

import bisect
import hashlib
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from components.data.splits import assign, in_order, problems

weights = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), st.integers(1, 50), min_size=1, max_size=5
)
keys = st.lists(st.binary(max_size=40), max_size=50)


@given(keys, weights)
def test_the_split_is_the_hash_modulo_the_weights_as_tfx_computes_it(
    keys: list[bytes], weights: dict[str, int]
) -> None:
    ends = [sum(list(weights.values())[: n + 1]) for n in range(len(weights))]

    expected = [bisect.bisect(ends, int(hashlib.sha256(key).hexdigest(), 16) % ends[-1]) for key in keys]

    assert assign(keys, weights) == expected


@given(keys, weights, st.randoms())
def test_a_keys_split_depends_neither_on_its_place_nor_on_the_others(keys, weights, random) -> None:
    alone = {key: assign([key], weights) for key in keys}
    random.shuffle(keys)

    assert [[split] for split in assign(keys, weights)] == [alone[key] for key in keys]


@given(keys, st.integers(1, 10**15))
def test_weights_of_any_size_are_taken(keys: list[bytes], weight: int) -> None:
    assert set(assign(keys, {"train": weight, "eval": weight})) <= {0, 1}


def test_weights_are_the_shares_of_the_splits() -> None:
    found = Counter(assign((str(n).encode() for n in range(30_000)), {"train": 7, "eval": 2, "test": 1}))

    assert [round(found[split] / 30_000, 2) for split in range(3)] == [0.7, 0.2, 0.1]


def test_scaled_weights_are_other_ranges_and_may_move_records() -> None:
    keys = [str(n).encode() for n in range(100)]

    assert assign(keys, {"train": 2, "eval": 1}) != assign(keys, {"train": 4, "eval": 2})


@given(weights, st.randoms())
def test_the_order_in_which_splits_are_written_down_means_nothing(weights: dict[str, int], random) -> None:
    names = list(weights)
    random.shuffle(names)

    assert list(in_order({name: weights[name] for name in names}).items()) == list(in_order(weights).items())


def test_train_and_eval_come_first_and_the_others_by_name() -> None:
    assert list(in_order({"a": 1, "test": 2, "eval": 3, "train": 4}).items()) == [
        ("train", 4),
        ("eval", 3),
        ("a", 1),
        ("test", 2),
    ]


def test_no_keys_have_no_splits() -> None:
    assert assign([], {"train": 1}) == []


def test_every_wrong_name_and_weight_is_told() -> None:
    found = problems({"train": 2, "a/b": 1, "eval": 0})

    assert len(found) == 2
    assert "'a/b'" in found[0]
    assert "'eval' is 0" in found[1]


def test_no_splits_at_all_is_a_problem() -> None:
    assert "no split" in problems({})[0]


def test_usual_splits_are_no_problem() -> None:
    assert problems({"train": 2, "eval": 1, "hold-out.2024": 1}) == []
