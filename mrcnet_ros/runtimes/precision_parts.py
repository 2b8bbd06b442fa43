"""Which parts of the default preset's graphs stay in fp32 where the others compute in bf16.

A number in bf16 has eight bits. That is enough in the middle of the backbone. It is too little

- for the stem, which is small, and whose errors grow in all layers behind it;
- for the answers of stage 1: of two rotation bins that are nearly equally likely, the wrong one
  would win, because their logits become the same number;
- for stage 2, whose answer is the pose.

Measured with models/lmo on 141 detections with one crop and one hypothesis: if everything computes
in bf16, 12 start from another rotation bin, and the others move by 0.015 diameters in the median.
With these parts in fp32, none and 0.001. The refiner tolerates bf16: its crop hardly changes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ..specs import GRAPHS, SEEN, START, TEMPLATE_FEATURES


@dataclass(frozen=True)
class Part:
    """A part of a graph, from some of its tensors to others.

    :param inputs: names of tensors, those of the graph's inputs or of an earlier part's outputs.
    :param outputs: names of tensors, those of the graph's outputs or of what a later part takes.
    :param full: whether it computes in fp32 in any case.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    full: bool


# as the exported graphs name what comes out of network.stem.Stem
STEM = '/backbone/stem/Add_output_0'
_STEM = Part(('image',), (STEM,), full=True)
_PARTS = {
    'stage1': (_STEM, Part((STEM, 'class_index'), SEEN, full=False),
               Part(('x16', 'class_index'),
                    ('rotation_logits', 'cell_logits', 'scale_logits', *START), full=True)),
    'template': (_STEM, Part((STEM, 'class_index'), TEMPLATE_FEATURES, full=False)),
}
_FULL = ('stage2',)


def parts_of(graph: str, graphs: Collection[str], precision: str) -> tuple[Part, ...]:
    """Return the parts of a graph, which run one after the other; none where it stays whole.

    :param graphs: names of all graphs of the model.
    """
    return _PARTS.get(graph, ()) if _in_parts(graphs, precision) else ()


def stays_full(graph: str, graphs: Collection[str], precision: str) -> bool:
    """Tell whether a graph that stays whole computes in fp32 in any case.

    :param graphs: names of all graphs of the model.
    """
    return graph in _FULL and _in_parts(graphs, precision)


def _in_parts(graphs: Collection[str], precision: str) -> bool:
    """Tell whether graphs are those of the default preset, in a precision that is too low."""
    return precision == 'bf16' and set(GRAPHS) <= set(graphs)
