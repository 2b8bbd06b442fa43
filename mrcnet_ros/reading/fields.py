"""Checks single values of files: whole numbers, numbers, texts, known fields."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def whole(value: Any, name: str) -> int:
    """Return a whole number that is not negative; neither text nor true nor 1.5 is one.

    :param name: of the field, for the message.
    :raises ValueError: when it is something else.
    """
    fits = type(value) is int or (type(value) is float and value.is_integer())
    if not fits or value < 0:
        raise ValueError(f'{name} must be a whole number from 0, got {value!r}')
    return int(value)


def whole_text(text: str, name: str) -> int:
    """Return a whole number written in digits and nothing else, as keys of JSON and CSV have it.

    :raises ValueError: when it is something else.
    """
    if not text.isascii() or not text.isdigit():
        raise ValueError(f'{name} must be a whole number from 0, got {text!r}')
    return int(text)


def number(value: Any, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """Return a finite number; text is none, even where it reads like one.

    :param low: smallest that is allowed.
    :param high: largest that is allowed.
    :raises ValueError: when it is something else.
    """
    try:
        found = float(value) if type(value) in (int, float) else math.nan
    except OverflowError:
        found = math.inf
    if not math.isfinite(found) or not low <= found <= high:
        bounds = '' if math.isinf(low) and math.isinf(high) else \
            f' from {low:g}' + ('' if math.isinf(high) else f' to {high:g}')
        raise ValueError(f'{name} must be a finite number{bounds}, got {value!r}')
    return found


def numbers_of(words: Iterable[Any]) -> NDArray[np.float64]:
    """Return the numbers of a text file, as C and Fortran write them; inf and nan are left in.

    Python reads more, such as 1_0 and digits of other scripts, which is a slip of a program or of
    a hand in such a file.

    :param words: text or bytes, also in rows of the same length.
    :return: float64 of the same shape.
    :raises ValueError: when one is none.
    """
    given = np.array(words)
    codes: NDArray[Any] = given.ravel().view(np.uint8 if given.dtype.kind == 'S' else np.uint32)
    if ((codes > 127) | (codes == ord('_'))).any():
        bad = next(word for word in given.ravel().tolist()
                   if not word.isascii() or str(word).count('_'))
        raise ValueError(f'could not convert string to float: {bad!r}')
    return given.astype(np.float64)


def label(value: Any, name: str = 'label') -> str:
    """Return a name: text, or a whole number, as which YAML reads a label of digits.

    :raises ValueError: when it is empty or YAML made something else of it, such as true or 1.1.
    """
    if type(value) is int or (isinstance(value, str) and value.strip()):
        return str(value)
    raise ValueError(f'{name} must be text, got {value!r}; put it in quotes')


def only_known(given: Iterable[Any], known: Iterable[str], where: str) -> None:
    """Refuse fields that nobody would read, such as misspelt ones.

    :raises ValueError: naming them, the known ones, and what was perhaps meant.
    """
    names = sorted(known)
    unknown = sorted(str(name) for name in given if name not in names)
    if not unknown:
        return
    close = difflib.get_close_matches(unknown[0], names, 1)
    hint = f'; is {close[0]!r} meant?' if close else ''
    raise ValueError(f'{where}: unknown fields {unknown}; known: {names}{hint}')
