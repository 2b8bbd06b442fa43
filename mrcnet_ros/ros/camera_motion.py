"""Where the camera is in a fixed frame, from /tf."""

from __future__ import annotations

from rclpy.time import Time
from tf2_ros import Buffer, TransformException, TransformListener

from ..geometry.se3 import Array, make_transform, rotation_from_quat_wxyz
from .message_types import HeaderMessage, NodeHandle


class CameraMotion:
    """Looks up the camera; while /tf does not tell, it is taken to rest.

    :param node: that listens.
    """

    def __init__(self, node: NodeHandle) -> None:
        """Start to listen to /tf and /tf_static."""
        self._node, self._buffer = node, Buffer(node=node)
        self._listener = TransformListener(self._buffer, node)
        self._last: dict[tuple[str, str], Array] = {}

    def close(self) -> None:
        """Stop to listen."""
        for subscription in (self._listener.tf_sub, self._listener.tf_static_sub):
            self._node.destroy_subscription(subscription)

    def look_up(self, header: HeaderMessage, fixed_frame: str) -> Array | None:
        """Return T_fixed_camera, (4, 4) [m], at the stamp of a header.

        A transform of that very moment often comes after the image; then the newest one counts.

        :return: None when /tf has never told where the camera is in that frame.
        """
        key = fixed_frame, header.frame_id
        for moment in (Time.from_msg(header.stamp), Time()):
            try:
                found = self._buffer.lookup_transform(fixed_frame, header.frame_id, moment)
            except TransformException:
                continue
            t, q = found.transform.translation, found.transform.rotation
            self._last[key] = make_transform(rotation_from_quat_wxyz([q.w, q.x, q.y, q.z]),
                                             [t.x, t.y, t.z])
            break
        return self._last.get(key)
