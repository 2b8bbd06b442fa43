"""The steps from meshes to a model; steps that an earlier start has done are skipped."""

from __future__ import annotations

import base64
import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from ..evaluation.enough_poses import MIN_IMAGES
from ..export.directory import export_checkpoint
from ..geometry.rotation_grid import grid_of
from ..geometry.view_prior import allowed_bins
from ..inference.model_directory import MESH_FOLDER
from ..meshes import read_mesh
from ..model_json import MODEL_FILE
from ..objects import load_object_list
from ..reading.text import yaml_of
from ..rendering.background_files import check_images, find_images
from ..rendering.template_store import TemplateStore
from ..store.atomic import writing
from ..synth.held_out import MOST_OBJECTS, image_count
from ..training.composed_run import check_start
from ..training.config import TrainConfig
from ..training.disturbers import load_disturbers
from ..training.drawing_ahead import draw_ahead
from ..training.loop import CHECKPOINT
from ..training.openness import check_ray_tracer
from ..training.trainer import checked_objects, train
from ..training.training_data import load_object_views, load_templates, load_views
from .detector_steps import (
    add_detector,
    check_detector_changes,
    detector_config,
    measure_detector,
)
from .intake import Part, copy_meshes, take_in
from .measuring import MeasuredPose, measure_model
from .page import ModelPage, calibrate_line, warnings, write_model_page
from .request import Request
from .seen_surface import VIEWS, look_at
from .stated_symmetries import check_symmetry_labels, placed_entry
from .symmetry_picture import axes_of, draw_object, png
from .symmetry_search import find_symmetries
from .training_plan import (
    Plan,
    check_changes,
    check_new_objects,
    check_start_model,
    divide,
    known_in_words,
    known_labels,
    write_config,
)
from .work import BEGUN, Bar, Work, named_files

OBJECTS_FILE = 'objects.yaml'
PAGE_FILE = 'report.html'
# poses that a covariance needs, and some more for those without an answer
LEAST_ANSWERS = 60
# parts of the whole time that the bar starts from
FIRST_PLAN = {'looking at the meshes': 0.03, 'rendering views and templates': 0.14,
              'training': 0.7, 'exporting': 0.02, 'measuring on held-out images': 0.1,
              'writing the page': 0.01}
DETECTOR = 'training a detector'
Say = Callable[[str], object]


