"""Numbers of the command line, for argparse: each type refuses what makes no sense."""

from __future__ import annotations

import argparse
from typing import TypeVar

NumberT = TypeVar('NumberT', int, float)


def _fitting(number: NumberT, fits: bool, expected: str) -> NumberT:
    if not fits:
        raise argparse.ArgumentTypeError(f'must be {expected}, got {number}')
    return number


def positive(text: str) -> int:
    """Return a whole number of at least one."""
    number = int(text)
    return _fitting(number, number >= 1, 'at least 1')


def count(text: str) -> int:
    """Return a whole number that is not negative, as seeds of random numbers are."""
    number = int(text)
    return _fitting(number, number >= 0, '0 or more')


def positive_float(text: str) -> float:
    """Return a number above zero."""
    number = float(text)
    return _fitting(number, 0 < number < float('inf'), 'above 0')


def limit(text: str) -> float:
    """Return a number that is not negative; nan would pass every comparison."""
    number = float(text)
    return _fitting(number, 0 <= number < float('inf'), '0 or more')


def share(text: str) -> float:
    """Return a number from zero to one."""
    number = float(text)
    return _fitting(number, 0 <= number <= 1, '0 to 1')
