"""New names of topics that count for nothing, which ROS takes without a word."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import pairwise

from .params import NodeParameters

INPUTS = ('image', 'camera_info', 'detections', 'depth')
OUTPUTS = ('object_poses', 'object_detections', 'confirmed_detections', 'markers', 'overlay')
# What ROS and tf2 have in every node.
COMMON = ('/tf', '/tf_static', '/clock', '/rosout', '/diagnostics', '/parameter_events')


def remap_remarks(
    words: Sequence[str], node_name: str, parameters: NodeParameters,
) -> list[str]:
    """Return what to know of the topics that a command line gives new names.

    :param words: of the command line.
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
            remarks.append(f'the topic {full} was given another name, but the node has none of '
                           'that name' + (f'; did you mean {near[0]}?' if near else ''))
    return remarks


def _idle(topic: str, parameters: NodeParameters) -> list[str]:
    """Return that a topic that was given a name is not listened to."""
    if topic == 'depth' and parameters.depth == 'off':
        return ['depth was given another name, but the parameter depth is off, so that no depth '
                'is used; set it to auto or required']
    if topic == 'detections' and parameters.detector:
        return ['detections was given another name, but with the parameter detector the node '
                'finds the objects itself and does not listen to it']
    return []
