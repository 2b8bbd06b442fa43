"""MRC-Net, default preset: crop -> stage 1 -> template -> stage 2, and the refiner after it.

The modules here see tensors only. Which template stage 2 gets is decided outside: at inference by
the estimator's template cache, in training by the trainer's template bank.

Source: MRC-Net (CVPR 2024) section 3; widths and crop geometry from :mod:`mrcnet_ros.specs`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..geometry.bins import cell_centres, scale_centres
from ..specs import STRIDE, ModelSpec, PoseNetworkSpec, RefinerSpec
from .blocks import ConvNorm, Hidden, ObjectConvNorm, ObjectLinear, ResidualBlock, doubled
from .correlation import local_correlation, warp_template
from .stem import CHANNELS, Stem

DENSE = 4  # channels: object coordinates x, y, z and the logit of the mask


class Pyramid(NamedTuple):
    """What the backbone says of one image.

    :param x4: (N, C, H/4, W/4) embedding.
    :param x8: (N, C, H/8, W/8).
    :param x16: (N, C, H/16, W/16).
    :param dense: (N, 4, H/4, W/4) object coordinates in half diameters and mask logit.
    """

    x4: Tensor
    x8: Tensor
    x16: Tensor
    dense: Tensor


class Stage1(NamedTuple):
    """The coarse pose.

    :param rotation_logits: (N, R).
    :param cell_logits: (N, cells**2), y outer.
    :param scale_logits: (N, scale_bins).
    :param xy: (N, 2) expected offset of the object origin in crop widths.
    :param log_size: (N,) expected log relative size.
    """

    rotation_logits: Tensor
    cell_logits: Tensor
    scale_logits: Tensor
    xy: Tensor
    log_size: Tensor


class Stage2(NamedTuple):
    """The residual from the coarse pose.

    :param six: (N, 6) residual rotation, R = R6(six) R_bin.
    :param xy: (N, 2) refined offset in crop widths.
    :param log_size: (N,) refined log relative size.
    :param quality: (N,) logit of the expected recall of this pose.
    """

    six: Tensor
    xy: Tensor
    log_size: Tensor
    quality: Tensor


class Backbone(nn.Module):
    """Shared encoder, decoder with rows for each object, and the way down again."""

    def __init__(self, *, spec: PoseNetworkSpec, objects: int) -> None:
        super().__init__()
        c4, c8, c16, c32 = spec.network.channels
        e4, e8, e16 = spec.network.embedding
        self.stem = Stem()
        self.down4 = nn.Sequential(ConvNorm(CHANNELS, c4), ResidualBlock(c4))
        self.down8 = nn.Sequential(ConvNorm(c4, c8, stride=2), ResidualBlock(c8))
        self.down16 = nn.Sequential(ConvNorm(c8, c16, stride=2), ResidualBlock(c16))
        self.down32 = nn.Sequential(ConvNorm(c16, c32, stride=2), ResidualBlock(c32))
        self.up16 = ConvNorm(c16 + c32, c16)
        self.up8 = ObjectConvNorm(c16 + c8, c8, objects=objects)
        self.up4 = ObjectConvNorm(c8 + c4, e4, objects=objects)
        self.dense = ObjectLinear(e4, DENSE, objects=objects)
        self.embed8 = ConvNorm(e4 + DENSE, e8, stride=2)
        self.embed16 = ConvNorm(e8, e16, stride=2)

    def forward(self, image: Tensor, class_index: Tensor) -> Pyramid:
        """Embed images.

        :param image: (N, 3, H, W) float RGB in 0..255.
        :param class_index: (N,) int64.
        """
        d4 = self.down4(self.stem(image))
        d8 = self.down8(d4)
        d16 = self.down16(d8)
        u16 = self.up16(torch.cat([doubled(self.down32(d16)), d16], 1))
        u8 = self.up8(torch.cat([doubled(u16), d8], 1), class_index)
        x4 = self.up4(torch.cat([doubled(u8), d4], 1), class_index)
        n, _, height, width = x4.shape
        dense = self.dense(x4.flatten(2).transpose(1, 2), class_index)
        dense = dense.transpose(1, 2).reshape(n, DENSE, height, width)
        x8 = self.embed8(torch.cat([x4, masked_coordinates(dense)], 1))
        return Pyramid(x4, x8, self.embed16(x8), dense)


class CoarseHead(nn.Module):
    """Stage 1: classify rotation bin, cell and scale bin."""

    cells_x: Tensor
    cells_y: Tensor
    scales: Tensor

    def __init__(self, *, spec: ModelSpec, objects: int) -> None:
        super().__init__()
        side = spec.crop.size_px // (4 * STRIDE)
        hidden, e16 = spec.network.hidden, spec.network.embedding[2]
        self.body = ResidualBlock(e16)
        self.hidden = Hidden(e16 * side**2, hidden, objects=objects)
        self.rotation = ObjectLinear(hidden, spec.bins.rotations, objects=objects)
        self.cells = nn.Linear(hidden, spec.bins.cells**2)
        self.scale = nn.Linear(hidden, spec.bins.scale_bins)
        centres = torch.from_numpy(cell_centres(spec.bins)).float()
        self.register_buffer('cells_x', centres.repeat(spec.bins.cells), persistent=False)
        self.register_buffer('cells_y', centres.repeat_interleave(spec.bins.cells),
                             persistent=False)
        self.register_buffer('scales', torch.from_numpy(scale_centres(spec.bins)).float(),
                             persistent=False)

    def forward(self, x16: Tensor, class_index: Tensor) -> Stage1:
        """Classify from the stride-16 embedding."""
        hidden = self.hidden(self.body(x16), class_index)
        rotation = self.rotation(hidden[:, None], class_index)[:, 0].float()
        cells, scale = self.cells(hidden).float(), self.scale(hidden).float()
        p = cells.softmax(1)
        xy = torch.stack([(p * self.cells_x).sum(1), (p * self.cells_y).sum(1)], 1)
        return Stage1(rotation, cells, scale, xy, (scale.softmax(1) * self.scales).sum(1))


class ResidualHead(nn.Module):
    """Stage 2: multiscale residual correlation and regression."""

    def __init__(self, *, spec: PoseNetworkSpec, objects: int) -> None:
        super().__init__()
        e4, e8, e16 = spec.network.embedding
        self.radii = spec.network.radii
        self.template_size = spec.template.relative_size
        k4, k8, k16 = ((2 * r + 1) ** 2 for r in self.radii)
        c8, c16 = spec.network.channels[1:3]
        side = spec.crop.size_px // (4 * STRIDE)
        self.project = nn.ModuleList(nn.Conv2d(e, e, 1, bias=False) for e in (e4, e8, e16))
        self.merge4 = ConvNorm(e4 + k4 + 2 * DENSE, c8, stride=2)
        self.merge8 = ConvNorm(e8 + k8 + c8, c16, stride=2)
        self.merge16 = nn.Sequential(ConvNorm(e16 + k16 + c16, c16), ResidualBlock(c16))
        self.hidden = Hidden(c16 * side**2, spec.network.hidden, objects=objects)
        self.output = nn.Linear(spec.network.hidden, 10)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, crop: Pyramid, template: Pyramid, coarse_xy: Tensor,
                coarse_log_size: Tensor, class_index: Tensor) -> Stage2:
        """Regress the residual of the coarse pose.

        :param template: of the template of the stage-1 bin at its canonical position and size;
            ``dense`` holds its true object coordinates and mask instead of predicted ones.
        :param coarse_xy: (N, 2) crop widths.
        :param coarse_log_size: (N,).
        """
        crop = crop._replace(dense=masked_coordinates(crop.dense))
        return self.compare(crop, self.project_template(template), coarse_xy, coarse_log_size,
                            class_index)

    def project_template(self, template: Pyramid) -> Pyramid:
        """Prepare template features for correlation; done before the warp, so it can be cached."""
        x4, x8, x16 = (project(m) for project, m in zip(self.project, template, strict=False))
        return Pyramid(x4, x8, x16, template.dense)

    def compare(self, crop: Pyramid, template: Pyramid, coarse_xy: Tensor,
                coarse_log_size: Tensor, class_index: Tensor) -> Stage2:
        """Align the template, then :meth:`regress`.

        :param crop: of the photograph, ``dense`` from :func:`masked_coordinates`.
        :param template: from :meth:`project_template`.
        """
        ratio = torch.exp(coarse_log_size) / self.template_size
        aligned = Pyramid(*(warp_template(m, coarse_xy, ratio).to(crop.x4.dtype)
                            for m in template))
        return self.regress(crop, aligned, coarse_xy, coarse_log_size, class_index)

    def regress(self, crop: Pyramid, template: Pyramid, coarse_xy: Tensor,
                coarse_log_size: Tensor, class_index: Tensor) -> Stage2:
        """Correlate and regress.

        :param crop: as of :meth:`compare`.
        :param template: as of :meth:`compare`, where the coarse pose says that the object is.
        """
        c4, c8, c16 = (local_correlation(t, x, radius) for t, x, radius
                       in zip(template, crop[:3], self.radii, strict=False))
        x = self.merge4(torch.cat([crop.x4, c4, crop.dense, template.dense], 1))
        x = self.merge8(torch.cat([crop.x8, c8, x], 1))
        x = self.merge16(torch.cat([crop.x16, c16, x], 1))
        out = self.output(self.hidden(x, class_index)).float()
        identity = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], device=out.device)
        size = torch.exp(coarse_log_size)[:, None]
        return Stage2(out[:, :6] + identity, coarse_xy + 0.1 * out[:, 6:8] * size,
                      coarse_log_size + 0.1 * out[:, 8], out[:, 9])


class MrcNet(nn.Module):
    """The three parts of the default preset."""

    def __init__(self, *, spec: ModelSpec, objects: int) -> None:
        super().__init__()
        self.backbone = Backbone(spec=spec, objects=objects)
        self.coarse = CoarseHead(spec=spec, objects=objects)
        self.residual = ResidualHead(spec=spec, objects=objects)


class RefinerNetwork(nn.Module):
    """The third stage: a backbone and a residual head of its own.

    Its crop shows the object as a template does, so nothing has to be aligned.
    """

    def __init__(self, *, spec: RefinerSpec, objects: int) -> None:
        super().__init__()
        self.backbone = Backbone(spec=spec, objects=objects)
        self.residual = ResidualHead(spec=spec, objects=objects)
        self.log_size = math.log(spec.template.relative_size)

    def forward(self, crop: Pyramid, template: Pyramid, class_index: Tensor) -> Stage2:
        """Regress what is wrong with the pose that the crop was made for.

        :param crop: of the crop.
        :param template: from :meth:`ResidualHead.project_template`.
        """
        log_size = torch.full_like(class_index, self.log_size, dtype=torch.float32)
        xy = torch.zeros_like(log_size)[:, None].expand(-1, 2)
        return self.residual.regress(
            crop._replace(dense=masked_coordinates(crop.dense)), template, xy, log_size,
            class_index)


def masked_coordinates(dense: Tensor) -> Tensor:
    """Turn the dense head's (N, 4, H, W) output into coordinates times mask, and mask."""
    mask = torch.sigmoid(dense[:, 3:])
    return torch.cat([dense[:, :3] * mask, mask], 1)
