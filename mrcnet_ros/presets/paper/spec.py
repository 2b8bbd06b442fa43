"""The numbers of the published networks, and model directories that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ...datasets.catalogue import DATASETS, facts_of
from ...errors import SpecError
from ...inference.laws import Values
from ...inference.model_directory import CheckedModel, read_checked
from ...specs import EstimatorSpec

# what embeds crops and templates alike, and the heads of the two stages
PAPER_GRAPHS = ('embed', 'stage1', 'stage2')
PUBLISHED = tuple(sorted(name for name, facts in DATASETS.items() if facts.network_depth_range))


@dataclass(frozen=True, kw_only=True)
class PaperSpec(EstimatorSpec):
    """The published network's numbers, in the published units.

    :param dataset: whose depth range and objects it is for, '' for none of the known ones.
    :param depth_near: smallest depth over the crop's focal length [mm/px].
    :param depth_far: largest depth over the crop's focal length [mm/px].
    :param size_px: side of the square crop.
    :param padding: crop side as a multiple of the longer box side.
    :param box_margin: by how much of its width and height the box map grows on each side.
    :param turns: in-plane quarter turns of a crop, whose batch statistics are shared.
    :param rotation_nside: HEALPix nside of the viewing directions.
    :param rotation_in_plane: in-plane angles for each direction.
    :param depth_bins: uniform bins of depth over focal length.
    :param cells: xy cells on each side of the crop.
    :param radius: of the correlation at strides 4, 8 and 16.
    :param view_origin: where a crop's viewing direction is measured from, ``principal_point`` as
        the paper and the training code do, or ``box_centre`` as the published script does.
    """

    graphs: ClassVar[tuple[str, ...]] = PAPER_GRAPHS
    object_fields: ClassVar[tuple[str, ...]] = ('class_index',)

    preset: str = 'paper'
    dataset: str = ''
    depth_near: float
    depth_far: float
    size_px: int = 256
    padding: float = 1.5
    box_margin: float = 0.125
    turns: int = 4
    rotation_nside: int = 4
    rotation_in_plane: int = 24
    depth_bins: int = 1000
    cells: int = 64
    radius: int = 5
    view_origin: str = 'principal_point'

    @property
    def rows_together(self) -> int:
        """Number of rows of a batch that share statistics: the turns of a crop."""
        return self.turns

    @property
    def rotations(self) -> int:
        return 12 * self.rotation_nside**2 * self.rotation_in_plane


def paper_spec(dataset: str) -> PaperSpec:
    """Return the spec of the published network of a dataset.

    :raises SpecError: when the dataset is not one of :data:`PUBLISHED`.
    """
    depth_range = facts_of(dataset).network_depth_range
    if depth_range is None:
        raise SpecError(
            f'no published network for dataset {dataset!r}; there are {list(PUBLISHED)}')
    near, far = depth_range
    return PaperSpec(dataset=dataset, depth_near=near, depth_far=far)


@dataclass(frozen=True, eq=False, kw_only=True)
class PaperModel(CheckedModel[PaperSpec]):
    """A checked model directory of the paper preset.

    :param class_indices: of the objects, in the same order.
    """

    class_indices: list[int]


def read_paper_model(path: Path, meshes_dir: Path | None = None) -> PaperModel:
    """Read and check a model directory.

    :param meshes_dir: folder of the meshes; ``meshes`` in the model directory by default.
    :raises ModelError: when a file is missing, damaged, or of another format.
    :raises MeshError: when a mesh is not in the folder.
    """
    def class_indices(values: Values) -> dict[str, Any]:
        return {'class_indices': [int(entry['class_index']) for entry in values['objects']]}

    return read_checked(path, meshes_dir, PaperModel, PaperSpec, class_indices)
