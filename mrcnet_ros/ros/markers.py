"""Object meshes for RViz."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Vector3
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from ..inference.poses import PoseEstimate
from ..objects import ObjectModel
from .frame_handler import Scene
from .messages import pose_from_transform


class Markers:
    """Makes the markers of a scene, and takes back those of objects that are gone."""

    def __init__(self) -> None:
        """Start with nothing shown."""
        self._shown: set[str] = set()
        self._header = Header()

    def message(
        self, header: Any, scene: Scene, objects: Mapping[str, ObjectModel], *,
        lifetime_s: float, mesh_folder: str,
    ) -> MarkerArray:
        """Return a marker for each object; its namespace is the name of the instance.

        :param header: of the image.
        :param objects: by label.
        :param lifetime_s: after which markers vanish by themselves, 0: never.
        :param mesh_folder: URI of a folder in which RViz finds the meshes, '' for the files
            that the node reads.
        """
        markers = [_gone(header, name) for name in sorted(self._shown - set(scene.names))]
        for name, estimate in zip(scene.names, scene.estimates, strict=True):
            marker = _mesh(header, name, estimate, objects[estimate.label], mesh_folder)
            nanoseconds = round(lifetime_s * 1e9)
            marker.lifetime = Duration(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)
            markers.append(marker)
        self._shown, self._header = set(scene.names), header
        return MarkerArray(markers=markers)


    def farewell(self) -> MarkerArray:
        """Return what takes back all that is shown; empty when nothing is."""
        markers = [_gone(self._header, name) for name in sorted(self._shown)]
        self._shown = set()
        return MarkerArray(markers=markers)


def _gone(header: Any, name: str) -> Marker:
    return Marker(header=header, ns=name, action=Marker.DELETE)


def _mesh(
    header: Any, name: str, estimate: PoseEstimate, model: ObjectModel, mesh_folder: str,
) -> Marker:
    """Return a mesh in its own colours, which RViz shows when the marker's are all zero."""
    marker = Marker(header=header, ns=name, type=Marker.MESH_RESOURCE, action=Marker.ADD)
    marker.pose = pose_from_transform(estimate.T_camera_object)
    unit_m = float(model.unit_m)
    marker.scale = Vector3(x=unit_m, y=unit_m, z=unit_m)
    path = model.mesh_path
    marker.mesh_resource = (f'{mesh_folder.rstrip("/")}/{path.name}' if mesh_folder
                            else path.resolve().as_uri())
    marker.mesh_use_embedded_materials = True
    return marker