class Maker:
    """Makes a model, and continues where earlier starts ended.

    :param stem: returns ImageNet weights for the frozen layers.
    """

    def __init__(self, request: Request, stem: Callable[[], dict[str, Any]], say: Say) -> None:
        """Check what can be checked before anything is written.

        :raises MrcnetError: when the request or the weights cannot be used.
        """
        self._request, self._say = request, say
        self._began = time.monotonic()
        check_ray_tracer()
        check_start_model(request.start)
        check_images(find_images(request.backgrounds))
        self._parts = take_in(request)
        labels = [p.label for p in self._parts]
        check_symmetry_labels(request.symmetries, labels)
        config = check_changes(request, self._parts)
        self._prior = config.view_prior  # --set can change it
        if request.detector:
            check_detector_changes(request, config, self._parts)
        self._stem = stem()
        self._work = Work(request, named_files(request, self._parts),
                          (OBJECTS_FILE, PAGE_FILE, MESH_FOLDER))
        minutes = request.minutes - request.detector_minutes
        plan = {name: 60.0 * minutes * part for name, part in FIRST_PLAN.items()}
        if request.detector:
            plan[DETECTOR] = 60.0 * request.detector_minutes
        self._bar = Bar(plan)

    def run(self) -> Path:
        """Do what is not done yet; return the page.

        :raises MrcnetError: when a mesh, a background or the start cannot be used.
        """
        if self._work.resumed:
            self._say(f'going on in {self._request.output}')
        least = least_images(len(self._parts))
        if (self._request.images or least) < least:
            self._say(f'--images {self._request.images} may give too few poses to calibrate '
                      f'covariances and scores; give {least} or more')
        steps: dict[str, tuple[str, Callable[[], Any]]] = {
            'looking at the meshes': ('looks', self._look),
            'rendering views and templates': (BEGUN, self._render),
            'training': ('trained', self._train),
            'exporting': ('exported', self._export),
            'measuring on held-out images': ('measured', self._measure),
            **({DETECTOR: ('detector', self._detector)} if self._request.detector else {}),
            'writing the page': ('page', self._page)}
        try:
            for part in self._parts:
                self._say(f'{part.source.name}: {part.size}')
            for name, (key, _) in steps.items():
                if key in self._work and key != 'page':
                    self._bar.skip(name)
                elif key == 'trained' and BEGUN in self._work:
                    self._replan_training(self._config())
            for name, (key, do) in steps.items():
                if key in self._work and key != 'page':
                    continue
                with self._bar.step(name):
                    self._work[key] = do()
        except KeyboardInterrupt:
            self._say('the same command goes on from here')
            raise
        finally:
            self._bar.close()
            self._work.close()
        return self._request.output / PAGE_FILE

    @property
    def problem(self) -> str:
        """Return why covariances or scores are not calibrated, '' if they are."""
        return str(self._work['measured']['problem'])

    @property
    def calibration(self) -> str:
        """Return the command that calibrates on more images."""
        return calibrate_line(self._request.output, self._config())

    @property
    def warnings(self) -> list[str]:
        """Return what to know before a robot uses the model."""
        return warnings([MeasuredPose(**a) for a in self._work['measured']['answers']],
                        [p.label for p in self._parts], self._request.output,
                        self._work.get('detector'))

    def _look(self) -> dict[str, Any]:
        """Find symmetries and write meshes and the object list."""
        request, looks = self._request, dict(self._work.get('found', {}))
        copy_meshes(self._parts, request.output / MESH_FOLDER)
        for part in self._parts:
            if part.label not in looks:
                looks[part.label] = self._symmetries(part)
                self._work['found'] = looks
            self._say('\n'.join([f'{part.label}: symmetries: {looks[part.label]["words"]}',
                                 *(f'  {note}' for note in looks[part.label]['notes'])]))
        entries = [_entry(part, looks[part.label]['entry']) for part in self._parts]
        text = '# Written by mrcnet new. Lengths are in units of unit_m, in the frame of the ' \
               'mesh.\n' + yaml_of(entries)
        with writing(request.output / OBJECTS_FILE):
            (request.output / OBJECTS_FILE).write_text(text, encoding='utf-8')
        return looks

    def _symmetries(self, part: Part) -> dict[str, Any]:
        """Return an object's symmetries as an entry, in words, and with notes."""
        stated = self._request.symmetries.get(part.label, '')
        mesh = read_mesh(self._request.output / MESH_FOLDER / part.mesh_name, part.unit_m)
        started = time.monotonic()
        notes: list[str] = []
        if stated and stated != 'found':
            entry, words = placed_entry(stated, part, mesh), f'{stated}, as stated'
        elif part.symmetries is not None and stated != 'found':
            entry, words = part.symmetries, 'those of models_info.json'
        else:
            seen = look_at(mesh, part.middle_m, part.diameter_m)
            self._work['view_s'] = (time.monotonic() - started) / VIEWS
            found = find_symmetries(seen, mesh.vertices, part.middle_m, part.diameter_m)
            entry, words = found.entry(part.unit_m), found.words()
            if found.by_colour:
                stated = quote(f'{part.label}=KIND')
                notes.append('Its shape has more symmetries than its colours. If the colours of '
                             f'the real object differ, say --symmetry {stated}.')
            if found.is_ball:
                notes.append('It is a ball: its position can be found, its rotation cannot. The '
                             'rotation that is published means nothing.')
        return {'entry': entry, 'words': words, 'notes': [*part.notes, *notes]}

    def _plan(self) -> Plan:
        if 'plan' not in self._work:
            count = len(self._parts)
            plan = divide(self._request, self._parts, float(self._work.get('view_s', 0.05)),
                          time.monotonic() - self._began, image_count(count), least_images(count))
            self._work['plan'] = dataclasses.asdict(plan)
        return Plan(**self._work['plan'])

    def _config(self) -> TrainConfig:
        known = self._known()
        check_new_objects(self._request, self._parts, known)
        return write_config(self._request, self._parts, self._plan(), known)

    def _known(self) -> list[str]:
        objects = load_object_list(self._request.output / OBJECTS_FILE)
        return known_labels(self._request.start, list(objects.values()),
                            self._prior)

    def _replan_training(self, config: TrainConfig) -> None:
        """Correct the time for the training: without what earlier starts have spent."""
        spent = check_start(config, config.load_objects())
        self._bar.replan('training', 60.0 * (config.minutes or 0.0) * (1.0 - spent))

    def _render(self) -> bool:
        """Render views and templates into the work folder."""
        config, known = self._config(), self._known()
        if told := known_in_words(self._request.start, self._parts, known):
            self._say(told)
        self._replan_training(config)
        objects = checked_objects(config)
        draw_ahead(config, objects, config.processes)
        load_views(config, objects)
        load_templates(config, objects)
        if self._request.detector:
            detector = detector_config(self._request, config)
            draw_ahead(detector, objects, detector.processes)
            load_object_views(detector, objects)
            load_disturbers(detector)
        return True

    def _train(self) -> bool:
        train(self._config(), self._stem)
        return True

    def _export(self) -> bool:
        """Write the graphs, and the templates into the store of the node."""
        config = self._config()
        export_checkpoint(config.output / CHECKPOINT, config, self._request.made, say=self._say)
        grid = grid_of(config.spec.bins)
        store = TemplateStore()
        for item in config.load_objects():
            store.load_or_build(item, config.spec, allowed_bins(config.view_prior, grid))
        return True

    def _measure(self) -> dict[str, Any]:
        request = self._request
        answers, pictures, problem = measure_model(
            request.made, request.output / MESH_FOLDER, self._plan().images, self._config())
        if problem:
            self._say(f'the model could not be calibrated: {problem}')
        return {'answers': [dataclasses.asdict(a) for a in answers], 'problem': problem,
                'pictures': {k: base64.b64encode(v).decode() for k, v in pictures.items()}}

    def _detector(self) -> dict[str, Any]:
        """Train and export a detector; return its figures on held-out images."""
        config = detector_config(self._request, self._config())
        add_detector(self._request, config, self._stem)
        return measure_detector(self._request, config, self._plan().images)

    def _publish(self) -> None:
        """Move the model into the output; before its last file, model.json, there is none."""
        made, output = self._request.made, self._request.output
        with writing(output):
            for path in sorted(made.glob('[!.]*'), key=lambda p: p.name == MODEL_FILE):
                os.replace(path, output / path.name)  # what a killed export left is hidden

    def _page(self) -> bool:
        if self._request.made != self._request.output:
            self._publish()
        request, looks = self._request, self._work['looks']
        objects = load_object_list(request.output / OBJECTS_FILE)
        pictures = {o.label: png(draw_object(o, axes_of(o.centred().symmetries.transforms)))
                    for o in objects.values()}
        measured = self._work['measured']
        write_model_page(request.output / PAGE_FILE, ModelPage(
            request=request, parts=self._parts, looks=looks, symmetry_pictures=pictures,
            answers=[MeasuredPose(**a) for a in measured['answers']], problem=measured['problem'],
            examples={k: base64.b64decode(v) for k, v in measured['pictures'].items()},
            images=self._plan().images, config=self._config(),
            detector=self._work.get('detector')))
        return True


def least_images(objects: int) -> int:
    """Return how many held-out images a number of objects needs for a calibration."""
    return max(MIN_IMAGES, -(-LEAST_ANSWERS // min(objects, MOST_OBJECTS)))


def _entry(part: Part, symmetries: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry of the object list."""
    middle = {'middle': [round(float(v), 6) for v in part.middle_m / part.unit_m]} \
        if part.middle_m.any() else {}
    return {'id': part.object_id, 'label': part.label, 'mesh': f'{MESH_FOLDER}/{part.mesh_name}',
            'unit_m': part.unit_m, 'diameter': round(part.diameter_m / part.unit_m, 9),
            **middle, **symmetries}
