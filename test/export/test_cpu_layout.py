"""Graphs made fit for processors compute what they computed before."""

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the train extra')
onnx = pytest.importorskip('onnx', reason='needs the train extra')

import onnxruntime  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from mrcnet_ros.export.cpu_layout import fit_for_cpu  # noqa: E402
from mrcnet_ros.export.onnx_export import trace_graph  # noqa: E402


class Padded(nn.Module):
    """A convolution of two joined maps after uneven padding."""

    inputs, outputs = ('a', 'b'), ('out',)

    def __init__(self, channels=(32, 9), pad=(0, 1, 0, 1), value=0.0, mode='constant',
                 shared=False):
        super().__init__()
        self.pad, self.value, self.mode, self.shared = pad, value, mode, shared
        self.conv = nn.Conv2d(sum(channels), 8, 3, 2)
        self.join = nn.Conv2d(sum(channels), 8, 3, padding=1)

    def forward(self, a, b):
        both = torch.cat([a, b], 1)
        extra = {'value': self.value} if self.mode == 'constant' else {}
        padded = functional.pad(both, self.pad, mode=self.mode, **extra)
        joined = both if self.shared else torch.cat([a, 2 * b], 1)
        return self.conv(padded).mean() + self.join(joined)


def count(data, kind):
    return sum(node.op_type == kind for node in onnx.load_model_from_string(data).graph.node)


def answers(data, inputs):
    session = onnxruntime.InferenceSession(data, providers=['CPUExecutionProvider'])
    return session.run(None, inputs)[0]


def converted(module, channels=(32, 9), batch=3):
    """Return the graph before and after, having compared them at another batch size."""
    module.eval()
    before = trace_graph(module, {n: torch.rand(2, c, 12, 10)
                                  for n, c in zip('ab', channels, strict=True)})
    after = fit_for_cpu(before)
    rng = np.random.default_rng(0)
    inputs = {n: rng.normal(size=(batch, c, 12, 10)).astype(np.float32)
              for n, c in zip('ab', channels, strict=True)}
    np.testing.assert_allclose(answers(after, inputs), answers(before, inputs), atol=1e-5)
    return before, after


@pytest.mark.parametrize('pad', [(0, 1, 0, 1), (1, 1, 1, 1), (2, 0, 0, 3)])
def test_convolutions_pad_their_own_inputs(pad):
    """However uneven; the step that padded, and what it was computed from, is gone."""
    before, after = converted(Padded(pad=pad))
    assert count(before, 'Pad') == 1 and count(after, 'Pad') == 0
    assert len(onnx.load_model_from_string(after).graph.node) < 10


@pytest.mark.parametrize('options', [{'value': 0.5}, {'mode': 'reflect'}, {'pad': (-1, 0, 0, 1)}],
                         ids=str)
def test_what_is_not_zeros_stays(options):
    """Other values, mirrored pixels and cut edges are left as they are."""
    before, after = converted(Padded(**options))
    assert count(before, 'Pad') == count(after, 'Pad') == 1


def test_joined_maps_are_filled_up_to_whole_blocks():
    """Every kernel gets 48 channels instead of 41, the last of them without weight."""
    _, after = converted(Padded())
    graph = onnx.load_model_from_string(after).graph
    shapes = [tuple(t.dims) for t in graph.initializer if len(t.dims) == 4]
    assert (8, 48, 3, 3) in shapes


@pytest.mark.parametrize(('channels', 'shared'), [((2, 11), False), ((16, 16), False),
                                                  ((32, 9), True)], ids=str)
def test_nothing_is_added_where_it_cannot_be_or_need_not(channels, shared):
    """Too few channels to copy, whole blocks, and maps that something else reads as well."""
    _, after = converted(Padded(channels, shared=shared), channels)
    graph = onnx.load_model_from_string(after).graph
    assert {t.dims[1] for t in graph.initializer if len(t.dims) == 4} == {sum(channels)}
