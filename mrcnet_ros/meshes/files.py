"""Texts that a mesh consists of, and the files that they name."""

from __future__ import annotations

import codecs
import errno
import re
import unicodedata
from pathlib import Path, PureWindowsPath

MARKS = {codecs.BOM_UTF8: 'utf-8-sig', codecs.BOM_UTF16_LE: 'utf-16',
         codecs.BOM_UTF16_BE: 'utf-16'}


def decoded_text(data: bytes) -> str:
    """Return the text of a file in UTF-8, UTF-16 with a mark, or else Windows' western encoding.

    Any bytes give a text; the characters that matter for numbers are the same in all of these.
    """
    for mark, encoding in MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding, errors='replace')
    try:
        return data.decode('utf-8')
    except UnicodeDecodeError:
        return data.decode('cp1252', errors='replace')


def lines_of(data: bytes) -> list[str]:
    """Return the lines of a text; unlike ``str.splitlines``, only CR and LF end one."""
    return re.split(r'\r\n|\n|\r', decoded_text(data))


def find_file(name: str, *folders: Path) -> Path | None:
    """Return the file that a mesh or material means by a name, None when there is none.

    Backslashes separate folders too. Where no file has exactly this name, one whose name differs
    in upper and lower case only is meant, as on Windows, where many meshes are made. Of a path
    from the root of another computer, the last part counts.

    :param name: as it is written in the file.
    :param folders: where it may be, best first.
    """
    name = name.strip().strip('"')
    names = [name, name.replace('\\', '/')]
    if PureWindowsPath(name).is_absolute() or PureWindowsPath(name).drive or name[:1] == '/':
        names.append(PureWindowsPath(name).name)
    for candidate in (c for c in names if c):
        for folder in folders:
            found = folder / candidate
            if _is_file(found):
                return found
    for candidate in names[1:]:
        for folder in folders:
            alike = _alike(folder, candidate)
            if alike is not None:
                return alike
    return None


def before_comment(text: str) -> str:
    """Return what stands before a blank and a "#"; names may have these in them, too."""
    return re.split(r'\s+#', text, maxsplit=1)[0]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:  # a line of several names
            raise
        return False


def _alike(folder: Path, name: str) -> Path | None:
    """Return the one file below a folder whose path is the same but for upper and lower case."""
    places = [folder]
    for part in Path(name).parts:
        if part == '..':
            places = [place / part for place in places]
        else:
            places = [entry for place in places if place.is_dir() for entry in place.iterdir()
                      if _plain(entry.name) == _plain(part)]
    files = [place for place in places if place.is_file()]
    return files[0] if len(files) == 1 else None


def _plain(name: str) -> str:
    return unicodedata.normalize('NFC', name).casefold()
