"""What /diagnostics may say is found in the table of docs/troubleshooting.md, word by word."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='needs ROS, or ros_pip')

from mrcnet_ros.ros.drop_counters import (
    DEPTH_REASONS,
    DETECTION_REASONS,
    FRAME_REASONS,
    PLANE_REASONS,
    TRACK_REASONS,
)

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ['ros/statuses.py', 'ros/reporter.py', 'ros/input_watch.py', 'ros/silent_input.py',
           'ros/input_doubts.py', 'ros/box_watch.py', 'ros/detection_watch.py',
           'ros/shared_memory.py', 'geometry/camera_doubts.py']
# parts of a message that are no problem, or follow one that the table has
OTHERS = {
    '... frames/s with ... poses in ... s',
    '...: ... poses corrected, ... by a plane found in the images',
    'found in the images: ... poses corrected',
    '...; ... not corrected (not on the plane, no plane, or already corrected by depth)',
    'poses corrected: found plane',
    "camera ... to ... degrees above the object's xy plane, its z axis within ... degrees of the "
    "image's up",
    'depth of ... of ... frames not used, ...: ...',
    ' (a cropped image needs roi)',
    'the estimator is slower',
    'frames without the plane',
    'faults of the node',
    'set input_reliability to reliable, if the camera is reliable too',
    '... come for ... of ... images',
    '; depth comes for ... of ... images',
}


def _texts(path: Path) -> Iterator[str]:
    """Yield the strings of a file that are no docstrings, '...' for what is filled in."""
    tree = ast.parse(path.read_text(encoding='utf-8'))
    nodes = list(ast.walk(tree))
    left_out = {id(n.value) for n in nodes if isinstance(n, ast.Expr)} | {
        id(part) for n in nodes if isinstance(n, ast.JoinedStr) for part in n.values}
    for node in nodes:
        if id(node) in left_out:
            continue
        if isinstance(node, ast.JoinedStr):
            yield ''.join(part.value if isinstance(part, ast.Constant) else '...'
                          for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _phrases() -> list[str]:
    """Return what the first column has."""
    page = (ROOT / 'docs/troubleshooting.md').read_text(encoding='utf-8')
    table = page[page.index('| text |'):page.index('## When poses are wrong')]
    cells = [line.split(' | ')[0].removeprefix('| ').removesuffix(' (in the log)')
             for line in table.splitlines()[2:] if line]
    return [phrase for cell in cells for phrase in cell.split('; ')]


def _has(text: str, phrase: str) -> bool:
    """Tell whether the parts of a phrase are in a text, in their order."""
    return re.search('.*'.join(map(re.escape, phrase.split('...'))), text) is not None


@pytest.mark.parametrize('source', SOURCES)
def test_every_problem_is_in_the_table(source: str):
    """Texts of four words or more, without the names and numbers that are filled in."""
    phrases = _phrases()
    problems = {text for text in _texts(ROOT / 'mrcnet_ros' / source)
                if len(re.findall(r"[\w']{2,}", text)) >= 4} - OTHERS
    assert problems
    assert [text for text in problems if not any(_has(text, phrase) for phrase in phrases)] == []


def test_every_reason_is_in_the_table():
    """Why frames, detections and depth images were not used."""
    names = {name for phrase in _phrases() for name in phrase.split(', ')}
    assert {*FRAME_REASONS, *DETECTION_REASONS, *DEPTH_REASONS, *PLANE_REASONS,
            *TRACK_REASONS} <= names


def test_every_text_of_the_table_is_one_of_the_node():
    """A row that no search for the words of the node leads to helps nobody."""
    texts = [text for folder in ('ros', 'geometry', 'detector') for path in
             (ROOT / 'mrcnet_ros' / folder).glob('*.py') for text in _texts(path)]
    assert [phrase for phrase in _phrases()
            if not all(any(_has(text, part) for text in texts)
                       for part in re.split(r', (?=\w+_\w+$)', phrase))] == []
