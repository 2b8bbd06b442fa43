"""Names of topics, parameter files and parameters that are taken although they have no effect."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import yaml

from .params import FIELDS, NodeParameters

INPUTS = ('image', 'camera_info', 'detections', 'depth')
OUTPUTS = ('object_poses', 'object_detections', 'confirmed_detections', 'markers', 'overlay')
# How messages of detections are read.
OF_MESSAGES = ('label_map', 'detections_size', 'detections_fit', 'detections_type')
# What ROS and tf2 have in every node.
COMMON = ('/tf', '/tf_static', '/clock', '/rosout', '/diagnostics', '/parameter_events')


def remap_remarks(words: Sequence[str], node_name: str, parameters: NodeParameters) -> list[str]:
    """Return what to know of the topics that a command line gives new names.

    :param node_name: with its namespace, a slash in front.
    """
    namespace, _, name = node_name.rpartition('/')
    own = {f'{namespace}/{topic}': topic for topic in (*INPUTS, *OUTPUTS)}
    remarks = []
    for word, rule in pairwise(words):
        if word not in ('-r', '--remap') or ':=' not in rule:
            continue
        old = rule.partition(':=')[0]
        owner, colon, old = old.rpartition(':')
        full = old if old.startswith('/') else f'{namespace}/{old}'
        if (old.startswith(('__', '~', '//')) or full.startswith(f'{node_name}/')
                or (colon and owner.lstrip('/') != name)):
            continue
        if full in own:
            remarks += _idle(own[full], parameters)
        elif full not in COMMON:
            near = difflib.get_close_matches(old.rpartition('/')[2], own.values(), n=1)
            remarks.append(f'the topic {full} was remapped, but the node has none of '
                           'that name' + (f'; did you mean {near[0]}?' if near else ''))
    return remarks


def _idle(topic: str, parameters: NodeParameters) -> list[str]:
    """Return that a topic that was given a name is not listened to."""
    if topic == 'depth' and parameters.depth == 'off':
        return ['depth was remapped, but the parameter depth is off, so that no depth '
                'is used; set it to auto or required']
    if topic == 'detections' and parameters.detector:
        return ['detections was remapped, but with the parameter detector the node '
                'finds the objects itself and does not listen to it']
    return []


def idle_parameters(parameters: NodeParameters) -> list[str]:
    """Return a remark if the node's own detector leaves parameters of a topic without effect."""
    given = [name for name in OF_MESSAGES
             if getattr(parameters, name) != FIELDS[name].default]
    if not parameters.detector or not given:
        return []
    return [f'{", ".join(given)} without effect: with the parameter detector the node reads no '
            'messages of detections; its own detector has the labels of its model and boxes in '
            'pixels of the image']


def unused_files(words: Sequence[str], node_name: str) -> list[str]:
    """Return a remark on each parameter file of a command line that is not for a node.

    :param node_name: with its namespace, a slash in front.
    """
    files = [after for word, after in itertools.pairwise(words) if word == '--params-file']
    return [remark for file in files if (remark := _remark(Path(file), node_name))]


def _remark(file: Path, node_name: str) -> str:
    try:
        names = sorted(set(_names(yaml.safe_load(file.read_text(encoding='utf-8')))))
    except (OSError, UnicodeError, yaml.YAMLError, RecursionError):
        return ''  # ROS has read it, or has said what is wrong
    if any(is_meant(name, node_name) for name in names):
        return ''
    return (f'{file} has parameters for {", ".join(names) or "no node"} and none for '
            f"{node_name}, so they have no effect; use the name of the node or '/**'")


def _names(found: object, above: str = '') -> Iterator[str]:
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
