"""The presets there are, and one way to load a model directory of any of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import ModelError, SpecError
from ..inference.base_estimator import BaseEstimator
from ..inference.estimator import PoseEstimator
from ..model_json import MODEL_FILE, read_pose_json
from ..runtimes.backend import RuntimeOptions
from ..specs import EstimatorSpec, ModelSpec
from .paper.estimator import PaperEstimator
from .paper.spec import PaperSpec

RUNTIME_FIELDS = frozenset(f.name for f in fields(RuntimeOptions))


@dataclass(frozen=True)
class Preset:
    """A kind of network and what goes with it.

    :param name: in ``model.json``.
    :param spec: its numbers, as ``model.json`` has them.
    :param estimator: what answers with such a model.
    :param templates_kept: whether features of templates are kept between detections; if not, a
        template is drawn for each, and options about templates and crops have no effect.
    :param fixed: the crops of each detection and the hypotheses of each crop, where they cannot
        be chosen.
    """

    name: str
    spec: type[EstimatorSpec]
    estimator: type[BaseEstimator[Any]]
    templates_kept: bool
    fixed: tuple[int, int] | None = None

    def require_templates(self, model_dir: Path) -> None:
        """Refuse a model that keeps no templates and has no covariances.

        :raises SpecError: when its preset has none of these.
        """
        if not self.templates_kept:
            raise SpecError(
                f'model {model_dir} is of the {self.name} preset, which renders a template for '
                'each detection, keeps no features and gives no covariance; give a model of '
                'another preset')


PRESETS = {preset.name: preset for preset in (
    Preset('default', ModelSpec, PoseEstimator, templates_kept=True),
    Preset('paper', PaperSpec, PaperEstimator, templates_kept=False,
           fixed=(PaperSpec.turns, 1)),
)}


def preset_of(model_dir: Path) -> Preset:
    """Return the preset of a model directory; nothing else of it is checked.

    :raises ModelError: when ``model.json`` is not readable or names no known preset.
    """
    path = Path(model_dir)
    spec = read_pose_json(path)[1].get('spec')
    name = spec.get('preset') if isinstance(spec, Mapping) else None
    if not isinstance(name, str) or name not in PRESETS:
        raise ModelError(path / MODEL_FILE, f'has preset {name!r}, expected one of '
                         f'{", ".join(PRESETS)}', 'export the model again with this version')
    return PRESETS[name]


def load_any_estimator(model_dir: Path, meshes_dir: Path | None = None,
                       **options: Any) -> BaseEstimator[Any]:
    """Load a model directory into a runtime.

    :param meshes_dir: folder of the meshes; ``meshes`` in the model directory by default.
    :param options: of :meth:`PoseEstimator.load`; a preset that keeps no templates ignores those
        about templates.
    :raises ModelError: when the model directory is incomplete, damaged or of other specs.
    :raises MeshError: when a mesh cannot be used.
    :raises BackendError: when the runtime cannot be used.
    """
    preset = preset_of(model_dir)
    if not preset.templates_kept:
        options = {name: value for name, value in options.items() if name in RUNTIME_FIELDS}
    return preset.estimator.load(model_dir, meshes_dir, **options)


def load_pose_estimator(model_dir: Path, meshes_dir: Path | None = None,
                        **options: Any) -> PoseEstimator:
    """Load a model directory for what needs kept templates, several crops or covariances.

    :param options: of :meth:`PoseEstimator.load`.
    :raises SpecError: when the preset of the model has none of these.
    :raises MrcnetError: when it cannot be loaded.
    """
    preset_of(model_dir).require_templates(model_dir)
    return PoseEstimator.load(model_dir, meshes_dir, **options)
