"""Which cells answer for which object, and how wrong their answers are.

Source: task alignment of Feng et al. 2021 (TOOD): those cells answer for an object whose box fits
best and whose score is high already; generalised IoU of Rezatofighi et al. 2019; quality focal
loss of Li et al. 2020 (a cell's score is the IoU that its box will have).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..specs import ANSWERING_CELLS

# The powers of TOOD, which writes them as alpha and beta.
SCORE_POWER, FIT_POWER = 0.5, 6.0
# Weight of the boxes against the scores; a larger one gives tighter boxes and poorer scores.
BOX_WEIGHT = 2.0
NOTHING, WANTED, IGNORED = 0, 1, 2  # kinds of targets


@dataclass(frozen=True, eq=False)
class BoxTargets:
    """What images show, padded to the same number of boxes.

    :param boxes: (N, G, 4) x1, y1, x2, y2 [px] between pixels.
    :param class_index: (N, G) int64.
    :param kind: (N, G) int64, WANTED, IGNORED (too little is visible) or NOTHING (padding).
    """

    boxes: Tensor
    class_index: Tensor
    kind: Tensor


@dataclass(frozen=True, eq=False)
class Assignment:
    """What the cells should say.

    :param quality: (N, A, C) the IoU that a class's box should claim, 0 where it is not there.
    :param box: (N, A, 4) of the object that a cell answers for.
    :param weight: (N, A) of the cell's box.
    :param counted: (N, A, C) False where an object is that is too hidden to be asked for.
    """

    quality: Tensor
    box: Tensor
    weight: Tensor
    counted: Tensor


def to_boxes(distances: Tensor, centres: Tensor) -> Tensor:
    """Return the boxes (..., A, 4) of distances to the sides and the cells' middles (A, 2)."""
    return torch.cat([centres - distances[..., :2], centres + distances[..., 2:]], -1)


def overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return IoU and generalised IoU of boxes (..., 4), which are broadcast."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    common = (high - low).clamp(min=0).prod(-1)
    around = (torch.maximum(a[..., 2:], b[..., 2:])
              - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - common
    iou = common / union.clamp(min=1e-6)
    return iou, iou - (around - union) / around.clamp(min=1e-6)


@torch.no_grad()
def assign(logits: Tensor, boxes: Tensor, cells: Tensor, targets: BoxTargets) -> Assignment:
    """Choose the cells that answer for each object.

    :param logits: (N, A, C).
    :param boxes: (N, A, 4) that the cells propose.
    :param cells: (A, 3) middle and stride [px].
    """
    images, count, classes = logits.shape
    truth = targets.boxes
    near = _near(truth, cells)
    iou = overlap(truth[:, :, None], boxes[:, None])[0]
    picked = targets.class_index[:, None].expand(-1, count, -1)
    score = logits.sigmoid().gather(2, picked).transpose(1, 2)
    fit = score**SCORE_POWER * iou**FIT_POWER * near * (targets.kind == WANTED)[..., None]
    best = fit.topk(min(ANSWERING_CELLS, count), 2)
    chosen = torch.zeros_like(fit).scatter_(2, best.indices, 1.0) * (fit > 0)
    owner = torch.where(chosen > 0, iou, -1.0).argmax(1)
    chosen = chosen * functional.one_hot(owner, truth.shape[1]).transpose(1, 2)
    fit = fit * chosen
    quality = fit / fit.amax(2, keepdim=True).clamp(min=1e-12) * (iou * chosen).amax(2, True)
    own = targets.class_index.gather(1, owner)
    weight = quality.amax(1)
    wanted = torch.zeros_like(logits).scatter_(2, own[..., None], weight[..., None])
    hidden = (near * (targets.kind == IGNORED)[..., None]).float()
    ignored = torch.einsum('nga,ngc->nac', hidden,
                           functional.one_hot(targets.class_index, classes).float()) > 0
    rows = torch.arange(images, device=logits.device)[:, None]
    return Assignment(wanted, truth[rows, owner], weight, ~ignored | (wanted > 0))


def _near(truth: Tensor, cells: Tensor) -> Tensor:
    """Tell which cells lie in which box, (N, G, A); the smallest boxes reach a cell as well."""
    middle = (truth[..., :2] + truth[..., 2:])[:, :, None] / 2
    half = (truth[..., 2:] - truth[..., :2])[:, :, None] / 2
    reach = torch.maximum(half, 0.51 * cells[:, 2:].expand(-1, 2))
    return ((cells[:, :2] - middle).abs() <= reach).all(-1)


def detection_loss(logits: Tensor, distances: Tensor, cells: Tensor,
                   targets: BoxTargets) -> dict[str, Tensor]:
    """Compare what cells say with what they should say.

    :param logits: (N, A, C) float32.
    :param distances: (N, A, 4) float32 [px].
    :param cells: (A, 3) middle and stride [px].
    :return: scalars ``loss``, ``score``, ``box`` and ``iou``, the mean over answering cells.
    """
    boxes = to_boxes(distances, cells[:, :2])
    goal = assign(logits, boxes, cells, targets)
    total = goal.weight.sum().clamp(min=1.0)
    plain = functional.binary_cross_entropy_with_logits(logits, goal.quality, reduction='none')
    focus = (goal.quality - logits.detach().sigmoid()) ** 2 * goal.counted
    score = (plain * focus).sum() / total
    iou, generalised = overlap(boxes, goal.box)
    box = ((1 - generalised) * goal.weight).sum() / total
    return {'loss': score + BOX_WEIGHT * box, 'score': score.detach(), 'box': box.detach(),
            'iou': (iou * goal.weight).sum().detach() / total}
