"""Photographs with outlines: of all poses, and of the best, the median and the worst ones."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..datasets.bop import BopFrame, ResultRow
from ..errors import DatasetError
from ..geometry.camera import Camera
from ..geometry.se3 import Array
from ..objects import ObjectModel
from ..rendering.drawing import GREEN, WHITE, Image, scaled_intrinsics
from ..rendering.pose_overlay import DrawnObject, PoseOverlay, pose_text
from ..store.atomic import writing
from .mosaic import write_picture
from .scores import TargetScore

# Side of a picture [px] and pictures of a gallery at most. Larger or more of them show more and
# make the page larger: it holds them all.
TILE_PX = 320
TILES = 6
# of the side of a picture to that of the square around both outlines
MARGIN = 1.5
# Side of the cut in the photograph [px]: smaller ones show no surroundings, larger ones are of
# poses that nearly touch the camera.
SMALLEST_PX, LARGEST_PX = 48.0, 4000.0
JPEG_QUALITY = 85  # higher makes the page larger, lower blurs outlines

LoadImage = Callable[[BopFrame], Image]
PICTURE = re.compile(r'\d{6}_\d{6}\.png')  # names of the pictures of scenes and images
SCALE = 2  # pictures are this many times larger than photographs: outlines stay thin


@dataclass(frozen=True, eq=False)
class Tile:
    """One pose.

    :param jpeg: square picture: the truth in white, the estimate in green with its axes.
    :param lines: errors and score in words.
    """

    jpeg: bytes
    title: str
    lines: tuple[str, ...]


def best_median_worst(targets: Sequence[TargetScore], objects: Mapping[int, ObjectModel],
                      ) -> dict[str, list[TargetScore]]:
    """Return at most ``TILES`` best, median and worst poses by MSSD in diameters, none twice."""
    found = sorted((t for t in targets if t.mssd_m is not None),
                   key=lambda t: (t.mssd_m or 0.0) / objects[t.object_id].diameter_m)
    total = len(found)
    best = min(TILES, math.ceil(total / 3))
    worst = min(TILES, math.ceil((total - best) / 2))
    median = min(TILES, total - best - worst)
    first = max(best, (total - median) // 2)
    groups = {'best': found[:best], 'median': found[first:first + median],
              'worst': found[total - worst:][::-1]}
    return {name: group for name, group in groups.items() if group}


def draw_galleries(targets: Sequence[TargetScore], frames: Sequence[BopFrame], load: LoadImage,
                   objects: Mapping[int, ObjectModel], labels: Mapping[int, str]
                   ) -> dict[str, list[Tile]]:
    """Draw the best, the median and the worst poses.

    :param load: returns the photograph of an image.
    :param objects: by object id, as the targets were scored with.
    :raises BackendError: when there is no headless OpenGL.
    :raises MrcnetError: when a photograph or a mesh cannot be read.
    """
    by_name = {(f.scene_id, f.image_id): f for f in frames}
    overlay = PoseOverlay({str(i): model for i, model in objects.items()})
    try:
        return {name: [_tile(overlay, t, by_name[t.scene_id, t.image_id], load,
                             (objects[t.object_id], labels.get(t.object_id, '')))
                       for t in group]
                for name, group in best_median_worst(targets, objects).items()}
    finally:
        overlay.close()


def _tile(overlay: PoseOverlay, target: TargetScore, frame: BopFrame, load: LoadImage,
          known: tuple[ObjectModel, str]) -> Tile:
    model, label = known
    if target.estimate is None or target.truth is None or target.difference is None:
        raise DatasetError('a target without an estimate cannot be drawn')
    poses = [target.truth.T_camera_object, target.estimate.T_camera_object]
    picture, camera = close_up(load(frame), frame.camera, poses, model)
    name = str(target.object_id)
    picture = overlay.draw(picture, camera, [
        DrawnObject(name, poses[0], '', WHITE, axes=False),
        DrawnObject(name, poses[1], '', GREEN)])
    data = cv2.imencode('.jpg', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR),
                        [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    mssd_m, residual_m = target.mssd_m or 0.0, target.estimate.residual_m
    depth = [] if residual_m is None else [f'{1e3 * residual_m:.1f} mm off the measured surface']
    return Tile(data.tobytes(), f'{label or name}, {target.scene_id}/{target.image_id}', (
        f'MSSD {1e3 * mssd_m:.1f} mm, {mssd_m / model.diameter_m:.1%} of the diameter',
        f'turned {np.degrees(target.difference.rotation_rad):.1f}°, '
        f'depth {1e3 * target.difference.depth_m:+.1f} mm',
        f'score {target.score:.2f}, {target.visible_fraction:.0%} visible', *depth))


def close_up(image: Image, camera: Camera, poses: Sequence[Array], model: ObjectModel
             ) -> tuple[Image, Camera]:
    """Return a square part of a photograph around an object, enlarged, and its camera.

    :param image: (H, W, 3) uint8.
    :param poses: (4, 4) T_camera_object [m] each; those in front of the camera are in the square.
    """
    low, high = model.bounds()
    corners = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1])
                        for z in (low[2], high[2])])
    points = np.concatenate([corners @ T[:3, :3].T + T[:3, 3] for T in poses])
    points = points[points[:, 2] > 1e-3]
    uv = camera.project(points / points[:, 2:])
    uv = uv[np.isfinite(uv).all(axis=1)]
    if not len(uv):
        uv = np.array([[0.0, 0.0], [image.shape[1], image.shape[0]]])
    middle = (uv.min(axis=0) + uv.max(axis=0)) / 2
    side = float(np.clip(MARGIN * np.ptp(uv, axis=0).max(), SMALLEST_PX, LARGEST_PX))
    scale = TILE_PX / side
    # integer coordinates are pixel centres, before and after
    shift = (TILE_PX - 1) / 2 - scale * middle
    move = np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]], [0.0, 0.0, 1.0]])
    picture = cv2.warpAffine(image, move[:2], (TILE_PX, TILE_PX), flags=cv2.INTER_LINEAR,
                             borderMode=cv2.BORDER_CONSTANT, borderValue=(40, 40, 40))
    return np.asarray(picture, np.uint8), Camera(
        move @ camera.K, TILE_PX, TILE_PX, camera.distortion_model, camera.distortion)


def _picture_name(frame: BopFrame) -> str:
    return f'{frame.scene_id:06d}_{frame.image_id:06d}.png'


class OverlayWriter(AbstractContextManager['OverlayWriter']):
    """Writes one picture an image: truth in white, estimates in green with label and score.

    Where depth corrected a pose, its distance from the measured surface stands there too.

    Pictures are twice as large as the photographs, so that outlines stay thin.

    :param folder: where to, made when missing.
    :param objects: by object id.
    :param frames: that will be drawn.
    :raises BackendError: when there is no headless OpenGL.
    :raises MeshError: when a mesh cannot be read.
    :raises DatasetError: when the folder cannot be made, or holds pictures of other images, which
        would lie among the new ones.
    """

    def __init__(self, folder: Path, objects: Mapping[int, ObjectModel],
                 labels: Mapping[int, str], frames: Iterable[BopFrame]) -> None:
        """Make the folder and read the meshes."""
        with writing(folder):
            folder.mkdir(exist_ok=True)
        others = sorted({path.name for path in folder.iterdir() if PICTURE.fullmatch(path.name)}
                        - {_picture_name(frame) for frame in frames})
        if others:
            raise DatasetError(f'{folder}: holds {len(others)} pictures of an earlier run with '
                               f'other images, such as {others[0]}; give another folder, or '
                               'remove them')
        self._folder, self._labels = folder, labels
        self._overlay = PoseOverlay({str(i): model for i, model in objects.items()})
        for i in objects:
            self._overlay.upload(str(i))

    def __exit__(self, *_: object) -> None:
        self._overlay.close()

    def write(self, frame: BopFrame, image: Image, rows: Sequence[ResultRow]) -> Path:
        """Draw and save one picture.

        :param image: (H, W, 3) uint8 RGB.
        :param rows: the estimates for the image.
        :return: the file.
        :raises DatasetError: when it cannot be written.
        """
        large = cv2.resize(image, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_LINEAR)
        camera = Camera(scaled_intrinsics(frame.camera.K, SCALE), large.shape[1], large.shape[0])
        truths = frame.target_ground_truth() if frame.annotated else ()
        drawn = [DrawnObject(str(t.object_id), t.T_camera_object, '', WHITE, axes=False)
                 for t in truths]
        drawn += [DrawnObject(str(row.object_id), row.T_camera_object,
                              pose_text(self._labels[row.object_id], row.score, row.residual_m),
                              axes=False) for row in rows]
        picture = self._overlay.draw(large, camera, drawn)
        path = self._folder / _picture_name(frame)
        write_picture(path, picture)
        return path
