"""What a step's key is made of: code by syntax tree, settings, library versions, and digests of input content."""

from __future__ import annotations

import ast
import csv
import functools
import hashlib
import importlib.machinery
import importlib.metadata
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.differences import changed_values, short
from pipeline.graph import canonical_json
from schemas.errors import ConfigError
from schemas.spans import shown as shown_spans

OURS = ("components", "schemas")
LIBRARIES = {
    "tfx": (
        "apache_beam",
        "tensorflow",
        "tensorflow_data_validation",
        "tensorflow_model_analysis",
        "tensorflow_transform",
        "tf_keras",
        "tfx_bsl",
    )
}
"""Packages that steps may come from although they are no project: their version says what they do, with those of what they run on."""


@dataclass(frozen=True)
class ModuleFingerprint:
    """One module: its file, and a digest of each top-level definition and of the rest.

    Comments, blank lines, formatting and docstrings do not count; everything else does.
    """

    file: str
    definitions: Mapping[str, str]

    @property
    def digest(self) -> str:
        return _sha256(canonical_json(dict(self.definitions)))

    def as_json(self) -> dict[str, Any]:
        """What a manifest keeps of a module."""
        return {"file": self.file, "digest": self.digest, "definitions": dict(self.definitions)}


@dataclass(frozen=True)
class Closure:
    """A module and everything it imports, as far as that is the user's (or ours); below that, the libraries."""

    modules: Mapping[str, ModuleFingerprint]
    libraries: Mapping[str, str]  # distribution: version

    def as_json(self) -> dict[str, Any]:
        """What a manifest keeps, so that a later plan can name what changed."""
        return {name: module.as_json() for name, module in sorted(self.modules.items())}


def code_closure(
    dotted: Iterable[str], loaded: Mapping[str, str] | None = None, awaited: Iterable[str] = ()
) -> Closure:
    """Every module that the objects at these dotted paths import, directly or not, read without running any of it.

    Followed are modules outside the standard library and the installed packages, Penstock's own, and those that share
    their top-level package with a path in `dotted` (an installed project's). Imports inside functions count. A module that
    imports by a computed name takes its whole package along: when in doubt, rerun.

    A path that ends with `.py` is a file, known by its file name; modules that lie beside it can be imported too, after all others.

    `loaded` has the digests of modules that are in memory already: one whose file is another now is left out, with what
    only that file imports. `awaited` are modules that count where they are there, since one in memory may import them.

    Raises ConfigError for a module that does not exist or is not valid Python.
    """
    paths = list(dotted)
    loaded = loaded or {}
    files = [Path(path) for path in paths if is_file(path)]
    beside = tuple(str(file.resolve().parent) for file in files)
    roots = [path.replace(":", ".").rpartition(".")[0] for path in paths if not is_file(path)]
    own = {root.partition(".")[0] for root in roots} - set(LIBRARIES) | set(OURS)
    modules: dict[str, ModuleFingerprint] = {}
    outside = {library for root in roots for library in LIBRARIES.get(root.partition(".")[0], ())}
    waiting = [*roots, *awaited]
    for given in dict.fromkeys(files):
        if not given.is_file():
            raise ConfigError(f"{given}: there is no such file, and its functions are asked for")
        # By file name, which no module has: one of the module's name may be imported as well, from elsewhere.
        name = given.name if given.name not in modules else f"{len(modules)}/{given.name}"
        if name in loaded and not _is_still(given.resolve(), "", loaded[name]):
            continue
        modules[name] = fingerprint_module(given.resolve(), "")
        waiting.extend(_imports(given, ""))
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names:
            continue
        if top not in own and (package := find_module(top, beside)) is not None and is_installed(package):
            outside.add(top)
            continue
        file = find_module(name, beside)
        if file is None:
            if name in roots:
                raise ConfigError(
                    f"'{name}' does not import: there is no such module in {Path.cwd()} or among the installed packages"
                )
            outside.add(top)  # an attribute, an optional import, or a package that is not installed
            continue
        parent = name.rpartition(".")[0]
        if parent:
            waiting.append(parent)  # importing a module runs its packages' __init__ first
        if file.suffix != ".py":
            continue  # a namespace package has no code
        if name in loaded and not _is_still(file, name, loaded[name]):
            continue
        modules[name] = fingerprint_module(file, name)
        waiting.extend(_imports(file, name))
    return Closure(modules=modules, libraries=_versions(outside))


def _is_still(file: Path, module: str, digest: str) -> bool:
    try:
        return fingerprint_module(file, module).digest == digest
    except ConfigError:  # it is being edited
        return False


