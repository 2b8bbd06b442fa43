"""Parts of the data that are left out of a fit in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray


def parts_of(images: Sequence[tuple[int, int]], most: int) -> NDArray[np.int64]:
    """Return the part of each item, (N,): that of its image.

    :param images: scene and image of each item.
    :param most: number of parts; of more images, several share a part.
    """
    number = {image: i % most for i, image in enumerate(sorted(set(images)))}
    return np.array([number[image] for image in images], np.int64)


def each_left_out(parts: NDArray[np.int64]) -> Iterator[NDArray[np.bool_]]:
    """Yield which items are left out, (N,), part after part.

    :param parts: (N,) the part of each item.
    """
    for number in np.unique(parts):
        yield np.asarray(parts == number)
