"""Object meshes for RViz."""

from __future__ import annotations

import colorsys
import zlib
from collections.abc import Mapping
from pathlib import Path

from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Vector3
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from ..inference.poses import PoseEstimate
from ..objects import ObjectModel
from .frames import Scene
from .message_types import HeaderMessage
from .messages import pose_from_transform

# formats that hold their materials in the file itself
_SELF_CONTAINED = ('.dae', '.glb', '.gltf')
_PLY_HEADER_BYTES = 65536  # a header has a few hundred
# saturated and bright, so that a mesh stands out from a photograph and from RViz's grey
_SATURATION, _BRIGHTNESS = 0.65, 0.95


class Markers:
    """Makes the markers of a scene, and takes back those of objects that are gone."""

    def __init__(self) -> None:
        self._shown: set[str] = set()
        self._header = Header()
        self._plain: dict[Path, bool] = {}

    def message(self, header: HeaderMessage, scene: Scene, objects: Mapping[str, ObjectModel], *,
                lifetime_s: float, mesh_folder: str) -> MarkerArray:
        """Return a marker for each object; its namespace is the name of the instance.

        :param objects: by label.
        :param lifetime_s: after which markers vanish by themselves, 0: never.
        :param mesh_folder: URI of a folder in which RViz finds the meshes, '' for the files
            that the node reads.
        """
        markers = [_gone(header, name) for name in sorted(self._shown - set(scene.names))]
        for name, estimate in zip(scene.names, scene.estimates, strict=True):
            model = objects[estimate.label]
            marker = _mesh(header, name, estimate, model, mesh_folder)
            if self._is_plain(model.mesh_path):
                marker.mesh_use_embedded_materials = False
                marker.color = label_colour(estimate.label)
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

    def _is_plain(self, path: Path) -> bool:
        if path not in self._plain:
            self._plain[path] = not has_materials(path)
        return self._plain[path]


def has_materials(path: Path) -> bool:
    """Tell whether RViz finds materials for a mesh file; it shows no colours of vertices.

    Without any, RViz draws a mesh in black (STL) or grey (PLY) unless a marker gives a colour.
    A file that cannot be read has none.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == '.obj':
            return _obj_has_materials(path)
        if suffix == '.ply':
            with path.open('rb') as file:
                header = file.read(_PLY_HEADER_BYTES).partition(b'end_header')[0]
            return b'comment texturefile' in header.lower()
    except OSError:
        return False
    return suffix in _SELF_CONTAINED


def _obj_has_materials(path: Path) -> bool:
    """Tell whether an OBJ uses a material and names a library that is there."""
    used = found = False
    with path.open(encoding='utf-8-sig', errors='replace') as lines:
        for line in lines:
            keyword, _, value = line.strip().partition(' ')
            used |= keyword == 'usemtl'
            if keyword == 'mtllib':
                names = {value.strip().replace('\\', '/'), *value.replace('\\', '/').split()}
                found |= any((path.parent / name).is_file() for name in names)
            if used and found:
                return True
    return False


def label_colour(label: str) -> ColorRGBA:
    """Return an opaque colour, the same for a label in every process."""
    hue = zlib.crc32(label.encode()) % 360 / 360
    r, g, b = colorsys.hsv_to_rgb(hue, _SATURATION, _BRIGHTNESS)
    return ColorRGBA(r=r, g=g, b=b, a=1.0)


def _gone(header: HeaderMessage, name: str) -> Marker:
    return Marker(header=header, ns=name, action=Marker.DELETE)


def _mesh(header: HeaderMessage, name: str, estimate: PoseEstimate, model: ObjectModel,
          mesh_folder: str) -> Marker:
    """Return a mesh in its own colours, which RViz shows when the marker's are all zero."""
    marker = Marker(header=header, ns=name, type=Marker.MESH_RESOURCE, action=Marker.ADD)
    marker.pose = pose_from_transform(estimate.T_camera_object)
    unit_m = float(model.unit_m * model.size_ratio)
    marker.scale = Vector3(x=unit_m, y=unit_m, z=unit_m)
    path = model.mesh_path
    marker.mesh_resource = (f'{mesh_folder.rstrip("/")}/{path.name}' if mesh_folder
                            else path.resolve().as_uri())
    marker.mesh_use_embedded_materials = True
    return marker
