"""Modules that have moved are still found in their former places, with a warning.

Programs of users import them by name. The former names stay for one release.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

PLACES = {
    'evaluation.bop': 'datasets.bop',
    'ros.bag': 'testbench.bag',
}


class _Alias(Loader):
    """Puts a module under its former name."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        package, _, former = module.__name__.partition('.')
        present = f'{package}.{PLACES[former]}'
        warnings.warn(f'{module.__name__} is {present} now; the former name goes with the next '
                      'release', DeprecationWarning, stacklevel=2)
        sys.modules[module.__name__] = importlib.import_module(present)


class _Finder(MetaPathFinder):
    """Knows the former places."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        package, _, former = fullname.partition('.')
        if package != __package__ or former not in PLACES:
            return None
        return ModuleSpec(fullname, _Alias())


def find_former_places() -> None:
    """Let imports find the modules that have moved."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
