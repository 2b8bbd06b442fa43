"""Whether there is an NVIDIA driver with a GPU: asked before any GPU runtime is touched.

Without a driver some of those end the process instead of raising an error.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

CUDA_SUCCESS = 0  # of the type CUresult
REMEDY = 'install the NVIDIA driver, or choose a backend that runs on the processor'


def _load_driver() -> Any:
    return ctypes.CDLL('libcuda.so.1')


def cuda_problem(load: Callable[[], Any] = _load_driver) -> str:
    """Return why no NVIDIA GPU can be used and what to do, '' when one can.

    :param load: gives the driver's library; raises OSError when there is none.
    """
    try:
        driver = load()
    except OSError as error:
        return f'needs an NVIDIA driver, but libcuda cannot be loaded ({error}); {REMEDY}'
    code = int(driver.cuInit(0))
    if code != CUDA_SUCCESS:
        return f'needs an NVIDIA GPU, but cuInit of libcuda failed with error {code}; {REMEDY}'
    count = ctypes.c_int(0)
    code = int(driver.cuDeviceGetCount(ctypes.byref(count)))
    if code != CUDA_SUCCESS or count.value < 1:
        return f'needs an NVIDIA GPU, but the driver sees {count.value}; {REMEDY}'
    return ''


def gpu_name(load: Callable[[], Any] = _load_driver) -> str:
    """Return the name of the first GPU; only where :func:`cuda_problem` finds none."""
    driver, name, device = load(), ctypes.create_string_buffer(256), ctypes.c_int()
    driver.cuInit(0)
    driver.cuDeviceGet(ctypes.byref(device), 0)
    driver.cuDeviceGetName(name, len(name), device)
    return name.value.decode()
