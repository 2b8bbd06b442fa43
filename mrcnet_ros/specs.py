"""What a model is made of: frozen numbers saved with every checkpoint and model directory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from .errors import SpecError

if TYPE_CHECKING:
    from typing import Self

FORMAT_VERSION = 1  # of model.json; a model of another version is refused
GRAPHS = ('stage1', 'template', 'stage2')  # of the default preset
REFINER_GRAPHS = ('refiner', 'refiner_template')  # of a model that has a refiner
# Arrays that its graphs hand on: what stage 2 takes of stage 1, the pose that it starts from, and
# what it takes of a template.
SEEN = ('x4', 'x8', 'x16', 'dense')
START = ('xy', 'log_size')
TEMPLATE_FEATURES = ('t4', 't8', 't16')
COORDINATES = 'coordinates'
STRIDE = 4  # side of a cell of the finest feature map [px]
DEFAULT_CROPS = 2  # of each detection; no part of a model
DEFAULT_HYPOTHESES = 3  # rotation bins of each crop that stage 2 starts from, at most
# More hardly help: with four the best pose is among the candidates for 0.769 of the AR, with three
# for 0.755, see docs/experiments.md.
MOST_HYPOTHESES = 8
DEFAULT_REFINEMENTS = 0  # of each pose: one takes about a third of the time of all before it
MOST_REFINEMENTS = 3  # a second one gains nothing, see docs/accuracy.md
MOST_NSIDE = 16  # directions of a refiner 4 degrees apart, 3072 templates of each object
# Pixels between the cells of the detector's three levels.
DETECTOR_STRIDES = (8, 16, 32)
# Its cells that answer for one object.
ANSWERING_CELLS = 10
# Blocks of EfficientNet-Lite0 that the backbone may have: up to stride 16 or 32.
DETECTOR_BLOCKS = (11, 15)


@dataclass(frozen=True, kw_only=True)
class CropSpec:
    """How a detection box becomes a network input.

    :param size_px: side of the square crop.
    :param padding: crop side as a multiple of the longer box side.
    """

    size_px: int = 96
    padding: float = 1.5

    def __post_init__(self) -> None:
        """Check the values.

        :raises SpecError: when a crop has no pixels or cuts its box off.
        """
        if self.size_px < 1 or self.padding < 1.0:
            raise SpecError(f'crop: size_px and padding must be at least 1, got {self}')


@dataclass(frozen=True, kw_only=True)
class BinSpec:
    """Stage-1 classes.

    :param rotation_nside: HEALPix nside of the viewing directions (12 * nside**2 of them).
    :param rotation_in_plane: in-plane angles for each direction.
    :param cells: xy cells on each side of the crop.
    :param scale_bins: bins of log relative size.
    :param scale_min: smallest relative size, diameter * f_crop / (depth * size_px).
    :param scale_max: largest relative size.
    """

    rotation_nside: int = 2
    rotation_in_plane: int = 12
    cells: int = 12
    scale_bins: int = 32
    scale_min: float = 0.35
    scale_max: float = 2.8

    def __post_init__(self) -> None:
        """Check the values.

        :raises SpecError: when there are no bins or sizes do not grow.
        """
        counts = self.rotation_nside, self.rotation_in_plane, self.cells, self.scale_bins
        if min(counts) < 1 or not 0 < self.scale_min < self.scale_max:
            raise SpecError('bins: counts must be at least 1 and scales 0 < scale_min < '
                            f'scale_max, got {self}')

    @property
    def rotations(self) -> int:
        return 12 * self.rotation_nside**2 * self.rotation_in_plane


@dataclass(frozen=True, kw_only=True)
class TemplateSpec:
    """How a rotation is rendered: on the optical axis, at a canonical size.

    :param size_px: side of the square template.
    :param relative_size: diameter * focal / (distance * size_px) of the render.
    :param distance_diameters: distance of the object origin, in diameters.
    """

    size_px: int = 96
    relative_size: float = 0.8
    distance_diameters: float = 7.0

    def __post_init__(self) -> None:
        """Check the values.

        :raises SpecError: when nothing would be seen, or the camera is within the object.
        """
        if self.size_px < 1 or self.relative_size <= 0 or self.distance_diameters <= 1:
            raise SpecError('template: size_px must be at least 1, relative_size positive and '
                            f'distance_diameters above 1, got {self}')


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """Widths of the default network.

    :param channels: trunk channels at strides 4, 8, 16 and 32.
    :param embedding: channels of the feature maps that are correlated, at strides 4, 8 and 16.
    :param hidden: width of the fully connected layers.
    :param radii: correlation radius at strides 4, 8 and 16.
    """

    channels: tuple[int, int, int, int] = (32, 64, 128, 192)
    embedding: tuple[int, int, int] = (32, 64, 96)
    hidden: int = 256
    radii: tuple[int, int, int] = (4, 4, 2)

    def __post_init__(self) -> None:
        """Check the values.

        :raises SpecError: when a layer has no channels, or a radius is negative.
        """
        if min(*self.channels, *self.embedding, self.hidden) < 1 or min(self.radii) < 0:
            raise SpecError('network: channels, embedding and hidden must be at least 1 and radii '
                            f'at least 0, got {self}')


@dataclass(frozen=True, kw_only=True)
class ViewPrior:
    """From where a camera can see an object that stands on a table with its z axis up.

    :param elevation_min_deg: lowest elevation of the camera above the object's xy plane.
    :param elevation_max_deg: highest elevation.
    :param tilt_max_deg: largest angle between the image's up and the object's z axis.
    """

    elevation_min_deg: float
    elevation_max_deg: float
    tilt_max_deg: float


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What the specs of all networks share.

    :param preset: name of the kind of network.
    """

    preset: str = ''

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold and :meth:`from_dict` restores."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Restore a spec.

        :raises SpecError: when a field is unknown or missing or has a value of another type, or
            the preset is another.
        """
        spec: Self = from_mapping(cls, values, f'{cls.preset} spec')
        _same_preset(spec.preset, cls.preset)
        return spec


@dataclass(frozen=True, kw_only=True)
class EstimatorSpec(Spec):
    """What the specs of all networks that give poses share."""

    graphs: ClassVar[tuple[str, ...]]  # names of its ONNX files
    # what an object in model.json has with this preset only
    object_fields: ClassVar[tuple[str, ...]] = ()

    @property
    def rows_together(self) -> int:
        """Number of rows of a batch that share statistics: each crop is on its own."""
        return 1


@dataclass(frozen=True, kw_only=True)
class ModelSpec(EstimatorSpec):
    """Everything that must agree between training, export and inference."""

    graphs: ClassVar[tuple[str, ...]] = GRAPHS

    preset: str = 'default'
    crop: CropSpec = field(default_factory=CropSpec)
    bins: BinSpec = field(default_factory=BinSpec)
    template: TemplateSpec = field(default_factory=TemplateSpec)
    network: NetworkSpec = field(default_factory=NetworkSpec)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        return cls(**_parts(cls, values, 'model spec', {
            'crop': CropSpec, 'bins': BinSpec, 'template': TemplateSpec, 'network': NetworkSpec}))


@dataclass(frozen=True, kw_only=True)
class RefinerSpec(Spec):
    """The refiner's numbers.

    :param nside: HEALPix nside of the viewing directions that have a template, 12 * nside**2.
    :param template: of the templates, and of the crops, which show the object at the pose to be
        refined as a template does: in the middle, as large, and upright in the same way.
    """

    preset: str = 'refiner'
    nside: int = 4
    template: TemplateSpec = field(default_factory=TemplateSpec)
    network: NetworkSpec = field(default_factory=NetworkSpec)

    def __post_init__(self) -> None:
        """Check the number of directions.

        :raises SpecError: when there are none.
        """
        if not 1 <= self.nside <= MOST_NSIDE:
            raise SpecError(f'refiner: nside must be 1 to {MOST_NSIDE}, got {self.nside}')

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        nside = values.get('nside')
        if type(nside) is not int:
            raise SpecError(f'refiner spec: nside must be int, got {nside!r}')
        return cls(nside=nside, **_parts(
            cls, {k: v for k, v in values.items() if k != 'nside'}, 'refiner spec',
            {'template': TemplateSpec, 'network': NetworkSpec}))

    @property
    def crop(self) -> CropSpec:
        """Return the size of the crops; there is no box around which they could be."""
        return CropSpec(size_px=self.template.size_px)

    @property
    def bins(self) -> BinSpec:
        """Return the directions as rotation bins: the crop is turned, not the template."""
        return BinSpec(rotation_nside=self.nside, rotation_in_plane=1)


# of the networks that compare a crop with templates
PoseNetworkSpec: TypeAlias = ModelSpec | RefinerSpec


@dataclass(frozen=True, kw_only=True)
class DetectorSpec(Spec):
    """The detector's numbers.

    :param focal_px: focal length that an image is scaled to before the network sees it; an object
        then has the size it had in training, whatever the camera.
    :param longest_px: a scaled image whose longer side is larger is made smaller still.
    :param channels: of the feature maps that heads look at.
    :param blocks: of EfficientNet-Lite0 that are used: 11 (to stride 16) or 15 (to stride 32).
    """

    preset: str = 'detector'
    focal_px: float = 372.0
    longest_px: int = 640
    channels: int = 96
    blocks: int = 11

    def __post_init__(self) -> None:
        """Check the values.

        :raises SpecError: when there is no such network.
        """
        if self.blocks not in DETECTOR_BLOCKS:
            raise SpecError(f'detector spec: blocks must be one of {DETECTOR_BLOCKS}, got '
                            f'{self.blocks}')
        if self.focal_px <= 0 or self.longest_px < DETECTOR_STRIDES[-1] or self.channels < 1:
            raise SpecError('detector spec: focal_px and channels must be positive and longest_px '
                            f'at least {DETECTOR_STRIDES[-1]}, got {self}')


def _parts(kind: type[Spec], values: Mapping[str, Any], where: str,
           parts: Mapping[str, type[Any]]) -> dict[str, Any]:
    """Build the parts of a spec from plain data.

    :raises SpecError: when one is unknown, missing or wrong, or the preset is another.
    """
    _same_names(where, set(values), {'preset', *parts})
    built = {name: from_mapping(part, values[name], name) for name, part in parts.items()}
    _same_preset(values['preset'], kind.preset)
    return built


def from_mapping(kind: type[Any], values: Mapping[str, Any], where: str) -> Any:
    """Build the frozen dataclass ``kind`` from plain data, lists becoming tuples.

    :raises SpecError: when a field is unknown or missing or has a value of another type.
    """
    fields = {f.name: str(f.type) for f in dataclasses.fields(kind)}
    _same_names(where, set(values), set(fields))
    for name, wanted in fields.items():
        if not _fits(values[name], wanted):
            raise SpecError(f'{where}: {name} must be {wanted}, got {values[name]!r}')
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _fits(value: Any, wanted: str) -> bool:
    """Tell whether a value is of an annotated type: int, finite float, str, or a tuple of them."""
    if wanted.startswith('tuple['):
        parts = wanted[len('tuple['):-1].split(', ')
        return isinstance(value, list | tuple) and len(value) == len(parts) and all(
            map(_fits, value, parts))
    kinds = {'int': (int,), 'float': (int, float), 'str': (str,)}[wanted]
    return type(value) in kinds and (wanted != 'float' or math.isfinite(value))


def _same_preset(given: object, expected: str) -> None:
    """Compare the preset of plain data with the one that reads it.

    :raises SpecError: when it is another.
    """
    if given != expected:
        raise SpecError(f'preset is {given!r}, expected {expected!r}')


def _same_names(where: str, given: set[str], expected: set[str]) -> None:
    if given != expected:
        raise SpecError(
            f'{where}: unknown fields {sorted(given - expected)}, '
            f'missing fields {sorted(expected - given)}'
        )
