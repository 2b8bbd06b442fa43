"""The page about a new model: one HTML file without other files."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from ..evaluation.charts import Line, LineChart, png_of
from ..store.atomic import writing
from ..training.config import TrainConfig
from .intake import Part
from .measuring import MeasuredPose, by_elevation, medians
from .request import Request

# What in a path begins something else in YAML, as which ROS reads parameters.
YAML_MARKS = re.compile(r' #|: |:$')
STYLE = '''
body { font: 16px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .25rem .8rem;
        border-bottom: 1px solid #ddd; text-align: right } td:first-child, th:first-child {
        text-align: left }
img { max-width: 100%; border: 1px solid #ddd } figure { display: inline-block; margin: .3rem;
      max-width: 32% } figcaption { font-size: .85rem; color: #555 }
pre { background: #f3f3f3; padding: .8rem; overflow-x: auto } .note { background: #fff4d6;
      padding: .5rem .8rem; margin: .5rem 0 }
'''
# More wrong poses than right ones on rendered images, which are easier than photographs.
LEAST_RIGHT = 0.5
# Of an object's boxes on those images that the detector has to find.
LEAST_FOUND = 0.5


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelPage:
    """The content of the page.

    :param looks: symmetries in words and notes, by label.
    :param symmetry_pictures: PNG files by label.
    :param problem: why covariances or scores are not calibrated, '' if they are.
    :param examples: PNG files by ``label/name``.
    :param images: held-out images that the model was measured on.
    :param config: of the training.
    :param detector: what the model's own detector finds in held-out images; None without one.
    """

    request: Request
    parts: Sequence[Part]
    looks: Mapping[str, Mapping[str, Any]]
    symmetry_pictures: Mapping[str, bytes]
    answers: Sequence[MeasuredPose]
    problem: str
    examples: Mapping[str, bytes]
    images: int
    config: TrainConfig
    detector: Mapping[str, Any] | None = None


def write_model_page(path: Path, page: ModelPage) -> None:
    """Write the page.

    :raises DatasetError: when it cannot be written.
    """
    name = html.escape(page.request.name)
    body = '\n'.join([
        f'<h1>Model {name}</h1>', _start(page), _summary(page), _detector(page),
        *(_object(page, part) for part in page.parts), _how(page)])
    text = ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<title>{name}</title><style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n')
    with writing(path):
        path.write_text(text, encoding='utf-8')


def start_lines(output: Path, *, detector: bool = False) -> list[str]:
    """Return the two lines that start a model on the robot.

    :param detector: whether it has a detector of its own.
    """
    model = output.resolve()
    boxes = quote(f'detector:={model}') if detector else 'detections:=/detector/detections'
    return ['source install/setup.bash',
            f'ros2 launch mrcnet_ros pose.launch.py {quote(f"model:={model}")} \\\n'
            f'    image:=/camera/image_raw camera_info:=/camera/camera_info {boxes}']


def line_without_ros(output: Path, *, detector: bool = False) -> str:
    """Return the line that does the same where ROS comes from wheels.

    :param detector: whether the model has a detector of its own.
    """
    path = str(output.resolve())
    if YAML_MARKS.search(path):
        path = json.dumps(path, ensure_ascii=False)
    model = quote(f'model:={path}')
    boxes = f'-p {quote(f"detector:={path}")}' if detector else \
        '-r detections:=/detector/detections'
    return (f'mrcnet node --ros-args -p {model} -r image:=/camera/image_raw \\\n'
            f'    -r camera_info:=/camera/camera_info {boxes}')


def calibrate_line(output: Path, config: TrainConfig) -> str:
    """Return the command that calibrates covariances and scores once more.

    :param config: of the training.
    """
    near, far = config.distance_m
    backgrounds = ' '.join(quote(str(b)) for b in config.backgrounds)
    return (f'mrcnet calibrate --synthetic --model {quote(str(output))} --distance {near:g} '
            f'{far:g} --backgrounds {backgrounds} --write')


def warnings(answers: Sequence[MeasuredPose], labels: Sequence[str], output: Path,
             detector: Mapping[str, Any] | None) -> list[str]:
    """Return sentences about objects whose poses are mostly wrong or were not measured.

    :param labels: of all objects of the model.
    :param detector: what its own detector finds in held-out images; None without one.
    """
    shares = {label: medians([a for a in answers if a.label == label])['good']
              for label in sorted({a.label for a in answers})}
    told = ', '.join(f'{100 * share:.0f} % of the poses of {label}'
                     for label, share in shares.items() if share < LEAST_RIGHT)
    unknown = ', '.join(label for label in labels if label not in shares)
    found = {} if detector is None else {
        label: detector['objects'].get(label, {}).get('recall', 0.0) for label in labels}
    missed = ', '.join(f'{label} ({100 * share:.0f} %)' for label, share in found.items()
                       if share < LEAST_FOUND)
    return [*([f'Only {told} are right on rendered images. Train longer before a robot uses this '
               f'model. To go on from its weights, give --start {quote(str(output))} and another '
               '--output.'] if told else []),
            *([f'No held-out image gave a pose of {unknown}: the errors are not measured. Measure '
               'them with mrcnet synth and mrcnet evaluate before a robot uses these poses. The '
               'next time, give more --images.'] if unknown else []),
            *([f'The detector rarely finds {missed} on rendered images, so the node gives few or '
               'no poses with it. Train it longer (--minutes), or use another detector.']
              if missed else [])]


def _start(page: ModelPage) -> str:
    own = page.detector is not None
    lines = html.escape('\n'.join(start_lines(page.request.output, detector=own)))
    labels = ', '.join(html.escape(p.label) for p in page.parts)
    said = 'The model finds the objects itself; they are called' if own else \
        'The detector must call the objects'
    return (f'<h2>Start it on the robot</h2>\n<pre>{lines}</pre>\n<p>{said}: {labels}. Run both '
            'lines in the folder of your colcon workspace. Another computer needs a copy of this '
            'folder without <code>work</code>, and its place there after <code>model:=</code>. '
            'Without an installed ROS, run:</p>\n'
            f'<pre>{html.escape(line_without_ros(page.request.output, detector=own))}</pre>')


def _detector(page: ModelPage) -> str:
    if page.detector is None:
        return ''
    rows = ''.join(
        f'<tr><td>{html.escape(label)}</td><td>{values["targets"]}</td>'
        f'<td>{100 * values["recall"]:.0f} %</td><td>{values["ap50"]:.2f}</td></tr>'
        for label, values in page.detector['objects'].items())
    return ('<h2>Detector</h2>\n<p>On rendered images that training never drew: the share of '
            'the objects (visible by a tenth or more) whose best box overlaps them by half, and '
            'the average precision. Lower <code>detector_threshold</code> when objects are missed.'
            '</p>\n<table><tr><th>object</th><th>to be found</th><th>found</th><th>AP50</th></tr>'
            f'{rows}</table>')


def _summary(page: ModelPage) -> str:
    rows = ''.join(_row(html.escape(part.label), medians(own)) for part in page.parts
                   if (own := [a for a in page.answers if a.label == part.label]))
    notes = [*([f'Covariances and scores are not calibrated: {page.problem}. To calibrate them, '
                f'run: {calibrate_line(page.request.output.resolve(), page.config)}']
               if page.problem else []), *warnings(
                   page.answers, [p.label for p in page.parts], page.request.output,
                   page.detector)]
    note = ''.join(f'<p class="note">{html.escape(text)}</p>' for text in notes)
    return ('<h2>Expected errors</h2>\n<p>Medians on rendered images that training never drew, '
            'with boxes as inexact as those of a detector. Photographs are harder: measure with '
            'your own camera before a gripper relies on a pose.</p>\n'
            f'{_head("object")}{rows}</table>\n{note}')


def _head(first: str) -> str:
    return (f'<table><tr><th>{first}</th><th>rotation</th><th>across the ray</th>'
            '<th>distance</th><th>within a tenth of the diameter</th></tr>')


def _row(name: str, values: Mapping[str, Any]) -> str:
    return (f'<tr><td>{name}</td><td>{values["rotation_deg"]:.1f}&deg;</td>'
            f'<td>{values["across_mm"]:.1f} mm</td><td>{values["depth_percent"]:.1f} %</td>'
            f'<td>{100 * values["good"]:.0f} %</td></tr>')


def _object(page: ModelPage, part: Part) -> str:
    own = [a for a in page.answers if a.label == part.label]
    looks = page.looks[part.label]
    notes = ''.join(f'<p class="note">{html.escape(note)}</p>' for note in looks['notes'])
    examples = ''.join(
        f'<figure>{_image(data, f"{part.label}, {name}")}<figcaption>{name}</figcaption></figure>'
        for key, data in page.examples.items() for label, _, name in [key.rpartition('/')]
        if label == part.label)
    return '\n'.join([
        f'<h2>{html.escape(part.label)}</h2>',
        f'<p>{html.escape(part.source.name)}: {html.escape(part.size)}. '
        f'Symmetries: {html.escape(looks["words"])}.</p>', notes,
        _image(page.symmetry_pictures[part.label], f'{part.label} and its symmetries'),
        '<p>Red, green and blue are x, y and z of the object. Green lines are axes of symmetry; '
        'turned by a symmetry, the object must look as it is. If it does not, start again with '
        'another <code>--output</code> and with '
        f'<code>--symmetry {html.escape(quote(f"{part.label}=none"))}</code> or another kind.</p>',
        _angles(part.label, own), f'<div>{examples}</div>' if examples else
        '<p class="note">No held-out image gave a pose of this object.</p>'])


def _angles(label: str, own: Sequence[MeasuredPose]) -> str:
    """Return table and chart of errors by elevation."""
    bands = by_elevation(own)
    if not bands:
        return ''
    rows = ''.join(_row(f'{b["low"]} to {b["high"]}&deg; ({b["count"]})', b) for b in bands)
    middles = [(b['low'] + b['high']) / 2 for b in bands]
    chart = LineChart(f'{label}: median errors by viewing angle',
                      'elevation of the camera above the xy plane of the object [degrees]',
                      [Line('rotation [degrees]', middles, [b['rotation_deg'] for b in bands]),
                       Line('distance [%]', middles, [b['depth_percent'] for b in bands]),
                       Line('across the ray [mm]', middles, [b['across_mm'] for b in bands])])
    drawn = _image(png_of(chart), 'chart of errors')
    return (f'<h3>By viewing angle</h3>{_head("elevation (poses)")}{rows}</table>{drawn}'
            '<h3>Best, median and worst</h3>')


def _how(page: ModelPage) -> str:
    config = page.config
    way = 'only the rows of these objects, on the shared layers of' if config.freeze_shared else \
        'all weights, starting from'
    start = 'no model' if config.init is None else str(config.init)
    time = f'{config.steps} steps' if config.minutes is None else f'{config.minutes:g} minutes'
    seen = 'on a table, z up' if config.view_prior else 'from everywhere'
    near, far = config.distance_m
    measured_m = [a.distance_m for a in page.answers if a.distance_m] or [near, far]
    return (f'<h2>How it was made</h2><p>Trained {way} {html.escape(start)} for {time}, with '
            f'{config.views} rendered views of each object, seen {seen}, {near:.2g} to {far:.2g} '
            f'm away. Measured on {page.images} rendered images, {min(measured_m):.2g} to '
            f'{max(measured_m):.2g} m away. Objects and symmetries are in '
            '<code>objects.yaml</code>, the training configuration in '
            '<code>work/train.yaml</code>. The work folder may be removed.</p>')


def _image(data: bytes, text: str) -> str:
    return (f'<img alt="{html.escape(text)}" '
            f'src="data:image/png;base64,{base64.b64encode(data).decode()}">')
