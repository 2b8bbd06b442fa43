"""Makes a small BOP dataset of any objects: pictures, ground truth, models, targets."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..datasets.bop import MIN_VISIBLE_FRACTION, RENDERED_FILE
from ..datasets.bop_scene import read_json
from ..datasets.bop_writer import SceneWriter, camera_entry, write_bop_json, write_models
from ..errors import DatasetError
from ..geometry.camera import Camera
from ..store.lock import try_lock
from .depth_sensor import measured_depth
from .scene_maker import AnnotatedPicture, SceneMaker, SequenceMaker, SynthSpec
from .source import Source

DEPTH, ONE_CAMERA = 1_000_011, 1_000_012  # far from the numbers of images


def make_dataset(folder: Path, split: str, source: Source, spec: SynthSpec, *,
                 backgrounds: Sequence[Path] = (), grey: bool = False,
                 progress: Callable[[int], object] | None = None) -> None:
    """Write a split of a dataset, and its models and camera where they are not there yet.

    The split gets its name when it is complete. What an interrupted run left is replaced. Several
    splits of a dataset may be made at the same time.

    :param backgrounds: photographs and environment maps; none for noise.
    :param grey: write images as ITODD has them, ``gray/*.tif``.
    :param progress: called with the number of images just written.
    :raises DatasetError: when the split exists or is being made, or the dataset is of other models
        or another camera, or a background cannot be read, or a file cannot be written.
    :raises MeshError: when a mesh cannot be used.
    """
    if not split or Path(split).name != split or split.startswith('models') or (
            split.endswith('.part')):
        raise DatasetError(f'split must be the name of a folder for scenes, such as test or '
                           f'train_pbr, got {split!r}')
    kind = split.split('_')[0]
    targets_file = folder / f'{kind}_targets_bop19.json'
    _check_targets(targets_file, split)
    if (folder / split).exists():
        raise DatasetError(f'{folder / split} exists and is left as it is; choose another split '
                           'or output, or remove it')
    part = folder / f'{split}.part'
    try:
        with _claimed(part):
            made, kept = part / 'models', folder / 'models'
            write_models(made, source.objects, source.symmetries)
            _check_models(kept, made)
            _check_camera(folder / 'camera.json', spec.camera)
            targets: list[dict[str, int]] = []
            kind_of_scenes = SceneMaker if spec.rate_hz is None else SequenceMaker
            with kind_of_scenes(source.objects, spec, backgrounds) as maker:
                for scene in range(1, spec.scenes + 1):
                    targets += _write_scene(part, scene, maker, spec, grey, progress)
            if not targets:
                raise DatasetError(f'{part}: in no image a tenth of an object is visible; give '
                                   'another distance, or larger images')
            _check_models(kept, made)  # another split may have brought some
            _check_camera(folder / 'camera.json', spec.camera)
            _check_targets(targets_file, split)
            write_bop_json(part / RENDERED_FILE, {'made_by': 'mrcnet synth'})
            if not kept.exists():
                made.rename(kept)
            if not (folder / 'camera.json').exists():
                write_bop_json(folder / 'camera.json', camera_entry(spec.camera))
        part.rename(folder / split)
        if kind != 'train':  # without the file, all that is visible is a target: the same ones
            write_bop_json(targets_file, targets)
    except OSError as error:
        raise DatasetError(f'{folder}: cannot be written ({error.strerror})') from error


@contextlib.contextmanager
def _claimed(part: Path) -> Iterator[None]:
    """Keep a folder for this process, empty at first; at the end it holds scenes alone.

    :raises DatasetError: when another process is at work in it.
    """
    part.mkdir(parents=True, exist_ok=True)
    lock = part / 'lock'
    with lock.open('w') as file:
        if not try_lock(file):
            raise DatasetError(f'{part} is being written by another command; wait until it is '
                               'done, or choose another split or output')
        for path in part.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path != lock:
                path.unlink()
        try:
            yield
        finally:
            shutil.rmtree(part / 'models', ignore_errors=True)
            lock.unlink()
            with contextlib.suppress(OSError):
                part.rmdir()  # unless it holds something


def _write_scene(part: Path, scene: int, maker: SceneMaker, spec: SynthSpec, grey: bool,
                 progress: Callable[[int], object] | None) -> list[dict[str, int]]:
    """Write a scene and return its targets: objects that are visible by a tenth or more."""
    placed, targets = maker.arrange(scene), []
    writer = SceneWriter(part / f'{scene:06d}', spec.camera, grey=grey)
    with contextlib.closing(writer):
        for image in range(spec.images):
            shot = maker.photograph(placed, scene, image)
            writer.write(image, shot.image_rgb, _depth_m(shot, spec, scene, image),
                         shot.T_camera_world, shot.instances,
                         image / spec.rate_hz if spec.rate_hz else None)
            counts = Counter(i.object_id for i in shot.instances
                             if i.visible_fraction >= MIN_VISIBLE_FRACTION)
            targets += [{'scene_id': scene, 'im_id': image, 'obj_id': object_id,
                         'inst_count': count} for object_id, count in sorted(counts.items())]
            if progress is not None:
                progress(1)
    return targets


def _depth_m(shot: AnnotatedPicture, spec: SynthSpec, scene: int,
             image: int) -> NDArray[np.float32]:
    """Return the depth image, (H, W) [m]; the images of a sequence are of one camera."""
    if spec.sensor is None:
        return shot.depth_m
    rng, shared_rng = (np.random.default_rng([spec.seed, scene, DEPTH, number])
                       for number in (image, ONE_CAMERA))
    return measured_depth(shot.depth_m, float(spec.camera.K[0, 0]), rng, spec.sensor,
                          shared_rng if spec.rate_hz else None)


def _check_models(kept: Path, made: Path) -> None:
    """Check that the models of another split, if there are any, are the same."""
    if kept.exists() and _contents(made) != _contents(kept):
        raise DatasetError(f'{kept} holds other models; choose another output')


def _check_targets(path: Path, split: str) -> None:
    """Check that a file of targets, if it is there, is not of another split."""
    folder, kind = path.parent, split.split('_')[0]
    others = [other.name for other in (folder / kind, *folder.glob(f'{kind}_*'))
              if other.is_dir() and other.suffix != '.part' and other.name != split]
    if others and path.exists():
        raise DatasetError(f'{path} is of the split {others[0]}, and BOP has one such file for '
                           f'all splits whose names begin with {kind}; choose another split or '
                           'output')
    if path.exists() and not (folder / split).exists():
        raise DatasetError(f'{path} exists without {folder / split}, and would be replaced; '
                           'choose another output, or remove it')


def _check_camera(path: Path, camera: Camera) -> None:
    """Check that the camera of another split, if there is any, is the same."""
    entry = camera_entry(camera)
    if path.exists() and {key: read_json(path).get(key) for key in entry} != entry:
        raise DatasetError(f'{path} is of another camera; choose another output, or the same '
                           'size and intrinsics')


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
