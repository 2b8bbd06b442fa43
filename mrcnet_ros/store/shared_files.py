"""Where the files that come with the package are, however it was installed."""

from __future__ import annotations

import site
import sys
import sysconfig
from pathlib import Path

from ..errors import DatasetError

PACKAGE = 'mrcnet_ros'


def shared_file(name: str) -> Path:
    """Return a file or folder that is installed into share/mrcnet_ros.

    :param name: path below it, such as ``models/demo``; in a checkout, below its root.
    :raises DatasetError: when there is none.
    """
    # pip puts data elsewhere with --user, and into the Python of Debian and Ubuntu
    roots = dict.fromkeys((sys.prefix, sysconfig.get_path('data'), site.getuserbase()))
    places = [Path(__file__).resolve().parents[2],
              *(Path(root, 'share', PACKAGE) for root in roots)]
    try:
        from ament_index_python.packages import get_package_share_directory

        places.append(Path(get_package_share_directory(PACKAGE)))
    except (ImportError, LookupError, OSError):  # not installed as ament does
        pass
    for place in places:
        if (place / name).exists():
            return place / name
    raise DatasetError(f'{name} is in none of {", ".join(map(str, places))}')
