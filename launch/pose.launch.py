"""Start the pose node: ros2 launch mrcnet_ros pose.launch.py model:=DIR meshes:=DIR ..."""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription

CONFIG = Path(get_package_share_directory('mrcnet_ros'), 'config')
# Fast DDS 2 of Jazzy only knows the first, Fast DDS 3 prefers the second.
PROFILES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
PROFILE = PROFILES[os.environ.get('ROS_DISTRO') != 'jazzy']
TOPICS = ('image', 'camera_info', 'detections')
ARGUMENTS = {
    'image': ('image', 'topic of the images'),
    'camera_info': ('camera_info', 'topic of their camera_info'),
    'detections': ('detections', 'topic of the detections (vision_msgs/Detection2DArray)'),
    'model': ('', 'directory of the model; empty: as in params_file'),
    'meshes': ('', 'directory of the object meshes; empty: as in params_file'),
    'params_file': (str(CONFIG / 'pose_node.yaml'), 'parameters of the node'),
    'namespace': ('', 'namespace of the node and its topics'),
    'use_sim_time': ('false', 'whether to take the time from /clock'),
    'fastdds_profile': (
        '' if any(map(os.environ.get, PROFILES)) else str(CONFIG / 'fastdds.xml'),
        f'XML profile that gives Fast DDS shared memory for images; empty: as in {PROFILE}'),
}


def actions(context: LaunchContext) -> list:
    """Return what to start, an empty argument leaving the default in place."""
    given = context.launch_configurations
    parameters = {name: given[name] for name in ('model', 'meshes') if given[name]}
    parameters['use_sim_time'] = given['use_sim_time'].lower() in ('true', '1')
    node = Node(
        package='mrcnet_ros', executable='pose_node', name='pose_node', output='screen',
        namespace=given['namespace'], parameters=[given['params_file'], parameters],
        remappings=[(topic, given[topic]) for topic in TOPICS if given[topic] != topic],
    )
    if not given['fastdds_profile']:
        return [node]
    return [SetEnvironmentVariable(PROFILE, given['fastdds_profile']), node]


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and what they start."""
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=default, description=description)
          for name, (default, description) in ARGUMENTS.items()),
        OpaqueFunction(function=actions),
    ])
