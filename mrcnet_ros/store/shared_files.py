"""Where the files that come with the package are, however it was installed."""

from __future__ import annotations

import sys
from pathlib import Path

from ..errors import DatasetError

PACKAGE = 'mrcnet_ros'


def shared_file(name: str) -> Path:
    """Return a file or folder that is installed into share/mrcnet_ros.

    :param name: path below it, such as ``models/demo``; in a checkout, below its root.
    :raises DatasetError: when there is none.
    """
    places = [Path(__file__).resolve().parents[2], Path(sys.prefix, 'share', PACKAGE)]
    try:
        from ament_index_python.packages import get_package_share_directory

        places.append(Path(get_package_share_directory(PACKAGE)))
    except (ImportError, LookupError, OSError):  # not installed as ament does
        pass
    for place in places:
        if (place / name).exists():
            return place / name
    raise DatasetError(f'{name} is in none of {", ".join(map(str, places))}')
