"""Mosaics of training crops beside crops of a dataset, written by the real command."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('torch', reason='needs the train extra')

import measured_model
from tiny_model import SPEC, TinyModel

from mrcnet_ros.cli import main as mrcnet
from mrcnet_ros.datasets.bop import BopDataset
from mrcnet_ros.datasets.boxes import BoxSpec, target_boxes
from mrcnet_ros.errors import DatasetError
from mrcnet_ros.evaluation import mosaic
from mrcnet_ros.geometry.crop import crop_camera
from mrcnet_ros.geometry.sampling import sample_crop
from mrcnet_ros.training.config import TrainConfig
from mrcnet_ros.training.held_out import held_out, load_composer, samples_of
from mrcnet_ros.training.run_config import read_config
from mrcnet_ros.training.seeds import HELD_OUT_SEED

COLUMNS = 3


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel) -> Path:
    """Write a configuration, its backgrounds, and a dataset of its objects."""
    folder = tmp_path_factory.mktemp('mosaic')
    measured_model.write_dataset(folder, tiny_model)
    measured_model.write_config(folder / 'train.yaml', tiny_model.config)
    return folder


def draw(folder: Path, *extra: str, output: str = 'mosaic.png') -> int:
    return mrcnet.main(['evaluate', 'mosaic', '--config', str(folder / 'train.yaml'),
                        '--bop-dir', str(folder), '--dataset', measured_model.DATASET,
                        '--views', '4', '--columns', str(COLUMNS),
                        '--output', str(folder / output), *extra])


def tile(picture: np.ndarray, row: int, column: int) -> np.ndarray:
    """Return one image of a mosaic at its own size."""
    step = mosaic.ENLARGED * SPEC.crop.size_px + mosaic.GAP_PX
    top, left = mosaic.HEADING_PX + row * step, mosaic.LABEL_PX + column * step
    large = picture[top:top + step - mosaic.GAP_PX, left:left + step - mosaic.GAP_PX]
    return large[::mosaic.ENLARGED, ::mosaic.ENLARGED]


def held_out_config(folder: Path) -> TrainConfig:
    return held_out(read_config(TrainConfig, folder / 'train.yaml'), views=4)


def test_rows_hold_samples_and_crops_of_each_object(folder: Path) -> None:
    """Each object has a row of its training samples and one of the estimator's crops of it."""
    assert draw(folder) == 0
    picture = cv2.imread(str(folder / 'mosaic.png'))[..., ::-1]
    config = held_out_config(folder)
    composer = load_composer(config, config.load_objects())
    for row, class_index in ((0, 0), (2, 1)):
        samples = samples_of(composer, class_index, HELD_OUT_SEED)
        for column in range(COLUMNS):
            np.testing.assert_array_equal(tile(picture, row, column), next(samples).image)
    dataset = BopDataset(folder, measured_model.DATASET)
    for row, item in ((1, 2), (3, 7)):
        crops = [sample_crop(frame.load_image(), frame.camera,
                             crop_camera(frame.camera, box.box_xyxy, SPEC.crop))
                 for frame in dataset.frames for box in target_boxes(frame, BoxSpec())
                 if box.ground_truth.object_id == item]
        assert crops and any(np.array_equal(tile(picture, row, 0), crop) for crop in crops)


def test_another_seed_shows_other_samples(folder: Path) -> None:
    """The same seed draws the same picture, another one a different one."""
    for name, seed in (('a.png', '1'), ('b.png', '1'), ('c.png', '2')):
        assert draw(folder, '--seed', seed, output=name) == 0
    first, again, other = (cv2.imread(str(folder / n)) for n in ('a.png', 'b.png', 'c.png'))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(tile(first, 0, 0), tile(other, 0, 0))


def test_objects_can_be_chosen(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only their rows are drawn; an unknown label is told with those that there are."""
    assert draw(folder, output='whole.png') == 0
    assert draw(folder, '--objects', 'box', output='box.png') == 0
    whole, one = (cv2.imread(str(folder / n)).shape[0] for n in ('whole.png', 'box.png'))
    assert one - mosaic.HEADING_PX == (whole - mosaic.HEADING_PX) / 2
    assert draw(folder, '--objects', 'cup') == 2
    assert "['cup']" in (said := capsys.readouterr().err) and "['blob', 'box']" in said


def test_held_out_samples_are_not_those_of_training(folder: Path) -> None:
    """Views, backgrounds and draws differ from those of the configuration's own seed."""
    config = read_config(TrainConfig, folder / 'train.yaml')
    own = load_composer(held_out(config, views=4), config.load_objects())
    assert held_out(config).seed not in range(config.seed, config.seed + 1000)
    first, second = (next(samples_of(own, 0, seed)) for seed in (config.seed, HELD_OUT_SEED))
    assert not np.array_equal(first.image, second.image)


def test_other_endings_than_png_are_refused(folder: Path,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    """A name without .png is told before anything is written under it."""
    assert draw(folder, output='mosaic.jpg') == 2
    assert 'ends in .png' in capsys.readouterr().err and not (folder / 'mosaic.jpg').exists()


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """OpenCV says that a small picture was written, and it is empty."""
    path = tmp_path / 'picture.png'
    path.symlink_to('/dev/full')
    with pytest.raises(DatasetError, match=r'picture\.png: cannot be written .*No space left'):
        mosaic.write_picture(path, np.zeros((8, 8, 3), np.uint8))
