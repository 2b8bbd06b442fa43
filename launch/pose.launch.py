"""Start the pose node: ros2 launch mrcnet_ros pose.launch.py model:=DIR meshes:=DIR ..."""

import difflib
import os
import sys
from pathlib import Path

import yaml
from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, GroupAction, OpaqueFunction
from launch.logging import get_logger
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext, LaunchDescription

CONFIG = Path(get_package_share_directory('mrcnet_ros'), 'config')
# Fast DDS 2 of Jazzy only knows the first, Fast DDS 3 prefers the second.
PROFILES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
PROFILE = PROFILES[os.environ.get('ROS_DISTRO') != 'jazzy']
TOPICS = ('image', 'camera_info', 'detections', 'depth')
SHOWN = ('image', 'overlay', 'markers', 'object_detections')  # in config/pose.rviz
FOLDERS = ('model', 'meshes', 'detector')
# a name of another file that is as similar to one of ours is probably a misspelt one
ALIKE = 0.8
# what YAML and ROS's own command line take for a boolean
YES, NO = ('true', 'yes', 'on', '1'), ('false', 'no', 'off', '0')
ARGUMENTS = {
    'image': ('image', 'topic of the images'),
    'camera_info': ('camera_info', 'topic of their camera_info'),
    'detections': ('detections', 'topic of the detections (vision_msgs/Detection2DArray)'),
    'depth': ('depth', 'topic of depth images registered to the images; used if the parameter '
                       'depth is auto or required'),
    'model': ('', 'folder of the model; empty: as in params_file'),
    'meshes': ('', 'folder of the object meshes; empty: as in params_file'),
    'detector': ('', 'folder of a model whose detector finds the objects; no detections are '
                     'needed then; empty: as in params_file'),
    'params_file': (str(CONFIG / 'pose_node.yaml'), 'parameters of the node'),
    'namespace': ('', 'namespace of the node and its topics'),
    'use_sim_time': ('', 'whether to take the time from /clock; empty: as in params_file'),
    'autostart': ('', 'whether the node configures and activates itself; empty: as in '
                      'params_file'),
    'rviz': ('false', 'whether to start RViz as well (package rviz2) with config/pose.rviz'),
    'rviz_frame': ('', "RViz's fixed frame, for instance base_link; empty: as in "
                       'config/pose.rviz'),
    'fastdds_profile': (
        '' if any(map(os.environ.get, PROFILES)) else str(CONFIG / 'fastdds.xml'),
        f'XML profile that gives Fast DDS shared memory for images; empty: as in {PROFILE}'),
}


def is_started_itself() -> bool:
    """Tell whether the command line starts this file, and not one that includes it."""
    words = [word for word in sys.argv[1:] if ':=' not in word]
    own = Path(__file__).resolve()
    return ({'mrcnet_ros', own.name} <= set(words)
            or any(Path(word).resolve() == own for word in words))


def check_names(context: LaunchContext) -> None:
    """Refuse arguments that this file does not have; launch itself accepts all without a word.

    Where another file includes this one, names that are not ours may be its own; it is warned of
    those that look misspelt.

    :raises ValueError: naming them and the nearest known names.
    """
    if is_started_itself():
        names = [word.partition(':=')[0] for word in context.argv if ':=' in word]
        if unknown := [name for name in names if name not in ARGUMENTS]:
            raise ValueError(f'{" ".join(map(remark, unknown))} The arguments are '
                             f'{", ".join(ARGUMENTS)}.')
        return
    given = context.launch_configurations
    for name in given.keys() - ARGUMENTS.keys():
        meant = difflib.get_close_matches(name, ARGUMENTS, n=1, cutoff=ALIKE)
        if meant and given[meant[0]] == ARGUMENTS[meant[0]][0]:
            get_logger('pose.launch.py').warning(
                f'{remark(name)} If it is for this file, it has no effect.')


