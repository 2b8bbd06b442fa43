"""Patches and light from folders of images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('torch', reason='needs the train extra')

from mrcnet_ros.errors import DatasetError
from mrcnet_ros.training import backgrounds


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Write more images than patches: twenty grey ones, then ten that are striped."""
    grey, stripes = np.full((8, 8, 3), 99, np.uint8), np.zeros((8, 8, 3), np.uint8)
    stripes[::2] = 255
    paths = [tmp_path / f'{number:02}.png' for number in range(30)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), grey if number < 20 else stripes)
    return paths


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the files that are read, in order."""
    found: list[Path] = []
    read_linear = backgrounds.read_linear
    monkeypatch.setattr(backgrounds, 'read_linear',
                        lambda path: found.append(path) or read_linear(path))
    return found


def test_of_more_images_than_patches_some_of_all_folders_are_read(images, read):
    """A third of the images, named last, gives a third of the patches; the rest is not read."""
    patches = backgrounds.background_patches(images, 12, seed=0)
    assert len(read) == len(set(read)) == 12
    assert {images[0], images[-1]} <= set(read)
    assert sum(np.ptp(patch) > 0 for patch in patches) == 4


def test_of_fewer_images_than_patches_each_is_read_once(images, read):
    """And gives as many patches as the others."""
    assert len(backgrounds.background_patches(images[:3], 12, seed=0)) == 12
    assert read == images[:3]


def test_photographs_are_not_read_for_their_light(images, read):
    """Their names tell that they are no environment maps; without one light is even."""
    assert backgrounds.irradiance_matrices(images).shape == (1, 3, 4, 4)
    assert not read


def test_files_that_macos_puts_beside_images_are_no_images(images):
    """Their names begin with a dot, and end as those of the images do."""
    folder = images[0].parent
    for path in images:
        path.with_name(f'._{path.name}').write_bytes(b'\0\5\x16\7' + bytes(100))
    assert backgrounds.find_images([folder]) == images


def test_images_that_are_not_taken_are_told(images, caplog):
    """Of another kind, or in folders of the folder: one stray picture would be the only one."""
    folder = images[0].parent
    assert backgrounds.find_images([folder]) == images
    (folder / 'empty').mkdir()
    (folder / 'notes.txt').touch()
    assert backgrounds.find_images([folder]) == images and not caplog.records
    images[0].rename(folder / '00.webp')
    (folder / 'kitchen').mkdir()
    images[1].rename(folder / 'kitchen' / '01.png')
    for _ in range(2):
        assert backgrounds.find_images([folder]) == images[2:]
    assert [r.getMessage() for r in caplog.records] == [
        f'background folder {folder}: 28 images are taken and files .webp and images in its 1 '
        'folders, such as kitchen left out; convert them to .jpg or .png, or name their folders, '
        'too']


@pytest.mark.parametrize('content', [b'', b'<html>not found</html>'])
def test_one_file_that_is_no_image_is_told_before_the_work_begins(images, content):
    """Whichever it is; the first patches may not need it."""
    backgrounds.check_images(images)
    images[7].write_bytes(content)
    with pytest.raises(DatasetError, match=rf'1 of 30 background .* be read.*{images[7]}'):
        backgrounds.check_images(images)
