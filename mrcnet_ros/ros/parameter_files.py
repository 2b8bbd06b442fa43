"""Parameter files that hold nothing for the node, which ROS leaves aside without a word."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml


def unused_files(words: Sequence[str], node_name: str) -> list[str]:
    """Return a remark on each parameter file of a command line that is not for a node.

    :param words: of the command line.
    :param node_name: with its namespace, a slash in front.
    """
    files = [after for word, after in itertools.pairwise(words)
             if word == '--params-file']
    return [remark for file in files if (remark := _remark(Path(file), node_name))]


def _remark(file: Path, node_name: str) -> str:
    try:
        names = sorted(set(_names(yaml.safe_load(file.read_text(encoding='utf-8')))))
    except (OSError, UnicodeError, yaml.YAMLError, RecursionError):
        return ''  # ROS has read it, or has said what is wrong
    if any(is_meant(name, node_name) for name in names):
        return ''
    return (f'{file} has parameters for {", ".join(names) or "no node"} and none for '
            f"{node_name}, so they do not count; name the node so, or '/**'")


def _names(found: Any, above: str = '') -> Iterator[str]:
    """Yield the names of the nodes that a file has parameters for."""
    if not isinstance(found, dict):
        return
    for key, value in found.items():
        if key == 'ros__parameters':
            yield above
        else:
            yield from _names(value, f'{above}/{str(key).strip("/")}')


def is_meant(pattern: str, node_name: str) -> bool:
    """Tell whether a name in a parameter file, perhaps with wildcards, is that of a node.

    A star is one part of the name, two stars are any number of parts.

    :param pattern: with a slash in front.
    """
    expression = re.escape(pattern).replace(r'\*\*', '.*').replace(r'\*', '[^/]*')
    return re.fullmatch(expression.replace('/.*/', '/(.*/)?'), node_name) is not None
