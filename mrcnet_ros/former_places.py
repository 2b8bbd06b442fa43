"""Modules that have moved are still found in their former places, with a warning.

Programs of users import them by name. The former names stay for one release.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

PLACES = {
    'cli.provenance': 'cli.tasks',
    'demo.assets': 'store.shared_files',
    'demo.picture': 'demo.program',
    'demo.processes': 'testbench.processes',
    'detector.top_boxes': 'detector.decode',
    'evaluation.bop': 'datasets.bop',
    'evaluation.bop_frame': 'datasets.bop_frame',
    'evaluation.bop_results': 'datasets.bop_results',
    'evaluation.bop_scene': 'datasets.bop_scene',
    'evaluation.bop_targets': 'datasets.bop_targets',
    'evaluation.bop_units': 'datasets.bop_units',
    'evaluation.bop_writer': 'datasets.bop_writer',
    'evaluation.boxes': 'datasets.boxes',
    'evaluation.comparison_report': 'evaluation.comparison',
    'evaluation.covariance_widening': 'evaluation.covariance_law',
    'evaluation.detections': 'datasets.detections',
    'evaluation.known_view': 'datasets.known_view',
    'evaluation.overlay': 'evaluation.gallery',
    'evaluation.paper_speed': 'presets.paper.export.speed',
    'evaluation.rle': 'datasets.rle',
    'evaluation.score_law': 'evaluation.score_fit',
    'evaluation.score_report': 'evaluation.score_fit',
    'evaluation.sequence_steps': 'evaluation.sequence',
    'evaluation.soak_charts': 'evaluation.steadiness',
    'evaluation.stage2': 'evaluation.response',
    'evaluation.vsd': 'evaluation.vsd_scores',
    'export.graphs': 'export.arithmetic',
    'export.paper_graphs': 'presets.paper.export.reference',
    'export.paper_reference': 'presets.paper.export.reference',
    'export.parity': 'presets.paper.parity.parity',
    'export.parity_inputs': 'presets.paper.parity.inputs',
    'export.parity_network': 'presets.paper.parity.network',
    'export.parity_parts': 'presets.paper.parity.parts',
    'export.parity_rows': 'presets.paper.parity.rows',
    'export.published': 'presets.paper.export.published',
    'export.seeded': 'presets.paper.parity.seeded',
    'geometry.paper_crop': 'presets.paper.crop',
    'geometry.paper_decode': 'presets.paper.decode',
    'geometry.rotation_check': 'geometry.se3',
    'inference.cpu': 'cpus',
    'inference.depth_registration': 'inference.depth_plane',
    'inference.exclusion': 'inference.choice',
    'inference.loading': 'presets.loading',
    'inference.paper_estimator': 'presets.paper.estimator',
    'inference.paper_model': 'presets.paper.spec',
    'inference.support_correction': 'inference.support_plane',
    'meshes.normals': 'meshes.building',
    'meshes.symmetry_check': 'meshes.checks',
    'network.paper': 'presets.paper.network.mrcnet',
    'network.paper_blocks': 'presets.paper.network.blocks',
    'network.paper_decode': 'presets.paper.network.decode',
    'network.paper_graphs': 'presets.paper.network.graphs',
    'network.paper_labels': 'presets.paper.network.labels',
    'network.paper_losses': 'presets.paper.network.losses',
    'new_model.bar': 'new_model.work',
    'new_model.candidate_axes': 'new_model.seen_surface',
    'new_model.sizes': 'new_model.intake',
    'presets.paper.export.graphs': 'presets.paper.export.reference',
    'presets.paper.model': 'presets.paper.spec',
    'presets.paper.training.augmentation': 'presets.paper.training.samples',
    'rendering.folders': 'store.content_store',
    'rendering.paper_template': 'presets.paper.template',
    'rendering.template_file': 'rendering.template_store',
    'ros.bag': 'testbench.bag',
    'ros.box_conventions': 'ros.box_watch',
    'ros.camera_doubts': 'ros.input_doubts',
    'ros.camera_motion': 'ros.transforms',
    'ros.command_line': 'ros.parameter_help',
    'ros.context': 'ros.running',
    'ros.depth_input': 'ros.depth_image',
    'ros.depth_status': 'ros.statuses',
    'ros.fuzz_compressed': 'testbench.fuzz_messages',
    'ros.fuzz_messages': 'testbench.fuzz_messages',
    'ros.fuzzing': 'testbench.fuzzing',
    'ros.model_service': 'ros.services',
    'ros.outputs': 'ros.publishers',
    'ros.own_detector': 'ros.detection_reading',
    'ros.pairing': 'ros.synchronizer',
    'ros.parameter_files': 'ros.remaps',
    'ros.peer': 'testbench.peer',
    'ros.process_usage': 'testbench.processes',
    'ros.readiness': 'testbench.readiness',
    'ros.replay': 'testbench.replay',
    'ros.score_watch': 'ros.detection_watch',
    'ros.soak': 'testbench.soak',
    'ros.support_frame': 'ros.transforms',
    'ros.tally': 'ros.drop_counters',
    'ros.traffic': 'testbench.traffic',
    'store.folders': 'store.content_store',
    'synth.sequence': 'synth.scene_maker',
    'testbench.fuzz_compressed': 'testbench.fuzz_messages',
    'testbench.process_usage': 'testbench.processes',
    'training.config_values': 'training.run_config',
    'training.detector_feed': 'training.detector_trainer',
    'training.metrics': 'training.loop',
    'training.occlusion': 'training.view_bank',
    'training.paper_augmentation': 'presets.paper.training.samples',
    'training.paper_config': 'presets.paper.training.config',
    'training.paper_index': 'presets.paper.training.index',
    'training.paper_ranks': 'presets.paper.training.ranks',
    'training.paper_samples': 'presets.paper.training.samples',
    'training.paper_start': 'presets.paper.training.start',
    'training.paper_step': 'presets.paper.training.step',
    'training.paper_trainer': 'presets.paper.training.trainer',
    'training.preparation': 'training.job',
    'training.processes': 'training.exchange',
    'training.schedule': 'training.loop',
}


class _Alias(Loader):
    """Puts a module under its former name."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        package, _, former = module.__name__.partition('.')
        present = f'{package}.{PLACES[former]}'
        warnings.warn(f'{module.__name__} is {present} now; the former name goes with the next '
                      'release', DeprecationWarning, stacklevel=2)
        sys.modules[module.__name__] = importlib.import_module(present)


class _Finder(MetaPathFinder):
    """Knows the former places."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        package, _, former = fullname.partition('.')
        if package != __package__ or former not in PLACES:
            return None
        return ModuleSpec(fullname, _Alias())


def find_former_places() -> None:
    """Let imports find the modules that have moved."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