def remark(name: str) -> str:
    """Return what to do about an argument that this file does not have."""
    parameters = yaml.safe_load((CONFIG / 'pose_node.yaml').read_text(encoding='utf-8'))
    if name in parameters['/**']['ros__parameters']:
        return (f'{name} is a parameter of the node and no launch argument; set it in a file and '
                'give that as params_file.')
    near = difflib.get_close_matches(name, ARGUMENTS, n=1)
    return f'pose.launch.py has no argument {name}' + (
        f'; did you mean {near[0]}?' if near else '.')


def switch(given: dict, name: str) -> bool:
    """Return whether an argument is switched on.

    :raises ValueError: when its text is no boolean.
    """
    text = given[name].strip().lower()
    if text not in YES + NO:
        raise ValueError(f'launch argument {name} is {given[name]!r}; give true or false')
    return text in YES


def folder_given(given: dict, name: str) -> str:
    """Return a file or folder, its ~ replaced, which a shell does not do in name:=~/FILE."""
    return os.path.expanduser(given[name])


def file_given(given: dict, name: str) -> str:
    """Return a file; without it the node would start with its defaults.

    :raises ValueError: when there is no such file.
    """
    path = folder_given(given, name)
    if not os.path.isfile(path):
        raise ValueError(f'launch argument {name} is {given[name]!r}; there is no such file')
    return path


def topic_given(given: dict, name: str) -> str:
    """Return a topic.

    :raises ValueError: when it is empty.
    """
    if not given[name].strip():
        raise ValueError(f'launch argument {name} is empty; give a topic, or leave it out')
    return given[name]


def actions(context: LaunchContext) -> list:
    """Return what to start, an empty argument leaving the default in place."""
    check_names(context)
    given = context.launch_configurations
    if given['depth'] in ('off', 'auto', 'required'):
        raise ValueError(f'launch argument depth is a topic, got {given["depth"]!r}; the '
                         'parameter depth is set in params_file')
    # as text: launch would turn model:=2026 into a number
    parameters = {name: ParameterValue(folder_given(given, name), value_type=str)
                  for name in FOLDERS if given[name]}
    parameters |= {name: switch(given, name) for name in ('use_sim_time', 'autostart')
                   if given[name]}
    # of these processes alone: what is started after this file keeps its own profile
    profile = {PROFILE: file_given(given, 'fastdds_profile')} if given['fastdds_profile'] else {}
    node = Node(
        package='mrcnet_ros', executable='pose_node', name='pose_node', output='screen',
        namespace=given['namespace'], parameters=[file_given(given, 'params_file'), parameters],
        remappings=[(topic, topic_given(given, topic)) for topic in TOPICS
                    if given[topic] != topic],
        additional_env=profile,
    )
    return [node, rviz(given, profile)] if switch(given, 'rviz') else [node]


def rviz(given: dict, profile: dict) -> Node:
    """Return RViz, which shows the topics of the node.

    It has the node's namespace, also one that PushRosNamespace adds to both, and its topics, which
    config/pose.rviz names from the root, become relative to that.
    """
    shown = {topic: topic for topic in SHOWN} | {'image': given['image']}
    frame = ['-f', given['rviz_frame']] if given['rviz_frame'] else []
    return Node(
        package='rviz2', executable='rviz2', name='rviz_poses', namespace=given['namespace'],
        arguments=['-d', str(CONFIG / 'pose.rviz'), *frame],
        parameters=[{'use_sim_time': switch(given, 'use_sim_time')}] if given['use_sim_time']
        else [],
        remappings=[(f'/{topic}', name) for topic, name in shown.items()],
        additional_env=profile,
    )


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and what they start.

    In a group of their own: where this file is included, a later file with an argument of the
    same name, as params_file, keeps its own default.
    """
    return LaunchDescription([GroupAction([
        *(DeclareLaunchArgument(name, default_value=default, description=description)
          for name, (default, description) in ARGUMENTS.items()),
        OpaqueFunction(function=actions),
    ])])
