"""Exceptions of this package; each builds its own text from the values at fault."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class MrcnetError(Exception):
    """Base of every error this package raises on purpose."""


class ModelError(MrcnetError):
    """A model directory is incomplete, damaged, or made for other specs."""

    def __init__(self, path: Path | str, problem: str, remedy: str = '') -> None:
        """Name the directory or file, what is wrong with it, and what to do."""
        self.path = Path(path)
        super().__init__(_join(f'model {self.path}: {problem}', remedy))


class MeshError(MrcnetError):
    """A mesh is missing, unreadable, in the wrong unit, or not the one a model was trained on."""

    def __init__(self, path: Path | str, problem: str, remedy: str = '') -> None:
        """Name the mesh file, what is wrong with it, and what to do."""
        self.path = Path(path)
        super().__init__(_join(f'mesh {self.path}: {problem}', remedy))


class ImageError(MrcnetError):
    """An image cannot be read or has an encoding or size that cannot be used."""


class CameraError(MrcnetError):
    """Camera intrinsics or distortion cannot be used."""


class BoxError(MrcnetError):
    """A detection box is not finite, empty, or outside the image."""


class SpecError(MrcnetError):
    """A specification, configuration file or parameter has a value that cannot be used."""


class DatasetError(MrcnetError):
    """A dataset folder, annotation file or rosbag is missing something or cannot be read."""


class BackendError(MrcnetError):
    """A runtime or the device asked for is not present."""


class UnknownLabelError(MrcnetError):
    """A detection names an object that the model does not know."""

    def __init__(self, label: str, known: Iterable[str]) -> None:
        """Name the label and list the known ones."""
        self.label = label
        self.known = tuple(sorted(known))
        super().__init__(
            f'unknown object label {label!r}; this model knows: {", ".join(self.known)}'
        )


def with_extra(extra: str) -> str:
    """Return how to install what belongs to an extra of setup.py: no index has this package."""
    return (f"install mrcnet_ros with the extra '{extra}': pip install '.[{extra}]' in the folder "
            'of the sources')


def _join(text: str, remedy: str) -> str:
    return f'{text}; {remedy}' if remedy else text
