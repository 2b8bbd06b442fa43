"""Parity of the paper preset, and of the network: logits, decisions, residuals and poses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ....errors import DatasetError
from ..crop import box_map, box_rectangle, covered_fractions
from ..network.decode import CoarsePose, PaperBins, residual_view
from ..network.mrcnet import CoarseLogits, Features, PaperNet, Residual
from ..spec import PaperSpec
from .inputs import SeededCase, input_rows, seeded_case
from .parts import crop_rows, loss_rows
from .rows import ParityRow, Reference, compare_array, failed
from .seeded import seeded_image, seeded_network, seeded_template

# largest difference over largest magnitude; float32 leaves a twentieth of each
LOGITS, BINS, RESIDUALS, POSES = 3e-4, 1e-5, 2e-4, 2e-5
VIEWS = 3e-3  # the geometry input is solved from logits, which makes their error larger
VIEW_STEP = 1e-2  # of the geometry input, for finite differences
LOGIT_NAMES = ('rotation_logits', 'depth_logits', 'xy_logits')


class SeededRun:
    """Runs the seeded network on the seeded images, one step at a time."""

    def __init__(self, case: SeededCase, spec: PaperSpec) -> None:
        self._case, self._size = case, spec.size_px
        self._network: PaperNet = seeded_network(case.salt, spec, case.objects)
        self._classes = torch.tensor(case.classes)
        image = seeded_image(case.salt, 'image', case.images, spec.size_px)
        maps = torch.from_numpy(box_map(np.array(case.rectangles), spec.size_px))
        self._crop = self._embed(image, maps)

    @torch.no_grad()
    def stage1(self, view: Tensor) -> tuple[Tensor, CoarseLogits]:
        """Return mask and class logits of the crops."""
        return self._crop.mask_logit, self._network.stage1(self._crop, view)

    @torch.no_grad()
    def stage2(self, view: Tensor, rectangles: np.ndarray) -> tuple[Tensor, Residual]:
        """Return mask logits of the templates and the residual.

        :param rectangles: (N, 4) of the templates' box maps [px].
        """
        maps = torch.from_numpy(box_map(rectangles, self._size))
        image = seeded_template(self._case.salt, self._case.images, self._size)
        template = self._embed(image, maps)
        return template.mask_logit, self._network.stage2(self._crop, template, view)

    @torch.no_grad()
    def _embed(self, image: Tensor, maps: Tensor) -> Features:
        return self._network.features(torch.cat([image, maps[:, None]], 1), self._classes)


Runner = Callable[[SeededCase, PaperSpec], SeededRun]


def network_rows(folder: Path, runner: Runner = SeededRun) -> Iterator[ParityRow]:
    """Compare ``network.npz``, array by array, cheap ones first.

    Each row tests one step, because its inputs are arrays of the file. Where the reference's two
    best classes are equal in float32, the reference's choice is used; the final poses are
    computed from the reference's residuals.

    :raises DatasetError: when an input is missing or cannot be used.
    """
    reference = Reference(folder / 'network.npz')
    case, spec = seeded_case(reference)
    yield from input_rows(folder, reference, case, spec)
    template = _template_rectangles(case, spec)
    yield reference.row('roi', _areas(np.array(case.rectangles)), 0.0)
    yield reference.row('rmap', _areas(template), 0.0)
    K = torch.tensor(reference.floats('K', case.images, 3, 3), dtype=torch.float32)
    view = torch.tensor(reference.floats('fov', case.images, 3), dtype=torch.float32)
    bins = PaperBins(spec)
    run = runner(case, spec)
    mask, logits = run.stage1(view)
    yield reference.row('mask_real', mask, LOGITS)
    for name, found in zip(LOGIT_NAMES, logits, strict=True):
        yield reference.row(name, found, LOGITS)
    yield _view_row(reference, run, view, logits)
    decided = CoarseLogits(*(_decided(reference, name, found)
                             for name, found in zip(LOGIT_NAMES, logits, strict=True)))
    for name, ours, chosen in zip(LOGIT_NAMES, logits, decided, strict=True):
        yield _decision_row(reference, name, ours, chosen)
    coarse = bins.coarse(decided, K)
    yield reference.row('stage1_R', coarse.R, BINS)
    yield reference.row('stage1_t', coarse.t, BINS)
    yield from _stage2_rows(reference, *run.stage2(residual_view(coarse, view), template),
                            coarse, bins, K)
    yield from reference.rest()


def _template_rectangles(case: SeededCase, spec: PaperSpec) -> np.ndarray:
    covered = (seeded_template(case.salt, case.images, spec.size_px) != 0).any(1).numpy()
    return box_rectangle(np.stack([covered_fractions(mask) for mask in covered]), spec)


def _areas(rectangles: np.ndarray) -> np.ndarray:
    return np.asarray((rectangles[:, 2:] - rectangles[:, :2]).prod(axis=1))


def _view_row(reference: Reference, run: SeededRun, view: Tensor,
              logits: CoarseLogits) -> ParityRow:
    """Compare the viewing geometry with the one that explains the reference's logits best.

    It is three of eight thousand inputs of a layer. A wrong one moves each logit by little more
    than float32 does, but all logits together determine it well.

    :param view: (N, 3) of the reference.
    """
    known = [reference.numbers(name, tuple(found.shape))
             for name, found in zip(LOGIT_NAMES, logits, strict=True)]
    expected = [e for e in known if e is not None and np.isfinite(e).all()]
    if len(expected) < len(known):
        return reference.row('fov', np.full(view.shape, np.nan), VIEWS, 'cannot be told')
    ours = torch.cat(logits, 1)
    columns = []
    for axis in torch.eye(view.shape[1]):
        _, moved = run.stage1(view + VIEW_STEP * axis)
        columns.append((torch.cat(moved, 1) - ours).numpy() / VIEW_STEP)
    slopes, apart = np.stack(columns, axis=2), np.concatenate(expected, axis=1) - ours.numpy()
    error = [np.linalg.lstsq(s, a, rcond=None)[0] for s, a in zip(slopes, apart, strict=True)]
    return reference.row('fov', view.numpy() + np.stack(error), VIEWS, 'as the logits tell it')


def _decided(reference: Reference, name: str, found: Tensor) -> Tensor:
    """Return logits whose best class is the reference's where its own two best are a tie.

    :param found: (N, classes).
    """
    expected = reference.numbers(name, tuple(found.shape))
    if expected is None:
        return found
    theirs = torch.from_numpy(expected).to(found.dtype)
    best, ours = theirs.max(1).values, theirs.gather(1, found.argmax(1, keepdim=True))[:, 0]
    tied = best - ours <= LOGITS * theirs.abs().max()
    return torch.where(tied[:, None], theirs, found)


def _decision_row(reference: Reference, name: str, ours: Tensor, decided: Tensor) -> ParityRow:
    """Compare the best classes.

    :param ours: (N, classes) logits.
    :param decided: (N, classes) logits of :func:`_decided`.
    """
    expected, row = reference.numbers(name, tuple(ours.shape)), f'network/{name} argmax'
    if expected is None:
        return failed(row, 'no such classes')
    ties = int((ours.argmax(1) != decided.argmax(1)).sum())
    return compare_array(row, expected.argmax(1), decided.argmax(1), 0.0,
                         f'decision, {ties} tied in the reference' if ties else 'decision')


def _stage2_rows(reference: Reference, mask: Tensor, residual: Residual, coarse: CoarsePose,
                 bins: PaperBins, K: Tensor) -> Iterator[ParityRow]:
    yield reference.row('mask_render', mask, LOGITS)
    theirs = []
    for name, found in (('rotation_residual', residual.six), ('depth_residual', residual.depth),
                        ('xy_residual', residual.xy)):
        yield reference.row(name, found, RESIDUALS)
        expected = reference.numbers(name, tuple(found.shape))
        theirs.append(found if expected is None else torch.from_numpy(expected).to(found.dtype))
    R, t = bins.refine(coarse, Residual(*theirs), K)
    yield reference.row('R', R, POSES)
    yield reference.row('t', t, POSES)


def parity_rows(folder: Path) -> Iterator[ParityRow]:
    """Compare every array of a reference folder, yielding each as soon as it is known.

    :param folder: with ``network.npz``, ``crop.npz`` and ``losses.npz``.
    :raises DatasetError: when a file or an input is missing or cannot be used.
    """
    if not folder.is_dir():
        raise DatasetError(f'{folder} is not a folder; give one with network.npz, crop.npz and '
                           'losses.npz')
    yield from crop_rows(folder)
    yield from loss_rows(folder)
    yield from network_rows(folder)
