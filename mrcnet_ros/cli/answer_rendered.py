"""A model's answers to rendered pictures of its own meshes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..datasets.boxes import BoxSource
    from ..evaluation.runner import Run
    from ..objects import ObjectModel


def answer_rendered(model: Path, meshes: Path | None, boxes: BoxSource, images: int | None,
                    backgrounds: Sequence[Path], options: Mapping[str, Any], *,
                    depth: bool = False) -> tuple[Run, Mapping[str, ObjectModel]]:
    """Answer pictures of a model's own meshes.

    :param images: how many; None for enough.
    :param backgrounds: folders of photographs and environment maps; none for noise.
    :param depth: correct the poses by what a depth camera would measure. Objects count as large
        as their meshes then, as they are in the pictures.
    :return: the answers, and the objects by label.
    """
    from ..evaluation.runner import Run, run_frames
    from ..presets.loading import load_pose_estimator
    from ..rendering.background_files import find_images
    from ..synth.held_out import held_out_frames, image_count
    from .progress import progress_bar

    estimator = load_pose_estimator(model, meshes, **options, spreads=True)
    if depth:
        estimator.assume_sizes_of_meshes()
    objects, done = estimator.objects, Run()
    count = images or image_count(len(objects))
    upright = any(prior is not None for prior in estimator.model.view_priors.values())
    frames = held_out_frames(list(objects.values()), count, upright=upright,
                             backgrounds=find_images(backgrounds) if backgrounds else [])
    shown = progress_bar(frames, total=count, unit='image', disable=None)
    run_frames(shown, estimator, boxes, None, done, depth='required' if depth else 'off')
    return done, objects
