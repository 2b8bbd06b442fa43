"""The file format of stored templates."""

from __future__ import annotations

import hashlib
import io
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = b'mrcnet templates\n'


def encode_template(key: dict[str, Any], rgb: NDArray[np.uint8],
                    depth_m: NDArray[np.float32]) -> bytes:
    """Pack the foreground pixels of templates behind a checksum.

    :param key: plain data, what they were made from.
    :param rgb: (M, S, S, 3) uint8, zero outside the foreground.
    :param depth_m: (M, S, S) float32 [m], above zero in the foreground.
    """
    mask = depth_m > 0
    body = io.BytesIO()
    np.savez(
        body, key=np.frombuffer(json.dumps(key).encode(), np.uint8),
        shape=np.array(mask.shape), mask=np.packbits(mask), rgb=rgb[mask], depth=depth_m[mask],
    )
    data = body.getvalue()
    return MAGIC + hashlib.sha256(data).digest() + data


def decode_template(data: bytes, key: dict[str, Any], shape: tuple[int, int]
                     ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Undo :func:`encode_template`.

    :param key: what the templates must have been made from.
    :param shape: M and S they must have.
    :return: rgb and depth_m.
    :raises ValueError: when the data are damaged or were made from something else.
    """
    start = len(MAGIC) + hashlib.sha256().digest_size
    if not data.startswith(MAGIC):
        raise ValueError('not a template file')
    if hashlib.sha256(data[start:]).digest() != data[len(MAGIC):start]:
        raise ValueError(f'checksum differs, {len(data)} bytes')
    with np.load(io.BytesIO(data[start:]), allow_pickle=False) as file:
        if json.loads(file['key'].tobytes()) != json.loads(json.dumps(key)):
            raise ValueError('made from another mesh or other specs')
        count, size = shape
        if tuple(file['shape']) != (count, size, size):
            raise ValueError(f'holds {tuple(file["shape"])}, expected {(count, size, size)}')
        mask = np.unpackbits(file['mask'], count=count * size * size).astype(np.bool_)
        rgb = np.zeros((count * size * size, 3), np.uint8)
        depth_m = np.zeros(count * size * size, np.float32)
        rgb[mask], depth_m[mask] = file['rgb'], file['depth']
    return rgb.reshape(count, size, size, 3), depth_m.reshape(count, size, size)
