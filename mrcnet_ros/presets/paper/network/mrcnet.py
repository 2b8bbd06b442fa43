"""MRC-Net, paper preset: the published network, which loads the published weights.

The template is an input: the caller renders it at the stage-1 pose. State-dict
names and their order are the published ones. Source: mrcnet.md section 3.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ....network.blocks import doubled
from ..spec import PaperSpec
from .blocks import (
    BatchStatNorm,
    ConvGroupNorm,
    DilatedPyramid,
    GeometryHead,
    ObjectConv,
    ResidualCorrelation,
    residual_stage,
)

# As published: channels of the embedding, numbers of the geometry input.
EMBEDDING = 64
GEOMETRY = 3


class Features(NamedTuple):
    """The features of a crop or a template, from the Siamese part.

    :param x4: (N, 65, H/4, W/4) embedding and visible-mask probability.
    :param x8: (N, 128, H/8, W/8).
    :param x16: (N, 128, H/16, W/16).
    :param mask_logit: (N, 1, H/4, W/4).
    """

    x4: Tensor
    x8: Tensor
    x16: Tensor
    mask_logit: Tensor


class CoarseLogits(NamedTuple):
    """The classes of stage 1.

    :param rotation: (N, rotations).
    :param depth: (N, depth_bins).
    :param cell: (N, cells**2), y outer.
    """

    rotation: Tensor
    depth: Tensor
    cell: Tensor


class Residual(NamedTuple):
    """The answer of stage 2.

    :param six: (N, 6) rotation, ``R = R6(six) R_bin``.
    :param depth: (N, 1) to add to the bin's Z / fx [mm/px].
    :param xy: (N, 2) to add to the cell's centre, in crop widths.
    """

    six: Tensor
    depth: Tensor
    xy: Tensor


class PerObjectDecoder(nn.Module):
    """From the encoder's maps up to stride 4, with separate kernels for each object."""

    def __init__(self, *, objects: int) -> None:
        super().__init__()
        self.layer2_1x1 = ObjectConv(128, 128, kernel=1, objects=objects)
        self.layer3_1x1 = ObjectConv(256, 256, kernel=1, objects=objects)
        self.layer4_1x1 = ObjectConv(512, 512, kernel=1, objects=objects)
        self.conv_up3 = ObjectConv(768, 512, kernel=3, objects=objects)
        self.conv_up2 = ObjectConv(640, 256, kernel=3, objects=objects)
        self.conv_last = ObjectConv(256, EMBEDDING + 1, kernel=1, objects=objects)

    def forward(self, layer2: Tensor, layer3: Tensor, layer4: Tensor,
                class_index: Tensor) -> Tensor:
        """Map maps at strides 4, 8 and 16 to (N, 65, H/4, W/4)."""
        silu = functional.silu
        x = doubled(silu(self.layer4_1x1(layer4, class_index)))
        x = torch.cat([x, silu(self.layer3_1x1(layer3, class_index))], 1)
        x = doubled(silu(self.conv_up3(x, class_index)))
        x = torch.cat([x, silu(self.layer2_1x1(layer2, class_index))], 1)
        x = silu(self.conv_up2(x, class_index))
        result: Tensor = self.conv_last(x, class_index)
        return result


class PaperBackbone(nn.Module):
    """ResNet-34 encoder, dilated pyramid and per-object decoder."""

    def __init__(self, *, objects: int, group: int) -> None:
        """Build it; ``base_model`` keeps the published second names and two unused entries."""
        super().__init__()
        widths, blocks = (64, 64, 128, 256, 512), (3, 4, 6, 3)
        stages = [residual_stage(widths[i], widths[i + 1], blocks=blocks[i],
                                 stride=1 if i == 0 else 2, group=group) for i in range(4)]
        self.base_model = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), BatchStatNorm(64, group=group),
            nn.ReLU(), nn.Identity(), *stages)
        self.layer0 = nn.Sequential(nn.Conv2d(4, 64, 7, 2, 3, bias=False),
                                    BatchStatNorm(64, group=group), nn.SiLU())
        self.layer1, self.layer2, self.layer3, self.layer4 = (nn.Sequential(s) for s in stages)
        self.pool = nn.Sequential(DilatedPyramid(512), nn.Conv2d(8 * 512, 512, 1),
                                  nn.GroupNorm(32, 512), nn.SiLU())
        self.decoder = PerObjectDecoder(objects=objects)
        self.base_model[0].requires_grad_(False)
        self.base_model[1].requires_grad_(False)

    def forward(self, image: Tensor, class_index: Tensor) -> Tensor:
        """Map (N, 4, H, W), (N,) int64 to embedding and mask logit (N, 65, H/4, W/4)."""
        layer2 = self.layer2(self.layer1(self.layer0(image)))
        layer3 = self.layer3(layer2)
        layer4 = self.pool(self.layer4(layer3))
        result: Tensor = self.decoder(layer2, layer3, layer4, class_index)
        return result


