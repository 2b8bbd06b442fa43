"""Whether the data of a compressed TIFF are those of its whole picture.

OpenCV goes on with the next strip where one cannot be decoded. Here zlib compares the checksum of
each strip of a deflated file, and Pillow must decode one of LZW. Other compressions, and none,
have nothing that would tell.
"""

from __future__ import annotations

import io
import zlib

from PIL import Image

MAGICS = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')  # of files up to 4 GB, and of larger ones
# Tags and values of the TIFF 6.0 specification and its supplement 2.
_COMPRESSION, _LZW, _DEFLATE = 259, 5, (8, 32946)
_STRIPS, _TILES = (273, 279), (324, 325)  # where they begin, and how many bytes they have


def is_damaged(data: bytes) -> bool:
    """Tell whether a strip or tile of the first picture cannot be decoded.

    What Pillow does not know is not judged.
    """
    try:
        image = Image.open(io.BytesIO(data))
        tags = image.tag_v2  # type: ignore[attr-defined]
        compression = tags.get(_COMPRESSION)
        starts, sizes = (tags.get(tag, ()) for tag in (_STRIPS if _STRIPS[0] in tags else _TILES))
    except Exception:  # Pillow has many for data that it does not know
        return False
    try:
        if compression == _LZW:
            image.load()
        elif compression in _DEFLATE:
            for start, size in zip(starts, sizes, strict=True):
                zlib.decompress(data[start:start + size])
    except (OSError, zlib.error):
        return True
    except Exception:
        return False
    return False
