"""Parity of the published network: logits, decisions, residuals and poses."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import DatasetError
from ..geometry.paper_crop import box_map, box_rectangle, covered_fractions
from ..network.paper import CoarseLogits, Features, PaperNet, Residual
from ..network.paper_decode import CoarsePose, PaperBins, residual_view
from ..specs import PaperSpec
from .parity_rows import ParityRow, Reference, compare, failed
from .seeded import IMAGES, seeded_image, seeded_network, seeded_template

# largest difference over largest magnitude; float32 leaves about a tenth of each
LOGITS, BINS, RESIDUALS, POSES = 5e-5, 2e-6, 2e-4, 2e-4
# root mean squares: a wrong geometry input moves all logits a little; float32 leaves a fifth
LOGITS_RMS = 2.5e-5
NAMES_FILE = 'state_dict.tsv'


@dataclass(frozen=True)
class SeededCase:
    """What the network's numbers depend on before any pose is decoded.

    :param salt: of weights and images.
    :param objects: that the network knows.
    :param classes: of the images.
    :param rectangles: of their box maps [px].
    """

    salt: str
    objects: int
    classes: tuple[int, ...]
    rectangles: tuple[tuple[int, ...], ...]


class SeededRun:
    """Runs the seeded network on the seeded images, one step at a time."""

    def __init__(self, case: SeededCase, spec: PaperSpec) -> None:
        """Make weights and embed the crops: nearly all of the first step's time."""
        self._case, self._size = case, spec.size_px
        self._network: PaperNet = seeded_network(case.salt, spec, case.objects)
        self._classes = torch.tensor(case.classes)
        image = seeded_image(case.salt, 'image', spec.size_px)
        maps = torch.from_numpy(box_map(np.array(case.rectangles), spec.size_px))
        self._crop = self._embed(image, maps)

    @torch.no_grad()
    def stage1(self, view: Tensor) -> tuple[Tensor, CoarseLogits]:
        """Return mask and class logits of the crops."""
        return self._crop.mask_logit, self._network.stage1(self._crop, view)

    @torch.no_grad()
    def stage2(self, view: Tensor, rectangles: np.ndarray) -> tuple[Tensor, Residual]:
        """Return mask logits of the templates and the residual.

        :param rectangles: (4, 4) of the templates' box maps [px].
        """
        maps = torch.from_numpy(box_map(rectangles, self._size))
        template = self._embed(seeded_template(self._case.salt, self._size), maps)
        return template.mask_logit, self._network.stage2(self._crop, template, view)

    @torch.no_grad()
    def _embed(self, image: Tensor, maps: Tensor) -> Features:
        return self._network.features(torch.cat([image, maps[:, None]], 1), self._classes)


Runner = Callable[[SeededCase, PaperSpec], SeededRun]


def network_rows(folder: Path, runner: Runner = SeededRun) -> Iterator[ParityRow]:
    """Compare ``network.npz``, array by array, cheap ones first.

    :param runner: makes the network's numbers.
    :raises DatasetError: when an input is missing or cannot be used.
    """
    reference = Reference(folder / 'network.npz')
    case, spec = _case(reference)
    yield from _input_rows(folder, reference, case, spec)
    template = _template_rectangles(case.salt, spec)
    yield reference.row('roi', _areas(np.array(case.rectangles)), 0.0)
    yield reference.row('rmap', _areas(template), 0.0)
    K = torch.tensor(reference.floats('K', IMAGES, 3, 3), dtype=torch.float32)
    view = torch.tensor(reference.floats('fov', IMAGES, 3), dtype=torch.float32)
    bins = PaperBins(spec)
    run = runner(case, spec)
    mask, logits = run.stage1(view)
    yield from _stage1_rows(reference, mask, logits)
    coarse = bins.coarse(logits, K)
    yield reference.row('stage1_R', coarse.R, BINS)
    yield reference.row('stage1_t', coarse.t, BINS)
    yield from _stage2_rows(reference, *run.stage2(residual_view(coarse, view), template),
                            coarse, bins, K)
    yield from reference.rest()


def _case(reference: Reference) -> tuple[SeededCase, PaperSpec]:
    near, far = (float(reference.floats(name)) for name in ('near', 'far'))
    if not near < far:
        raise DatasetError(f'network.npz: near {near} must be smaller than far {far}')
    spec = PaperSpec(depth_near=near, depth_far=far)
    objects, classes = reference.integer('n_dec'), reference.floats('obj', IMAGES)
    if not ((classes >= 0) & (classes < objects) & (classes == np.rint(classes))).all():
        raise DatasetError(f'network.npz: obj {classes.tolist()} must be whole numbers below '
                           f'n_dec, {objects}')
    rectangles = box_rectangle(reference.floats('bbox', IMAGES, 4), spec)
    return SeededCase(
        reference.text('salt'), objects, tuple(int(c) for c in classes),
        tuple(tuple(int(x) for x in row) for row in rectangles)), spec


