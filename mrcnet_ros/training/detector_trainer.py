"""The training of the detector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..detector.decode import cell_grid, decode_detections
from ..detector.matching import TopBoxes
from ..errors import SpecError
from ..network.detector import DetectorNetwork
from ..network.detector_losses import WANTED, BoxTargets, detection_loss
from .backgrounds import background_patches, find_images, irradiance_matrices
from .composed_run import ComposedRun, Job, check_start, deadline_of
from .detector_config import DetectorConfig
from .disturbers import load_disturbers
from .drawing_ahead import draw_ahead
from .gradient_exchange import Exchange, train_together
from .loop import CHECKPOINT, alone_in, decay_groups
from .painting import TrainingPainter
from .scenes import SceneComposer, TrainingScene
from .seeds import VALIDATION_SEED
from .training_data import load_object_views
from .view_bank import SharedViews
from .warm_start import read_detector_start, warm_start_detector

LOG_EVERY = 20  # steps between two lines of the log
EMA_DECAY = 0.998  # the exported weights are about the mean of the last 500 steps
# More give steadier figures and take longer; they are drawn again each time.
VALIDATION_SCENES = 96
VALIDATION_SCORE = 0.01  # so low that recall at any threshold is seen


@dataclass(frozen=True, eq=False)
class SceneBatch:
    """Scenes as the network and its losses take them.

    :param image: (N, 3, S, S) float32 RGB in 0..255.
    """

    image: Tensor
    targets: BoxTargets


def load_scene_composer(config: DetectorConfig, classes: int,
                        views: Sequence[SharedViews]) -> SceneComposer:
    """Gather what scenes are made from.

    :param classes: number of classes, whose views come first.
    :raises DatasetError: when there are no backgrounds, or they cannot be read.
    """
    images = find_images(config.backgrounds)
    banks = [v.open() for v in views]
    painter = TrainingPainter(
        banks, classes, background_patches(images, config.patches, config.seed),
        irradiance_matrices(images), config.painting())
    return SceneComposer(banks, [config.view_prior] * classes, painter,
                         (config.spec.focal_px, config.size_px), config.distance_m)


def stack_scenes(scenes: Sequence[TrainingScene]) -> SceneBatch:
    """Join scenes into a batch."""
    most = max(1, *(len(s.boxes) for s in scenes))
    boxes = np.zeros((len(scenes), most, 4), np.float32)
    classes, kinds = (np.zeros((len(scenes), most), np.int64) for _ in range(2))
    for row, scene in enumerate(scenes):
        count = len(scene.boxes)
        boxes[row, :count] = scene.boxes
        classes[row, :count], kinds[row, :count] = scene.class_index, scene.kind
    images = torch.from_numpy(np.stack([s.image for s in scenes])).permute(0, 3, 1, 2)
    return SceneBatch(images.float().contiguous(memory_format=torch.channels_last),
                      BoxTargets(*map(torch.from_numpy, (boxes, classes, kinds))))


def build_detector(config: DetectorConfig, classes: int,
                   weights: dict[str, Tensor]) -> DetectorNetwork:
    """Return the network at its first step, the same for every process."""
    torch.manual_seed(config.seed)
    network = DetectorNetwork(spec=config.spec, objects=classes)
    network.backbone.load_imagenet(weights)
    if config.init is not None:
        warm_start_detector(network, read_detector_start(config.init, config.spec),
                            [o.label for o in config.load_objects()], knows=config.init_knows)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def train_detector(config: DetectorConfig, weights: dict[str, Tensor],
                   stop_after: int | None = None) -> Path:
    """Train to the end of the schedule, going on from the last checkpoint when there is one.

    :param weights: ImageNet weights of EfficientNet-Lite0.
    :param stop_after: stop at this step instead, leaving a checkpoint.
    :return: the last checkpoint.
    :raises SpecError: when ``stop_after`` is not positive, or images cut an object off at the
        nearest distance, or ``minutes`` are over before the first step, or another training works
        in the output.
    :raises DatasetError: when there are no backgrounds, or they cannot be read.
    :raises ModelError: when the last checkpoint is damaged or of another run.
    """
    if stop_after is not None and stop_after < 1:
        raise SpecError(f'stop_after must be positive, got {stop_after}')
    deadline, objects = deadline_of(config), config.load_objects()
    spent = check_start(config, objects)
    network = build_detector(config, len(objects), weights)  # before views take minutes
    with alone_in(config.output):
        draw_ahead(config, objects, config.processes)
        views = load_object_views(config, objects) + load_disturbers(config)
        job = Job(config, views, weights, deadline, spent)
        train_together(partial(_run, job, stop_after), network, config.processes)
    return config.output / CHECKPOINT


def _run(job: Job[DetectorConfig], stop_after: int | None, exchange: Exchange) -> None:
    DetectorRun(job, exchange).go(stop_after)


class DetectorRun(ComposedRun[DetectorConfig, SceneBatch]):
    """One process of a training of the detector."""

    def __init__(self, job: Job[DetectorConfig], exchange: Exchange) -> None:
        config = job.config
        self.labels = [o.label for o in config.load_objects()]
        self.composer = load_scene_composer(config, len(self.labels), job.views)
        self.detector = build_detector(config, len(self.labels), job.stem)
        self.cells = torch.from_numpy(cell_grid(config.size_px, config.size_px))
        super().__init__(job, exchange, self.detector, detector_groups(self.detector, config),
                         log_every=LOG_EVERY, decay=EMA_DECAY)
        self.restore()

    def feed(self, numbers: Iterator[range]) -> Iterator[SceneBatch]:
        """Return composed scenes."""
        return (stack_scenes([self.composer.scene(self.config.sample_seed, i) for i in few])
                for few in numbers)

    def losses(self, batch: SceneBatch) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of the boxes and its parts."""
        with torch.autocast('cpu', torch.bfloat16):
            logits, distances = self.detector(batch.image)
        parts = detection_loss(logits.float(), distances.float(), self.cells, batch.targets)
        return parts['loss'], {k: float(v.detach()) for k, v in parts.items()}

    def validates(self, over: bool) -> bool:
        """Tell whether a validation is due: at the usual steps, and after the last one."""
        return over or super().validates(over)

    def measure(self) -> dict[str, float]:
        """Return the recall of each class and of all: the share whose best box fits."""
        top = TopBoxes(len(self.labels))
        for index in range(VALIDATION_SCENES):
            scene = self.composer.scene(VALIDATION_SEED, index)
            logits, distances = self.detector(stack_scenes([scene]).image)
            found = decode_detections(logits[0].numpy(), distances[0].numpy(), self.cells.numpy(),
                                      VALIDATION_SCORE)
            wanted = scene.kind == WANTED
            top.add(scene.class_index[wanted], scene.boxes[wanted], found)
        return {f'recall_{k}': v for k, v in top.recalls(self.labels).items()}


def detector_groups(network: DetectorNetwork, config: DetectorConfig) -> list[dict[str, Any]]:
    """Return the optimiser's groups, with a lower rate for pretrained layers."""
    named = list(network.named_parameters())
    return [{**group, 'part': part}
            for pretrained, part in ((True, config.backbone_rate), (False, 1.0))
            for group in decay_groups(((name, p) for name, p in named if
                                       name.startswith('backbone.') == pretrained),
                                      config.weight_decay)
            if group['params']]