@functools.cache
def _parse(file: Path, mtime_ns: int) -> ast.Module:
    """The syntax tree without docstrings and without what stands under `if TYPE_CHECKING:`, which never runs."""
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except SyntaxError as error:
        raise ConfigError(f"{shown(file)}:{error.lineno or 1}: not valid Python: {error.msg}") from error
    except ValueError as error:  # null bytes
        raise ConfigError(f"{shown(file)}: not valid Python: {error}") from error
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if node.body and _is_docstring(node.body[0]):
                del node.body[0]
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            node.body = [ast.Pass()]
    return tree


def fingerprint_module(file: Path, module: str) -> ModuleFingerprint:
    """The digests of the definitions in one module's file. Raises ConfigError when it is not valid Python."""
    digests = _digests(file, file.stat().st_mtime_ns)
    if module.partition(".")[0] in OURS:  # wherever Penstock is installed
        inside = Path(*module.split("."))
        return ModuleFingerprint(
            str(inside / file.name if file.name == "__init__.py" else inside.with_suffix(".py")), digests
        )
    return ModuleFingerprint(shown(file), digests)


@functools.cache  # the steps of a pipeline reach many modules in common
def _digests(file: Path, mtime_ns: int) -> Mapping[str, str]:
    layout: list[str] = []
    definitions: dict[str, list[str]] = {}
    for node in _parse(file, mtime_ns).body:
        dumped = ast.dump(node)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            definitions.setdefault(node.name, []).append(dumped)
            layout.append(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and (name := _assigned_name(node)):
            definitions.setdefault(name, []).append(dumped)
            layout.append(name)
        else:
            layout.append(dumped)
    digests = {name: _sha256("\n".join(dumps)) for name, dumps in definitions.items()}
    # What else there is, and in which order it stands among the definitions: a statement may use or change them.
    digests["<module>"] = _sha256("\n".join(layout))
    return digests


def _assigned_name(node: ast.Assign | ast.AnnAssign) -> str | None:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return targets[0].id if len(targets) == 1 and isinstance(targets[0], ast.Name) else None


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imports(file: Path, module: str) -> Iterator[str]:
    """Names of the modules that a module may import; a name may turn out to be an attribute."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in _importing(file, file.stat().st_mtime_ns):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                kept = parents[: len(parents) - node.level + 1]
                base = ".".join([*kept, base] if base else kept)
            if base:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")
        else:
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                name = first.value
                yield f"{package}{name}" if name.startswith(".") and package else name.lstrip(".")
            elif module.partition(".")[0] not in OURS:
                yield from _whole_package(file.parent, package)


@functools.cache  # see _digests
def _importing(file: Path, mtime_ns: int) -> tuple[ast.Import | ast.ImportFrom | ast.Call, ...]:
    """What imports in a module, functions and all: statements, and calls of what imports by name."""
    return tuple(
        node
        for node in ast.walk(_parse(file, mtime_ns))
        if isinstance(node, ast.Import | ast.ImportFrom)
        or (isinstance(node, ast.Call) and _called_name(node) in ("import_module", "__import__"))
    )


def _called_name(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _whole_package(directory: Path, package: str) -> Iterator[str]:
    for other in sorted(directory.rglob("*.py")):
        parts = other.relative_to(directory).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if all(part.isidentifier() for part in parts):
            yield ".".join([*([package] if package else []), *parts])


def is_file(path: str) -> bool:
    """Whether what names a user's code is the path of a Python file, not a dotted path."""
    return path.endswith(".py")


def is_ours(module: str) -> bool:
    """Whether a module of a closure is Penstock's own. A user's file is not, whatever it is called."""
    return not is_file(module) and module.partition(".")[0] in OURS


def find_module(name: str, beside: Sequence[str] = ()) -> Path | None:
    """The file of a module (a directory for a namespace package), found without importing its parents; None if absent.

    It is looked for on sys.path, then in the directories `beside`.
    """
    path: list[str] | None = [*sys.path, *beside] if beside else None
    found: Path | None = None
    for depth in range(1, name.count(".") + 2):
        partial = ".".join(name.split(".")[:depth])
        try:
            spec = importlib.machinery.PathFinder.find_spec(partial, path)
        except (ImportError, ValueError):
            return None
        except KeyError:  # a namespace package below a package that is not imported, which the finder would have to be
            directories = [Path(place) / partial.rpartition(".")[2] for place in path or []]
            path = [str(directory) for directory in directories if directory.is_dir()]
            found = Path(path[0]) if path else None
            continue
        if spec is None:
            return None
        path = list(spec.submodule_search_locations) if spec.submodule_search_locations is not None else []
        if spec.origin:
            found = Path(spec.origin)
        elif path:
            found = Path(path[0])
    return found


def is_installed(file: Path) -> bool:
    """Whether a file is the standard library's or an installed package's."""
    return any(file.is_relative_to(base) for base in _installed_bases())


@functools.cache
def _installed_bases() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    return tuple({Path(paths[kind]) for kind in ("purelib", "platlib", "stdlib", "platstdlib")})


@functools.cache
def distributions_by_package() -> Mapping[str, list[importlib.metadata.Distribution]]:
    """The installed distributions that provide each top-level package: importlib.metadata.packages_distributions.

    That one parses the METADATA of all of them, and makes a path of every installed file, which took longer than everything else that a
    small step's process does.
    """
    found: dict[str, list[importlib.metadata.Distribution]] = {}
    for distribution in importlib.metadata.distributions():
        for package in (distribution.read_text("top_level.txt") or "").split() or _packages_of(distribution):
            found.setdefault(package, []).append(distribution)
    return found


def _packages_of(distribution: importlib.metadata.Distribution) -> set[str]:
    """The top-level packages and modules among a distribution's files."""
    record = distribution.read_text("RECORD")
    files = (
        [str(file) for file in distribution.files or ()]
        if record is None
        else [row[0] for row in csv.reader(record.splitlines()) if row]
    )
    return {file.partition("/")[0].removesuffix(".py") for file in files if file.endswith(".py")}


_version = functools.cache(importlib.metadata.version)


def _versions(tops: Iterable[str]) -> dict[str, str]:
    """Versions of the distributions that provide these top-level packages."""
    found: dict[str, str] = {}
    for top in tops:
        # `google` is shared by dozens of distributions; the one that steps read and write with is protobuf.
        provide = distributions_by_package().get(top, ())
        names = ["protobuf"] if top == "google" else [distribution.metadata["Name"] for distribution in provide]
        found.update({name.lower(): _version(name) for name in names})
    return dict(sorted(found.items()))


def shown(file: Path) -> str:
    """The path as a person would write it: relative to the working directory where it is below it."""
    return str(file.relative_to(Path.cwd())) if file.is_relative_to(Path.cwd()) else str(file)


def file_digest(file: Path) -> str:
    """sha256 of a file's content, read in pieces: 'sha256:<hex>'."""
    with file.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


def key_of(parts: Mapping[str, Any]) -> str:
    """The key of a step from its parts (see `pipeline.plan.key_parts`): sha256 in hex, 64 characters.

    Modules count by digest alone, so that where a file lies does not matter.
    """
    counted = {name: value for name, value in parts.items() if name not in ("code", "user_code", "files")}
    for kind in ("code", "user_code"):
        counted[kind] = {name: module["digest"] for name, module in parts.get(kind, {}).items()}
    if parts.get("baseline"):
        counted["baseline"] = parts["baseline"]["digest"]  # the same model under another number is the same baseline
    counted["files"] = {
        setting: [[_file_name(file), file["digest"], *([file["span"]] if "span" in file else [])] for file in files]
        for setting, files in parts.get("files", {}).items()
    }
    return hashlib.sha256(canonical_json(counted).encode()).hexdigest()


def what_changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """Why two sets of key parts give different keys, one phrase for each difference: 'features.py: fill_missing changed'."""
    reasons: list[str] = []
    for kind in ("user_code", "code"):
        reasons += _changed_modules(old.get(kind, {}), new.get(kind, {}))
    reasons += changed_values(old.get("settings", {}), new.get("settings", {}))
    reasons += _changed_files(old.get("files", {}), new.get("files", {}))
    inputs_before, inputs_now = old.get("inputs", {}), new.get("inputs", {})
    for port in sorted(set(inputs_before) | set(inputs_now)):
        if inputs_before.get(port) != inputs_now.get(port):
            verb = "is new" if port not in inputs_before else "is gone" if port not in inputs_now else "changed"
            reasons.append(f"input {port} {verb}")
    said_before, said_now = old.get("properties", {}), new.get("properties", {})
    for port in sorted(inputs_before.keys() & inputs_now.keys()):
        properties = changed_values(said_before.get(port, {}), said_now.get(port, {}))
        reasons += [f"input {port}: {change}" for change in properties]
    reasons += changed_values(old.get("libraries", {}), new.get("libraries", {}))
    if (old.get("baseline") or {}).get("digest") != (new.get("baseline") or {}).get("digest"):
        before, now = ((parts.get("baseline") or {}).get("version") for parts in (old, new))
        reasons.append(
            f"the baseline is {f'version {now}' if now else 'none'}, was {f'version {before}' if before else 'none'}"
        )
    reasons += _changed_earlier(old.get("earlier") or {}, new.get("earlier") or {})
    anyway = new.get("anyway")
    if old.get("anyway") != anyway:
        reasons.append(f"blessed anyway by {anyway['by']}" if anyway else "no longer blessed anyway")
    for name in ("component", "seed", "python"):
        if old.get(name) != new.get(name):
            reasons.append(f"{name} {short(old.get(name))} -> {short(new.get(name))}")
    return tuple(reasons)


def _changed_earlier(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Why a step is given another artifact of earlier runs, or looks for one anew."""
    before, now = ((one.get("step"), one.get("key"), one.get("output")) for one in (old, new))
    if before != now:
        return [f"the newest is that of run {new['run']}" if new.get("run") else "there is none any more"]
    return ["what the run is made of changed"] if old.get("of") != new.get("of") else []


def _changed_modules(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    reasons = []
    for module in sorted(set(old) | set(new)):
        before, now = old.get(module), new.get(module)
        if before is None or now is None:
            present = now or before
            verb = "is newly imported" if before is None else "is no longer imported"
            reasons.append(f"{present['file']} {verb}")  # type: ignore[index]
        elif before["digest"] != now["digest"]:
            names = sorted(
                name
                for name in set(before["definitions"]) | set(now["definitions"])
                if before["definitions"].get(name) != now["definitions"].get(name)
            )
            # A new or removed name also changes the module's own digest; the name says it better.
            named = [name for name in names if name != "<module>"] or ["the module's statements"]
            reasons.append(f"{now['file']}: {', '.join(named)} changed")
    return reasons


def _file_name(file: Mapping[str, Any]) -> str:
    """What a key knows an input file by: its name, wherever it lies, unless the step says that directories matter."""
    name: str = file.get("name") or Path(file["path"]).name
    return name


def _changed_files(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    reasons = []
    for setting in sorted(set(old) | set(new)):
        before, now = old.get(setting, []), new.get(setting, [])
        spans_before, spans_now = _by_span(before), _by_span(now)
        if before and now and (None in spans_before) != (None in spans_now):
            reasons.append(f"{setting} has {'no spans' if None in spans_now else 'spans'} now")
        elif None in spans_before or None in spans_now:
            reasons += _differing_files(before, now) or _other_places(setting, before, now)
        else:
            reasons += _changed_spans(setting, spans_before, spans_now)
    return reasons


def _by_span(files: Iterable[Mapping[str, Any]]) -> dict[int | None, list[Mapping[str, Any]]]:
    found: dict[int | None, list[Mapping[str, Any]]] = {}
    for file in files:
        found.setdefault(file.get("span"), []).append(file)
    return found


def _changed_spans(setting: str, old: Mapping[Any, Any], new: Mapping[Any, Any]) -> list[str]:
    """'span 8 is new', 'span 7 has version 2 now', 'span 6: b.csv changed', 'spans 1 to 3 left the window'."""

    def told(numbers: Iterable[int], spans: Mapping[Any, Any], one: str, several: str) -> list[str]:
        found = sorted(numbers)
        labels = shown_spans([spans[number][0].get("label") or str(number) for number in found], found)
        return [f"span {labels} {one}" if len(found) == 1 else f"spans {labels} {several}"] if found else []

    entered, left = new.keys() - old.keys(), old.keys() - new.keys()
    earlier = {number for number in entered if old and number < min(old)}
    gone = {number for number in left if new and min(new) < number < max(new)}
    reasons = told(entered - earlier, new, "is new", "are new")
    reasons += told(earlier, new, "is in the window now", "are in the window now")
    for number in sorted(new.keys() & old.keys()):
        before, now = old[number], new[number]
        changes = _differing_files(before, now) or _other_places(setting, before, now)
        if changes and now[0].get("version") != before[0].get("version"):
            changes = [f"span {now[0].get('label') or number} has version {now[0].get('version')} now"]
        elif changes:
            changes = [f"span {now[0].get('label') or number}: {', '.join(changes)}"]
        reasons += changes
    reasons += told(gone, old, "is gone", "are gone")
    return reasons + told(left - gone, old, "left the window", "left the window")


def _differing_files(old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]) -> list[str]:
    before, now = ({_file_name(file): file["digest"] for file in files} for files in (old, new))
    return [
        f"{name} {'is new' if name not in before else 'is gone' if name not in now else 'changed'}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]


def _other_places(setting: str, old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]) -> list[str]:
    """What can be said of files of one name in several directories."""
    before, now = ([(_file_name(file), file["digest"]) for file in files] for files in (old, new))
    return [f"the files of {setting} changed"] if before != now else []


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