class PaperDecoder(nn.Module):
    """The way down from stride 4, and the correlation of crop and template."""

    def __init__(self, *, radius: int) -> None:
        super().__init__()
        c4, volume = EMBEDDING + 1, (2 * radius + 1) ** 2
        self.conv_down_x8 = ConvGroupNorm(c4, 128, stride=2)
        self.conv_down_x16 = ConvGroupNorm(128, 128, stride=2)
        self.clf_pool = DilatedPyramid(128)
        self.corr_x4 = ResidualCorrelation(c4, 64, radius=radius)
        self.reg_conv_x8 = ConvGroupNorm(c4 + volume, 128, stride=2)
        self.corr_x8 = ResidualCorrelation(128, 128, radius=radius)
        self.reg_conv_x16 = ConvGroupNorm(128 + volume + 128, 256, stride=2)
        self.corr_x16 = ResidualCorrelation(128, 128, radius=radius)
        self.reg_conv_add = ConvGroupNorm(128 + volume + 256, 256)
        self.reg_pool = DilatedPyramid(256)

    def descend(self, decoded: Tensor) -> Features:
        """Finish the features of crops or templates; the mask takes no gradient from here."""
        mask_logit = decoded[:, EMBEDDING:]
        x4 = torch.cat([decoded[:, :EMBEDDING], torch.sigmoid(mask_logit.detach())], 1)
        x8 = self.conv_down_x8(x4)
        return Features(x4, x8, self.conv_down_x16(x8), mask_logit)

    def compare(self, crop: Features, template: Features) -> Tensor:
        """Map features of both to (N, 2048, H/16, W/16)."""
        x = self.reg_conv_x8(torch.cat([crop.x4, self.corr_x4(template.x4, crop.x4)], 1))
        x = self.reg_conv_x16(torch.cat([crop.x8, self.corr_x8(template.x8, crop.x8), x], 1))
        x = self.reg_conv_add(torch.cat([crop.x16, self.corr_x16(template.x16, crop.x16), x], 1))
        result: Tensor = self.reg_pool(x)
        return result


class PaperClassifier(nn.Module):
    """The heads of stage 1."""

    def __init__(self, *, spec: PaperSpec) -> None:
        super().__init__()
        side = spec.size_px // 16
        self.pose_clf = GeometryHead(8 * 128, spec.rotations, side=side)
        self.depth_clf = GeometryHead(8 * 128, spec.depth_bins, side=side)
        self.trans_clf = GeometryHead(8 * 128, spec.cells**2, side=side)

    def forward(self, pooled: Tensor, view: Tensor) -> CoarseLogits:
        """Map (N, 1024, H/16, W/16), (N, 3) to the classes."""
        return CoarseLogits(self.pose_clf(pooled, view), self.depth_clf(pooled, view),
                            self.trans_clf(pooled, view))


class PaperRegressor(nn.Module):
    """The heads of stage 2."""

    def __init__(self, *, spec: PaperSpec) -> None:
        super().__init__()
        side = spec.size_px // 16
        self.pose_reg = GeometryHead(8 * 256, 6, side=side)
        self.depth_reg = GeometryHead(8 * 256, 1, side=side)
        self.trans_reg = GeometryHead(8 * 256, 2, side=side)

    def forward(self, pooled: Tensor, view: Tensor) -> Residual:
        """Map (N, 2048, H/16, W/16), (N, 3) to the residual pose."""
        return Residual(self.pose_reg(pooled, view), self.depth_reg(pooled, view),
                        self.trans_reg(pooled, view))


class PaperNet(nn.Module):
    """The published network.

    A batch is a row of detections, each of ``spec.turns`` in-plane rotations in a row.
    """

    def __init__(self, *, spec: PaperSpec, objects: int) -> None:
        super().__init__()
        self.backbone = PaperBackbone(objects=objects, group=spec.turns)
        self.decoder = PaperDecoder(radius=spec.radius)
        self.classifier = PaperClassifier(spec=spec)
        self.regressor = PaperRegressor(spec=spec)

    def features(self, image: Tensor, class_index: Tensor) -> Features:
        """Embed crops or templates.

        :param image: (N, 4, H, W) blue, green, red in 0..1 and box map.
        :param class_index: (N,) int64.
        """
        return self.decoder.descend(self.backbone(image, class_index))

    def stage1(self, crop: Features, view: Tensor) -> CoarseLogits:
        """Classify the coarse pose.

        :param view: (N, 3) tangents of the crop's viewing direction, crop side over focal length.
        """
        logits: CoarseLogits = self.classifier(self.decoder.clf_pool(crop.x16), view)
        return logits

    def stage2(self, crop: Features, template: Features, view: Tensor) -> Residual:
        """Regress the residual of the coarse pose.

        :param template: drawn at the stage-1 pose.
        :param view: (N, 3) X/Z and Y/Z of the stage-1 translation, crop side over focal length.
        """
        residual: Residual = self.regressor(self.decoder.compare(crop, template), view)
        return residual
