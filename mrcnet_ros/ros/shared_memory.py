"""Finds out whether shared memory is too small for images, and what to do about it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from ..store.shared_memory import MIB, room_told, shared_room

# Fast DDS 3 prefers the second, Fast DDS 2 of Jazzy only knows the first.
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
_ADVICE = 'set input_reliability to reliable, if the camera is reliable too'


def lost_images_hint(variables: Mapping[str, str] = os.environ, middleware: str = '') -> str:
    """Return what to do when a camera publishes large images and none arrives.

    :param variables: environment of the process.
    :param middleware: name of ROS's implementation of it; '' for the one in use.
    """
    from rclpy.utilities import get_rmw_implementation_identifier

    middleware = middleware or get_rmw_implementation_identifier()
    if 'fastrtps' not in middleware:
        return f'{middleware} may lose large best-effort images; {_ADVICE}'
    profile = next((variables[v] for v in reversed(PROFILE_VARIABLES) if variables.get(v)), '')
    if not profile:
        return ('large best-effort images need config/fastdds.xml, in the processes of camera '
                f'and node ({" or ".join(reversed(PROFILE_VARIABLES))}); this one has no '
                f'profile. Or {_ADVICE}')
    segment = _segment_size(profile)
    if shared_room()[1] < segment:
        return (f'{room_told()}, and each process asks for {segment / MIB:.0f} (segment_size in '
                f'{profile}): start the container with --shm-size=256m or --ipc=host, or '
                f'{_ADVICE}')
    return (f'the process of the camera needs the profile as well ({profile} here); in another '
            f'container it needs --ipc=host. Or {_ADVICE}')


def _segment_size(profile: str) -> int:
    """Return what a profile asks for [byte], 0 when it cannot be told."""
    try:
        text = Path(profile).read_text(encoding='utf-8', errors='replace')
    except OSError:
        return 0
    return max(map(int, re.findall(r'<segment_size>\s*(\d+)\s*</segment_size>', text)), default=0)
