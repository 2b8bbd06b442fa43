"""Former place of :mod:`mrcnet_ros.datasets.bop`, for programs that import it from here."""

import importlib
import sys

sys.modules[__name__] = importlib.import_module('mrcnet_ros.datasets.bop')
