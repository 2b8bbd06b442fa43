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


@dataclass(frozen=True, eq=False)
class EmbeddedPicture:
    """A texture that is part of a mesh file.

    :param pixels: (H, W, 3) uint8 RGB, first row on top.
    """

    pixels: NDArray[np.uint8]


def read_picture(mesh: Path, image: Path | EmbeddedPicture) -> NDArray[np.uint8]:
    """Read a texture; transparency does not count.

    :param mesh: the file that uses it, for messages.
    :param image: a file, or what the mesh file holds itself.
    :return: (H, W, 3) uint8 RGB, first row on top.
    :raises MeshError: when it cannot be read, or has more than 8 bits a channel.
    """
    from PIL import Image

    if isinstance(image, EmbeddedPicture):
        return image.pixels
    try:
        data = image.read_bytes()
        if data.startswith(jpeg.MAGIC) and jpeg.has_hole(data):
            raise ValueError('it is damaged: data of it are missing')
        with Image.open(io.BytesIO(data)) as opened:
            mode = opened.mode
            pixels = np.array(opened.convert('RGB'), dtype=np.uint8)
    except Exception as error:  # Pillow raises whatever its decoders meet
        raise MeshError(mesh, f'its texture {image} cannot be read ({error})') from error
    if mode.startswith(DEEP_MODES):
        raise MeshError(mesh, f'its texture {image} has more than 8 bits a channel',
                        'save it with 8 bits')
    return pixels
