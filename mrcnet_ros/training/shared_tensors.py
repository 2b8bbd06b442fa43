"""Tensors in memory that all processes of a training share."""

from __future__ import annotations

from torch import Tensor

from ..errors import MrcnetError
from ..store.shared_memory import MIB, room_told, shared_room


def shared(tensor: Tensor) -> Tensor:
    """Move a tensor into shared memory and return it.

    :raises MrcnetError: when there is not enough of it, as in most containers.
    """
    check_room(tensor.nbytes)
    try:
        tensor.share_memory_()
    except RuntimeError as error:  # another process has taken it meanwhile
        if 'No space left' not in str(error):
            raise
        raise _full(tensor.nbytes) from error
    return tensor


def check_room(size: int) -> None:
    """Refuse what does not fit into shared memory, before it is rendered.

    :param size: in bytes.
    :raises MrcnetError: when there is less.
    """
    if size > shared_room()[1]:
        raise _full(size)


def _full(size: int) -> MrcnetError:
    return MrcnetError(
        f'{room_told()}, and {size / MIB:.0f} more are needed to share views and templates: start '
        'the container with --ipc=host or a larger --shm-size, or set views lower')
