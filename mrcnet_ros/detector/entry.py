"""What ``model.json`` says of a detector, and the file of its graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError, SpecError
from ..model_json import MODEL_FILE, check_file, check_seal, read_model_json
from ..reading import fields
from ..specs import DETECTOR_STRIDES, DetectorSpec

DETECTOR = 'detector'  # name of the graph and of the entry
DETECTOR_GRAPH = f'{DETECTOR}.onnx'
DETECTOR_WEIGHTS = f'{DETECTOR}_weights.pt'  # the same weights, for a training to start from


@dataclass(frozen=True)
class DetectorEntry:
    """A checked detector of a model directory.

    :param labels: of the classes, in order.
    :param object_ids: their BOP numbers.
    :param diameters_m: of their meshes; None where ``model.json`` does not tell.
    :param graphs_digest: sha256 of the graph.
    """

    path: Path
    graph: Path
    spec: DetectorSpec
    labels: tuple[str, ...]
    object_ids: tuple[int, ...]
    diameters_m: tuple[float | None, ...]
    graphs_digest: str
    rows_together = 1  # one image at a time
    verified_with = ' --detector'

    @property
    def longest_px(self) -> int:
        """Return the longest side of what the network sees: scaled images, filled up."""
        step = DETECTOR_STRIDES[-1]
        return -(-self.spec.longest_px // step) * step

    @property
    def graphs(self) -> dict[str, Path]:
        """Return the file of its only graph, by name."""
        return {DETECTOR: self.graph}


def read_detector(path: Path) -> DetectorEntry:
    """Read and check the detector of a model directory.

    :raises ModelError: when the directory has none, or it is damaged.
    """
    path = Path(path)
    values = read_model_json(path)[1]
    entry = values.get(DETECTOR)
    if entry is None:
        raise ModelError(path, 'has no detector',
                         'give another directory, or train one: mrcnet new --detector, or mrcnet '
                         'train with preset: detector and mrcnet export into the directory')
    try:
        labels = tuple(fields.label(text, 'a label') for text in entry['labels'])
        if not labels or len(set(labels)) < len(labels):
            raise ValueError(f'labels must differ from each other, got {list(labels)}')
        ids = tuple(fields.whole(number, 'an object_id') for number in entry['object_ids'])
        if len(set(ids)) < len(ids):
            raise ValueError(f'object_ids must differ from each other, got {list(ids)}')
        if len(ids) != len(labels):
            raise ValueError(f'there are {len(labels)} labels and {len(ids)} object_ids')
        sizes = {item['label']: item.get('diameter_m') for item in values.get('objects', [])}
        sizes |= dict(zip(labels, entry.get('diameters_m', ()), strict=False))
        files: Any = values['files']
        if not isinstance(files, Mapping):
            raise TypeError(f'files must map names to sha256, got {files!r}')
        diameters_m = tuple(None if sizes.get(text) is None else
                            fields.number(sizes[text], f'diameter_m of {text!r}')
                            for text in labels)
        detector = DetectorEntry(path, path / DETECTOR_GRAPH,
                                 DetectorSpec.from_dict(entry['spec']), labels, ids, diameters_m,
                                 str(files.get(DETECTOR_GRAPH, '')))
    except (KeyError, TypeError, ValueError, AttributeError, SpecError) as error:
        raise ModelError(path / MODEL_FILE, f'has a wrong or missing entry of its detector: '
                                            f'{error}', 'export the detector again') from error
    check_seal(path, values)
    check_file(detector.graph, detector.graphs_digest)
    return detector
