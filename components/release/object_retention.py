"""Object retention: what goes from an address in an object store, old versions and what killed pushes left, and how."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping
from datetime import timedelta

from components.io.objects import Entry, Objects
from components.release.digests import differences
from components.release.object_versions import CLAIMS, MARKER, OWNER, Listing
from components.release.retention import to_retire
from components.release.versions import MODEL
from schemas.errors import ArtifactError, StoreError
from schemas.owner import Owner
from schemas.passport import Passport

SILENCE = timedelta(hours=24)
"""A push of another machine's that wrote nothing for so long, by the store's clock, is taken for dead."""

LAST_REQUEST = timedelta(minutes=10)
"""A dead push's last request may still be carried out for so long: the copy of `saved_model.pb`, say."""


def retire(objects: Objects, keep: int | None, protected: Collection[int] = ()) -> list[int]:
    """Remove what killed pushes left, and all but the newest `keep` versions and the `protected` ones; gives those removed.

    Only versions that a push of ours finished count and go, and what is served now never goes. Of a version `saved_model.pb`
    goes first and the marker last. What cannot be removed stays, and stderr says so.
    """
    try:
        listing = _settle(objects, Listing(objects.listed()))
        if keep is None:
            return []
        ours = [version for version in listing.versions if listing.is_marked(version)]
        served = [] if listing.served is None else [listing.served]
        gone = to_retire(ours, keep, {*protected, *served})
        for version in gone:
            _remove(objects, listing, str(version), first=MODEL, last=MARKER)
        return gone
    except (ArtifactError, StoreError) as error:
        sys.stderr.write(f"Pusher: old versions could not be removed: {error}\n")
        return []


def remove_quietly(objects: Objects, name: str, first: str = "", last: str = "") -> None:
    """Remove every object below a name, as far as the store lets us; stderr says when it does not."""
    try:
        _remove(objects, Listing(objects.listed(name)), name, first, last)
    except StoreError as error:
        sys.stderr.write(f"Pusher: {objects.root}/{name} is left for a later push to remove: {error}\n")


def _settle(objects: Objects, listing: Listing) -> Listing:
    """Finish or remove what pushes left that are done, one way or the other; gives what is there then."""
    for push in listing.pushes:
        if _is_dead(objects, f"{push}/{OWNER}", listing.below(push), listing):
            _remove(objects, listing, push, last=OWNER)
    for version in listing.versions:
        if listing.is_marked(version) and not listing.has_model(version):  # its removal was cut short
            _remove(objects, listing, str(version), last=MARKER)
    for version in listing.claims:
        claim = f"{CLAIMS}/{version}"
        if not (listing.is_marked(version) and listing.has_model(version)):
            written = {"": listing.entries[claim]} | listing.below(str(version))
            over = _is_dead(objects, claim, written, listing)
            if not over or not _finish(objects, version, removable=_silence(written, listing) > LAST_REQUEST):
                continue
        if version != listing.claims[-1]:
            objects.remove(claim)
    return Listing(objects.listed())


def _finish(objects: Objects, version: int, removable: bool) -> bool:
    """Mark the version that a dead push claimed when it is whole; when it is not, remove it if it is `removable`.

    Gives whether that is done. What is not whole is left until no request can complete it any more: with its other files
    gone, a `saved_model.pb` that came late would be loaded without them.
    """
    listing = Listing(objects.listed(str(version)))
    if listing.has_model(version):
        content = objects.read(f"{version}/{Passport.FILE}")
        if content is None:
            return True  # another tool's, in a number that a push of ours had claimed
        passport = Passport.parse(content, f"{objects.root}/{version}/{Passport.FILE}")
        if not differences(digests_of(objects, listing, version), passport.files):
            objects.write(f"{version}/{MARKER}", f"{version}\n".encode())
            return True
    if removable:
        _remove(objects, listing, str(version), first=MODEL)
    return removable


def digests_of(objects: Objects, listing: Listing, version: int | str) -> dict[str, str]:
    """The sha256 of every file of a version but passport and marker, by relative path; every byte is read."""
    return {
        name: objects.sha256(f"{version}/{name}", entry.size)
        for name, entry in sorted(listing.files(version).items())
        if name not in (Passport.FILE, MARKER)
    }


def _is_dead(objects: Objects, owner: str, written: Mapping[str, Entry], listing: Listing) -> bool:
    """Whether a push is over: its process is gone from this machine, or it was silent for too long, wherever it runs."""
    try:
        process = Owner.from_json(json.loads(objects.read(owner) or b"{}"))
    except (ValueError, KeyError, TypeError):
        process = None  # its removal was cut short
    # Machines that share a bucket may share a name, so that only the kernel's own proof counts.
    if process is not None and process.same_kernel and process.is_dead():
        return True
    return _silence(written, listing) > SILENCE


def _silence(written: Mapping[str, Entry], listing: Listing) -> timedelta:
    """For how long none of these was written, by the store's clock; none where that is not known."""
    last = max((entry.modified for entry in written.values() if entry.modified), default=None)
    return timedelta() if last is None or listing.newest is None else listing.newest - last


def _remove(objects: Objects, listing: Listing, name: str, first: str = "", last: str = "") -> None:
    """Remove the objects below a name one by one, `first` before the others and `last` after them."""
    for rest in sorted(filter(None, listing.below(name)), key=lambda rest: (rest == last, rest != first, rest)):
        objects.remove(f"{name}/{rest}")
