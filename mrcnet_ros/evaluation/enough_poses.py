"""How many poses a calibration must be fitted to."""

from __future__ import annotations

from ..errors import DatasetError

# Errors of one image are alike, so the number of images counts, not only that of poses.
MIN_POSES = 50
MIN_IMAGES = 8  # with fewer, a calibration fits these images alone


def check_enough_poses(poses: int, images: int, wanted: str, *,
                       least: tuple[int, int] = (MIN_POSES, MIN_IMAGES), kind: str = '') -> None:
    """Check that there are enough poses to fit something to.

    :param wanted: what is to be fitted, for the message.
    :param least: poses and images; fewer are too few.
    :param kind: which poses count, for the message.
    :raises DatasetError: when there are too few.
    """
    if poses < least[0] or images < least[1]:
        raise DatasetError(f'{poses} poses on {images} images are too few to fit a {wanted}: '
                           f'{least[0]} on {least[1]} images are needed{kind}')
