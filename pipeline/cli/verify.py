"""`pipeline verify`: whether what is served is what was pushed, file by file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemas.dotted_path import resolve
from schemas.location import Location


@dataclass(frozen=True)
class VerifiedVersion:
    """One version. `files` were compared, None where there is no passport to compare with."""

    path: Location
    served: bool
    files: int | None
    differences: tuple[str, ...]

    @property
    def outcome(self) -> str:
        """`whole`, `differs` or `unknown`."""
        return "unknown" if self.files is None else "differs" if self.differences else "whole"


@dataclass(frozen=True)
class Verified:
    """What was checked, the newest version first."""

    versions: tuple[VerifiedVersion, ...]

    @property
    def outcome(self) -> str:
        """`differs` when one version does, `whole` when another one is, `unknown` when none has a passport."""
        found = {version.outcome for version in self.versions}
        return next((outcome for outcome in ("differs", "whole") if outcome in found), "unknown")

    @property
    def exit_code(self) -> int:
        """0 for whole, else 1."""
        return 0 if self.outcome == "whole" else 1

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "outcome": self.outcome,
            "versions": [
                {
                    "path": str(version.path),
                    "outcome": version.outcome,
                    "served": version.served,
                    "files": version.files,
                    "differences": list(version.differences),
                }
                for version in self.versions
            ],
        }

    def as_text(self) -> str:
        """One line per version, and one per file that is not as it was pushed."""
        lines = []
        for version in self.versions:
            said = {
                "whole": f"whole, files: {version.files}",
                "differs": "differs from what was pushed:",
                "unknown": "has no passport: another tool pushed it, and there is nothing to compare with",
            }[version.outcome]
            lines.append(f"{version.path}  {'served, ' if version.served else ''}{said}")
            lines += [f"  {difference}" for difference in version.differences]
        return "\n".join(lines)


def verify_versions(path: Location) -> Verified:
    """Read every file of a version, or of each version of a serving directory, and compare it with its passport's digest.

    The passport itself has no digest. Raises ConfigError when `path` is no such directory, ArtifactError when a passport
    cannot be read.
    """
    found = resolve("components.release.inspection.verify")(path)
    return Verified(
        tuple(
            VerifiedVersion(
                path if version.path == path.absolute() else path / version.path.name,
                version.served,
                len(version.passport.files) if version.passport is not None else None,
                version.differences,
            )
            for version in found
        )
    )
