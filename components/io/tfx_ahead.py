"""What has to be arranged before anything imports tfx: KerasTuner with tf_keras, and no Google Cloud libraries that nothing asks for."""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from components.io.keras import arrange

EXTENSIONS = "tfx.v1.extensions"
"""TFX's components for Google's AI Platform and BigQuery, whose client libraries are a quarter of what `import tfx.v1` takes."""


def prepare() -> None:
    """From now on, whoever imports tfx first gets a KerasTuner that works with tf_keras, and `tfx.v1.extensions` whose modules are imported when
    they are asked for.

    Nothing is imported here; calling it again changes nothing.
    """
    arrange()
    if not any(isinstance(finder, _ExtensionsFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _ExtensionsFinder())


@contextlib.contextmanager
def prepared() -> Iterator[None]:
    """The same for what is imported inside, in a process that is the user's own."""
    before = tuple(sys.meta_path)
    prepare()
    ours = [finder for finder in sys.meta_path if finder not in before]
    try:
        yield
    finally:
        for finder in ours:
            with contextlib.suppress(ValueError):  # whoever took it out has what we want
                sys.meta_path.remove(finder)


class _ExtensionsFinder(importlib.abc.MetaPathFinder):
    """Finds `tfx.v1.extensions` where it is, and hands it to a loader that leaves its modules for later."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != EXTENSIONS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _OnDemand(spec.loader)
        return spec


class _OnDemand(importlib.abc.Loader):
    """Makes a package whose modules are its attributes, each imported when it is first asked for.

    Not importlib's LazyLoader: whatever looks through sys.modules, as pickle and inspect do, would have its modules loaded.
    """

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self.loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        names = [found.name for found in pkgutil.iter_modules(module.__path__)]

        def get(name: str) -> ModuleType:
            if name not in names:
                raise AttributeError(f"module '{module.__name__}' has no attribute '{name}'")
            return importlib.import_module(f"{module.__name__}.{name}")

        module.__dict__.update(__all__=names, __getattr__=get, __dir__=lambda: [*module.__dict__, *names])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)  # get_source, get_data, ...: tracebacks and importlib.resources ask for them
