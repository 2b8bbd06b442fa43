"""The ROS 2 node: parameters, messages, wiring; no pose mathematics."""
