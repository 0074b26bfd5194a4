"""What a listing of an object store says, without a store."""

from __future__ import annotations

from datetime import UTC, datetime

from components.io.objects import Entry
from components.release.object_versions import CLAIMS, MARKER, OWNER, PUSHING, Listing
from components.release.versions import MODEL


def listing(*names: str) -> Listing:
    return Listing({name: Entry(1, None, None) for name in names})


def test_the_children_are_what_a_server_sees() -> None:
    assert listing(f"5/{MODEL}", "5/variables/data", "README", "6/").children == {"5", "6", "README"}


def test_only_numbers_as_we_write_them_are_versions_in_their_order() -> None:
    assert listing("10/a", "9/a", "011/a", "v12/a", f"{CLAIMS}/13").versions == [9, 10]


def test_the_largest_version_with_a_model_is_served() -> None:
    assert listing(f"4/{MODEL}", f"5/{MODEL}", "6/variables/data", f"{PUSHING}1/version/{MODEL}").served == 5
    assert listing(f"5/assets/{MODEL}").served is None


def test_a_neighbour_whose_name_begins_alike_is_another_version() -> None:
    found = listing(f"1/{MODEL}", f"1/{MARKER}", f"10/{MODEL}")

    assert set(found.files(1)) == {MODEL, MARKER}
    assert (found.is_marked(1), found.is_marked(10)) == (True, False)


def test_a_folder_that_a_console_made_is_no_file() -> None:
    assert listing("5/", "5/assets/", f"5/{MODEL}").files(5).keys() == {MODEL}


def test_what_pushers_keep_beside_the_versions_is_told_apart() -> None:
    found = listing(f"{CLAIMS}/10", f"{CLAIMS}/9", f"{PUSHING}1/{OWNER}", f"{PUSHING}1/version/{MODEL}", f"9/{MODEL}")

    assert found.claims == [9, 10]
    assert found.pushes == [f"{PUSHING}1"]


def test_the_newest_object_tells_the_stores_time() -> None:
    old, new = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)

    assert Listing({"a": Entry(1, None, old), "b": Entry(1, None, new), "c": Entry(1, None, None)}).newest == new
    assert listing("a").newest is None