def _input_rows(folder: Path, reference: Reference, case: SeededCase,
                spec: PaperSpec) -> Iterator[ParityRow]:
    """Say that the inputs are what inputs can be; their effect shows in all other rows."""
    known = {'salt': np.array(case.salt), 'n_dec': case.objects, 'obj': case.classes,
             'near': spec.depth_near, 'far': spec.depth_far, 'fov': reference['fov'],
             'bbox': np.clip(reference['bbox'], 0.0, 1.0)}
    for name, found in known.items():
        yield reference.row(name, found, 0.0, 'input')
    yield reference.row('K', pinhole_part(reference.floats('K', IMAGES, 3, 3)), 1e-7, 'input')
    if (folder / NAMES_FILE).is_file():
        yield _names_row(folder / NAMES_FILE, spec, case.objects)
    prototypes = folder / 'rotation_prototypes.npy'
    if prototypes.is_file():
        yield from _prototype_rows(prototypes, spec)


def pinhole_part(K: np.ndarray) -> np.ndarray:
    """Return camera matrices (N, 3, 3) with only focal lengths and principal point kept."""
    keep = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    return np.asarray(K * keep + np.diag([0.0, 0.0, 1.0]))


def state_names(spec: PaperSpec, objects: int) -> list[tuple[str, str, str]]:
    """Return name, shape and first name of a tensor seen before, of every entry in order."""
    with torch.device('meta'):
        network = PaperNet(spec=spec, objects=objects)
    first: dict[int, str] = {}
    rows = []
    for name, tensor in network.state_dict(keep_vars=True).items():
        same = first.setdefault(id(tensor), name)
        rows.append((name, 'x'.join(map(str, tensor.shape)), '' if same == name else same))
    return rows


def _names_row(path: Path, spec: PaperSpec, objects: int) -> ParityRow:
    with path.open(newline='') as file:
        rows = [tuple(row) for row in csv.reader(file, delimiter='\t')][1:]
    ours = state_names(spec, objects)
    wrong = [r[0] for r, o in zip(rows, ours, strict=False) if r != o]
    if wrong or len(rows) != len(ours):
        return failed(NAMES_FILE, f'{len(rows)} entries, expected {len(ours)}; first difference '
                                  f'{wrong[0] if wrong else "at the end"}')
    return ParityRow(NAMES_FILE, 0.0, 0.0, 0.0, f'{len(rows)} names and shapes')


def _prototype_rows(path: Path, spec: PaperSpec) -> Iterator[ParityRow]:
    from ..geometry.rotation_grid import quaternion_grid

    try:
        prototypes = np.load(path, allow_pickle=False)
    except Exception as error:
        raise DatasetError(f'{path} is not a readable array: {error}') from error
    yield compare(path.name, prototypes,
                  quaternion_grid(spec.rotation_nside, spec.rotation_in_plane), 1e-6)


def _template_rectangles(salt: str, spec: PaperSpec) -> np.ndarray:
    covered = (seeded_template(salt, spec.size_px) != 0).any(1).numpy()
    return box_rectangle(np.stack([covered_fractions(mask) for mask in covered]), spec)


def _areas(rectangles: np.ndarray) -> np.ndarray:
    return np.asarray((rectangles[:, 2:] - rectangles[:, :2]).prod(axis=1))


def _stage1_rows(reference: Reference, mask: Tensor, logits: CoarseLogits) -> Iterator[ParityRow]:
    yield reference.row('mask_real', mask, LOGITS)
    names = ('rotation_logits', 'depth_logits', 'xy_logits')
    for name, found in zip(names, logits, strict=True):
        yield reference.row(name, found, LOGITS)
        expected = reference[name]
        if expected.shape == tuple(found.shape):
            yield compare(f'network/{name} argmax', expected.argmax(1), found.argmax(1), 0.0,
                          'decision')
            yield _rms_row(f'network/{name} rms', expected, found.numpy())


def _rms_row(name: str, expected: np.ndarray, found: np.ndarray) -> ParityRow:
    """Compare the images' logits by their root mean square difference; the worst one counts."""
    difference, size = (np.sqrt((x.astype(np.float64)**2).mean(axis=1))
                        for x in (found - expected, expected))
    return ParityRow(name, float(difference.max()), float((difference / size).max()), LOGITS_RMS,
                     'worst image')


def _stage2_rows(reference: Reference, mask: Tensor, residual: Residual, coarse: CoarsePose,
                 bins: PaperBins, K: Tensor) -> Iterator[ParityRow]:
    yield reference.row('mask_render', mask, LOGITS)
    yield reference.row('rotation_residual', residual.six, RESIDUALS)
    yield reference.row('depth_residual', residual.depth, RESIDUALS)
    yield reference.row('xy_residual', residual.xy, RESIDUALS)
    R, t = bins.refine(coarse, residual, K)
    yield reference.row('R', R, POSES)
    yield reference.row('t', t, POSES)
