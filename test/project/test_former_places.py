"""Programs that import a module from where it was still find it."""

from __future__ import annotations

import importlib

import pytest

from mrcnet_ros.former_places import PLACES


@pytest.mark.parametrize('former', PLACES)
def test_what_has_moved_is_found_in_its_former_place(former):
    """With a warning that names the present one; both names are one module."""
    present = f'mrcnet_ros.{PLACES[former]}'
    there = pytest.importorskip(present, exc_type=ImportError)
    with pytest.warns(DeprecationWarning, match=present):
        assert importlib.import_module(f'mrcnet_ros.{former}') is there
    assert there.__name__ == present


def test_names_that_never_were_are_not_found():
    """The error is the usual one."""
    with pytest.raises(ModuleNotFoundError, match=r'evaluation\.never'):
        importlib.import_module('mrcnet_ros.evaluation.never')
