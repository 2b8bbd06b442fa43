"""The layers of the package: who may import whom, and what an import may drag in."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import mrcnet_ros

PACKAGE = Path(mrcnet_ros.__file__).parent

GROUND = {'cpus', 'errors', 'specs', 'reading', 'store', 'model_json'}
SHAPES = GROUND | {'geometry'}
OBJECTS = SHAPES | {'meshes', 'objects'}

# room: the rooms it may import; a room may always import itself
ALLOWED = {
    'former_places': set(),
    'cpus': set(),
    'errors': set(),
    'specs': {'errors'},
    'reading': {'errors'},
    'store': {'errors'},
    'model_json': {'errors', 'specs', 'reading', 'store'},
    'runtimes': GROUND,
    'geometry': GROUND,
    'meshes': SHAPES,
    'objects': SHAPES | {'meshes'},
    'datasets': OBJECTS,
    'network': SHAPES,
    'rendering': OBJECTS,
    'inference': OBJECTS | {'runtimes', 'rendering'},
    'detector': OBJECTS | {'runtimes', 'inference'},
    'training': OBJECTS | {'datasets', 'network', 'rendering', 'detector'},
    'export': OBJECTS | {'runtimes', 'network', 'training', 'inference', 'detector'},
    'presets/paper': OBJECTS | {'runtimes', 'datasets', 'rendering', 'inference'},
    'presets/paper/network': SHAPES | {'network', 'presets/paper'},
    'presets/paper/training': OBJECTS | {'datasets', 'rendering', 'training', 'presets/paper',
                                         'presets/paper/network'},
    'presets/paper/parity': SHAPES | {'presets/paper', 'presets/paper/network'},
    'presets/paper/export': OBJECTS | {
        'runtimes', 'training', 'export', 'evaluation', 'presets/paper',
        'presets/paper/network', 'presets/paper/parity'},
    'presets': OBJECTS | {'runtimes', 'inference', 'presets/paper'},
    'evaluation': OBJECTS | {'runtimes', 'datasets', 'rendering', 'inference', 'detector'},
    'ros': OBJECTS | {'runtimes', 'rendering', 'inference', 'presets', 'detector'},
    'synth': OBJECTS | {'datasets', 'rendering'},
    'testbench': OBJECTS | {'datasets', 'rendering', 'inference', 'ros', 'synth'},
    'new_model': OBJECTS | {'datasets', 'rendering', 'inference', 'training', 'export', 'detector',
                            'evaluation', 'synth'},
    'demo': OBJECTS | {'datasets', 'rendering', 'evaluation', 'testbench', 'synth'},
    'cli': OBJECTS | {'', 'runtimes', 'datasets', 'network', 'rendering', 'inference', 'training',
                      'export', 'evaluation', 'presets', 'presets/paper', 'presets/paper/training',
                      'presets/paper/parity', 'presets/paper/export', 'ros', 'testbench',
                      'synth', 'demo', 'detector', 'new_model'},
    # the public face, imported when first used
    '': {'former_places', 'geometry', 'inference', 'detector'},
}

# the one module that may reach where its room may not
EXCEPTIONS = {('runtimes/torch_backend.py', 'network')}

# third party: the rooms that may import it, anywhere in a file
CONFINED = {
    'torch': {'network', 'training', 'export', 'runtimes/torch_backend.py', 'cli/train.py',
              'presets/paper/network', 'presets/paper/training', 'presets/paper/parity',
              'presets/paper/export'},
    'pyrender': {'rendering'},
    'OpenGL': {'rendering'},
    'rclpy': {'ros', 'testbench'},
    'rosbags': {'testbench'},
    'onnxruntime': {'runtimes'},
    'argparse': {'cli', 'ros'},
}


def room_of(path):
    """Return the room of a file: its folder, or its own name at the top."""
    parts = path.relative_to(PACKAGE).parts
    if len(parts) == 1:
        return parts[0].removesuffix('.py').replace('__init__', '')
    return '/'.join(parts[:-1])


def imported_modules(path):
    """Return absolute dotted names of all imports of a file, also those inside functions."""
    package = ('mrcnet_ros', *path.relative_to(PACKAGE).parts[:-1])
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else ()
            module = '.'.join([*base, *([node.module] if node.module else [])])
            names.add(module)
            if module.split('.')[0] == 'mrcnet_ros':
                names |= {f'{module}.{alias.name}' for alias in node.names}
    return names


def rooms_reached(path):
    """Return the rooms whose modules a file imports."""
    rooms = set()
    for name in imported_modules(path):
        parts = name.split('.')
        if parts[0] != 'mrcnet_ros' or len(parts) < 2:
            continue
        target = PACKAGE / parts[1]
        if not target.is_dir():
            rooms.add(parts[1] if target.with_suffix('.py').is_file() else '')
            continue
        inner = [i for i in range(2, len(parts) + 1) if PACKAGE.joinpath(*parts[1:i]).is_dir()]
        rooms.add('/'.join(parts[1:inner[-1]]))
    return rooms


IMPORTS, REACHED = functools.cache(imported_modules), functools.cache(rooms_reached)
FILES = sorted(PACKAGE.rglob('*.py'))
NAMES = [str(path.relative_to(PACKAGE)) for path in FILES]


@pytest.mark.parametrize('path', FILES, ids=NAMES)
def test_every_import_follows_the_arrows(path):
    """A file imports its own room and the rooms below it, nothing else of the package."""
    room, name = room_of(path), str(path.relative_to(PACKAGE))
    assert room in ALLOWED, f'{room} is a new room: say in ALLOWED what it may import'
    wrong = {reached for reached in REACHED(path) - ALLOWED[room] - {room}
             if (name, reached) not in EXCEPTIONS}
    assert not wrong, f'{name} must not import {sorted(wrong)}'


@pytest.mark.parametrize('path', FILES, ids=NAMES)
def test_heavy_packages_stay_in_their_rooms(path):
    """PyTorch, OpenGL, ROS and the rest are imported only where the design says."""
    room, name = room_of(path), str(path.relative_to(PACKAGE))
    roots = {module.split('.')[0] for module in IMPORTS(path)}
    wrong = {root for root in roots & set(CONFINED) if not {room, name} & CONFINED[root]}
    assert not wrong, f'{name} must not import {sorted(wrong)}'


@pytest.mark.parametrize('room', ALLOWED)
def test_every_arrow_is_used(room):
    """An arrow that no file needs is taken out; what most rooms need is given to all of them."""
    reached = set().union(*(REACHED(path) for path in FILES if room_of(path) == room))
    assert ALLOWED[room] - OBJECTS <= reached


@pytest.mark.parametrize('package', CONFINED)
def test_every_room_of_a_heavy_package_uses_it(package):
    """Else a file there could begin to import it unnoticed."""
    users = [path for path in FILES
             if package in {module.split('.')[0] for module in IMPORTS(path)}]
    assert CONFINED[package] <= {name for path in users
                                 for name in (room_of(path), str(path.relative_to(PACKAGE)))}


def test_the_arrows_have_no_cycle():
    """Layers point one way: following arrows never leads back."""
    def below(room, seen):
        assert room not in seen, f'cycle: {" -> ".join([*seen, room])}'
        for other in ALLOWED[room]:
            below(other, [*seen, room])

    for room in ALLOWED:
        below(room, [])


def test_a_wrong_arrow_is_seen_in_every_spelling(tmp_path, monkeypatch):
    """The walk understands relative, absolute, lazy and whole-room imports."""
    for room in ('geometry', 'ros'):
        (tmp_path / room).mkdir()
    monkeypatch.setattr(sys.modules[__name__], 'PACKAGE', tmp_path)
    source = tmp_path / 'geometry' / 'wrong.py'
    for line in ('from ..ros import pose_node', 'from ..ros.pose_node import main',
                 'from .. import ros', 'import mrcnet_ros.ros.pose_node',
                 'from mrcnet_ros import ros', 'from mrcnet_ros.ros import pose_node',
                 'def f():\n    from ..ros.pose_node import main'):
        source.write_text(line)
        assert rooms_reached(source) - {'geometry'} == {'ros'}, line
    source.write_text('from . import se3\nimport numpy as np\nfrom .camera import Camera')
    assert rooms_reached(source) == {'geometry'}


LIGHT = ['mrcnet_ros', 'mrcnet_ros.presets.loading', 'mrcnet_ros.objects',
         'mrcnet_ros.inference.poses',
         'mrcnet_ros.inference.estimator', 'mrcnet_ros.datasets.bop',
         'mrcnet_ros.evaluation.runner', 'mrcnet_ros.cli.main', 'mrcnet_ros.cli.evaluate',
         'mrcnet_ros.cli.bench']


def import_without(module, blocked):
    """Import a module in a fresh process where other packages cannot be imported.

    :return: the process; its last line lists which blocked packages were asked for.
    """
    script = (f'import sys, importlib\n'
              f'blocked = {blocked!r}\n'
              f'for name in blocked: sys.modules[name] = None\n'
              f'importlib.import_module({module!r})\n'
              f'print("imported")')
    return subprocess.run([sys.executable, '-c', script], capture_output=True, text=True,
                          check=False)


@pytest.mark.parametrize('module', LIGHT)
def test_the_runtime_can_be_imported_without_torch_and_opengl(module):
    """Neither is touched at import, so neither needs to be installed to get that far."""
    result = import_without(module, ['torch', 'OpenGL', 'pyrender', 'rclpy', 'rosbags'])
    assert result.stdout.strip().endswith('imported'), result.stderr


def test_the_node_can_be_imported_without_torch_and_opengl():
    """Where ROS is installed the node's module loads with nothing but its own needs."""
    pytest.importorskip('rclpy')
    pytest.importorskip('vision_msgs')
    result = import_without('mrcnet_ros.ros.pose_node', ['torch', 'OpenGL', 'pyrender'])
    assert result.stdout.strip().endswith('imported'), result.stderr


def test_blocking_a_package_is_noticed():
    """The check above fails for a module that does import torch."""
    result = import_without('mrcnet_ros.network.mrcnet', ['torch'])
    assert result.returncode != 0 and 'torch' in result.stderr
