"""Picture files as textures."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import MeshError
from ..reading import jpeg

# Pillow clips the values of these to 8 bits instead of scaling them
DEEP_MODES = ('I', 'F')
OPAQUE = np.uint8(255)


@dataclass(frozen=True, eq=False)
class EmbeddedPicture:
    """A texture that is part of a mesh file.

    :param pixels: (H, W, 3) uint8 RGB, first row on top.
    :param opacity: (H, W) uint8, None where all is opaque.
    """

    pixels: NDArray[np.uint8]
    opacity: NDArray[np.uint8] | None = None


def read_picture(mesh: Path, image: Path | EmbeddedPicture) -> NDArray[np.uint8]:
    """Read a texture; transparency does not count.

    :param mesh: the file that uses it, for messages.
    :param image: a file, or what the mesh file holds itself.
    :return: (H, W, 3) uint8 RGB, first row on top.
    :raises MeshError: when it cannot be read, or has more than 8 bits a channel.
    """
    return image.pixels if isinstance(image, EmbeddedPicture) else _channels(mesh, image, 'RGB')


def read_opacity(mesh: Path, image: Path | EmbeddedPicture) -> NDArray[np.uint8]:
    """Read how opaque a texture is: its alpha channel, or 255 without one.

    :return: (H, W) uint8, first row on top.
    :raises MeshError: when it cannot be read.
    """
    from PIL import Image

    if isinstance(image, EmbeddedPicture):
        return _all_opaque(image.pixels.shape[:2]) if image.opacity is None else image.opacity
    try:
        with Image.open(image) as opened:
            if not opened.has_transparency_data:
                return _all_opaque(opened.size[::-1])
    except Exception as error:  # Pillow raises whatever its decoders meet
        raise _unreadable(mesh, image, error) from error
    return np.asarray(_channels(mesh, image, 'RGBA')[..., 3])


def _all_opaque(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.full(shape, OPAQUE, np.uint8)


def read_mask(mesh: Path, image: Path) -> NDArray[np.uint8]:
    """Read a picture of opacity alone: its alpha channel, or its brightness without one.

    :return: (H, W) uint8, first row on top.
    :raises MeshError: when it cannot be read.
    """
    alpha = read_opacity(mesh, image)
    return alpha if (alpha < OPAQUE).any() else np.asarray(_channels(mesh, image, 'L'))


def _channels(mesh: Path, image: Path, wanted: str) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        data = image.read_bytes()
        if data.startswith(jpeg.MAGIC) and jpeg.has_hole(data):
            raise ValueError('it is damaged: data of it are missing')
        with Image.open(io.BytesIO(data)) as opened:
            mode = opened.mode
            pixels = np.array(opened.convert(wanted), dtype=np.uint8)
    except Exception as error:  # Pillow raises whatever its decoders meet
        raise _unreadable(mesh, image, error) from error
    if mode.startswith(DEEP_MODES):
        raise MeshError(mesh, f'its texture {image} has more than 8 bits a channel',
                        'save it with 8 bits')
    return pixels


def _unreadable(mesh: Path, image: Path, error: Exception) -> MeshError:
    return MeshError(mesh, f'its texture {image} cannot be read ({error})')
