"""Start the pose node: ros2 launch mrcnet_ros pose.launch.py model:=DIR meshes:=DIR ..."""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, GroupAction, OpaqueFunction
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
# what YAML and ROS's own command line take for a boolean
YES, NO = ('true', 'yes', 'on', '1'), ('false', 'no', 'off', '0')
ARGUMENTS = {
    'image': ('image', 'topic of the images'),
    'camera_info': ('camera_info', 'topic of their camera_info'),
    'detections': ('detections', 'topic of the detections (vision_msgs/Detection2DArray)'),
    'depth': ('depth', 'topic of depth images registered to the images; used if the parameter '
                       'depth is auto or required'),
    'model': ('', 'directory of the model; empty: as in params_file'),
    'meshes': ('', 'directory of the object meshes; empty: as in params_file'),
    'detector': ('', 'directory of a model whose detector finds the objects; no detections are '
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


def switch(given: dict, name: str) -> bool:
    """Return whether an argument is switched on.

    :raises ValueError: when its text is no boolean.
    """
    text = given[name].strip().lower()
    if text not in YES + NO:
        raise ValueError(f'launch argument {name} is {given[name]!r}; give true or false')
    return text in YES


def file_given(given: dict, name: str) -> str:
    """Return a file or folder, its ~ replaced, which a shell does not do in name:=~/FILE."""
    return os.path.expanduser(given[name])


def actions(context: LaunchContext) -> list:
    """Return what to start, an empty argument leaving the default in place."""
    given = context.launch_configurations
    if given['depth'] in ('off', 'auto', 'required'):
        raise ValueError(f'launch argument depth is a topic, got {given["depth"]!r}; the '
                         'parameter depth is set in params_file')
    # as text: launch would turn model:=2026 into a number
    parameters = {name: ParameterValue(file_given(given, name), value_type=str)
                  for name in FOLDERS if given[name]}
    parameters |= {name: switch(given, name) for name in ('use_sim_time', 'autostart')
                   if given[name]}
    # of these processes alone: what is started after this file keeps its own profile
    profile = {PROFILE: file_given(given, 'fastdds_profile')} if given['fastdds_profile'] else {}
    node = Node(
        package='mrcnet_ros', executable='pose_node', name='pose_node', output='screen',
        namespace=given['namespace'], parameters=[file_given(given, 'params_file'), parameters],
        remappings=[(topic, given[topic]) for topic in TOPICS if given[topic] != topic],
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
