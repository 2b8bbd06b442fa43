"""Importing published checkpoints: safe, complete or refused, and the same network afterwards."""

import dataclasses
import json
import pickle
import shutil

import numpy as np
import pytest

torch = pytest.importorskip('torch')
pytest.importorskip('onnx')

from bop_folder import write_dataset  # noqa: E402
from paper_model import (  # noqa: E402
    OBJECT_IDS,
    SMALL,
    hollow_state,
    small_network,
    write_checkpoint,
)

from mrcnet_ros.cli.main import main  # noqa: E402
from mrcnet_ros.errors import MeshError, ModelError  # noqa: E402
from mrcnet_ros.objects import load_bop_objects  # noqa: E402
from mrcnet_ros.presets.loading import preset_of  # noqa: E402
from mrcnet_ros.presets.paper.export.published import (  # noqa: E402
    import_published,
    load_published,
)
from mrcnet_ros.presets.paper.export.reference import example_inputs  # noqa: E402
from mrcnet_ros.presets.paper.spec import read_paper_model  # noqa: E402
from mrcnet_ros.runtimes.onnxruntime_backend import OnnxRuntimeBackend  # noqa: E402
from mrcnet_ros.training.checkpoint import save_checkpoint  # noqa: E402
from mrcnet_ros.training.identity import IDENTITY, identity_of  # noqa: E402


@pytest.fixture(scope='module')
def meshes(tmp_path_factory):
    """Return a BOP models folder with the meshes of both objects."""
    return write_dataset(tmp_path_factory.mktemp('bop')) / 'models_eval'


@pytest.fixture(scope='module')
def imported(tmp_path_factory, meshes):
    """Return a model directory made from a checkpoint, and the network it should be."""
    folder = tmp_path_factory.mktemp('imported')
    checkpoint = write_checkpoint(folder / 'published.pt')
    output, left_out = import_published(checkpoint, SMALL, OBJECT_IDS, meshes, folder / 'model')
    assert left_out == []
    return output, small_network()


def test_an_imported_model_can_be_read_and_knows_its_objects(imported, meshes):
    """Spec, objects and classes come back, and every file has its hash."""
    model = read_paper_model(imported[0], meshes)
    assert preset_of(imported[0]).name == 'paper'
    assert model.spec == SMALL
    assert [o.object_id for o in model.objects] == list(OBJECT_IDS)
    assert model.class_indices == [0, 1]
    values = json.loads((imported[0] / 'model.json').read_text())
    assert set(values['files']) == {'embed.onnx', 'stage1.onnx', 'stage2.onnx'}


@pytest.mark.parametrize('count', [1, 3])
def test_the_graphs_compute_what_the_network_does(imported, meshes, count):
    """Features, classes and residual agree to 1e-3, for numbers of detections never traced."""
    path, network = imported
    backend = OnnxRuntimeBackend(read_paper_model(path, meshes).graphs, threads=1)
    inputs = example_inputs(network, SMALL, count)
    with torch.no_grad():
        crop = network.features(**inputs['embed'])
        logits = network.stage1(crop, inputs['stage1']['view'])
        residual = network.stage2(crop, crop, inputs['stage1']['view'])
    found = backend.run('embed', {k: v.numpy() for k, v in inputs['embed'].items()})
    view = inputs['stage1']['view'].numpy()
    coarse = backend.run('stage1', {'x16': found['x16'], 'view': view})
    templates = {f't{name[1:]}': found[name] for name in found}
    fine = backend.run('stage2', {**found, **templates, 'view': view})
    ours = [*found.values(), *coarse.values(), *fine.values()]
    for tensor, array in zip([*crop[:3], *logits, *residual], ours, strict=True):
        assert np.abs(array - tensor.numpy()).max() < 1e-3 * float(tensor.abs().max())


def test_a_damaged_file_is_refused(imported, meshes, tmp_path):
    """A graph that is not the one that was imported is named."""
    copy = tmp_path / 'copy'
    copy.mkdir()
    for file in imported[0].iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / 'stage2.onnx').write_bytes(b'x')
    with pytest.raises(ModelError, match=r'stage2\.onnx'):
        read_paper_model(copy, meshes)


def drop(state):
    """Take an entry out."""
    del state['decoder.corr_x8.proj_in.bias']
    return r'decoder\.corr_x8\.proj_in\.bias is missing'


def add(state):
    """Put an entry in."""
    state['backbone.layer5.weight'] = torch.zeros(1)
    return r'backbone\.layer5\.weight is extra'


def reshape(state):
    """Give an entry another shape."""
    state['regressor.pose_reg.linear2.weight'] = torch.zeros(6, 255)
    return r'linear2\.weight has shape \(6, 255\), expected \(6, 256\)'


def fewer_objects(state):
    """Take the kernels of another number of objects."""
    state['backbone.decoder.conv_last.weights'] = torch.zeros(1).expand(3, 65, 256, 1, 1)
    return r'conv_last\.weights has shape \(3, 65, 256, 1, 1\), expected \(2, 65, 256, 1, 1\)'


def not_finite(state):
    """Put nan into an entry."""
    state['decoder.corr_x4.proj_in.bias'] = torch.full((64,), torch.nan)
    return r'decoder\.corr_x4\.proj_in\.bias is not finite'


def integers(state):
    """Make an entry whole numbers."""
    state['decoder.corr_x4.proj_in.bias'] = torch.zeros(64, dtype=torch.int64)
    return r'decoder\.corr_x4\.proj_in\.bias holds torch\.int64'


def two_values(state):
    """Make the two names of one tensor differ."""
    state['backbone.layer1.0.0.bn1.bias'] = torch.ones(64)
    return r'layer1\.0\.0\.bn1\.bias differs from backbone\.base_model\.4\.0\.bn1\.bias'


def no_tensor(state):
    """Put a list where a tensor belongs."""
    state['decoder.corr_x4.proj_in.bias'] = [0.0] * 64
    return r"'decoder\.corr_x4\.proj_in\.bias' is no tensor but list"


@pytest.mark.parametrize('spoil', [
    drop, add, reshape, fewer_objects, not_finite, integers, two_values, no_tensor])
def test_a_checkpoint_with_other_entries_is_refused_by_name(tmp_path, spoil):
    """Whatever is missing, extra, misshapen or senseless is named, with both shapes."""
    state = hollow_state()
    message = spoil(state)
    path = write_checkpoint(tmp_path / 'published.pt', state)
    with pytest.raises(ModelError, match=message):
        load_published(path, SMALL, len(OBJECT_IDS))


class Attack:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, path):
        """Remember where to."""
        self.path = path

    def __reduce__(self):
        """Ask the reader to make a folder."""
        import os

        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('write', [torch.save, lambda x, p: p.write_bytes(pickle.dumps(x, 2))])
def test_a_checkpoint_with_code_is_refused_and_the_code_not_run(tmp_path, write):
    """A malicious file does nothing but fail."""
    proof, path = tmp_path / 'proof', tmp_path / 'attack.pt'
    write({'network': Attack(proof)}, path)
    with pytest.raises(ModelError):
        load_published(path, SMALL, len(OBJECT_IDS))
    assert not proof.exists()


@pytest.mark.parametrize('content', [b'', b'no checkpoint', None])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    """Empty, foreign and absent files are named."""
    path = tmp_path / 'file.pt'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r'file\.pt'):
        load_published(path, SMALL, len(OBJECT_IDS))


def test_other_dictionaries_are_refused(tmp_path):
    """The key of the published format must be there."""
    path = tmp_path / 'other.pt'
    torch.save({'model': {}}, path)
    with pytest.raises(ModelError, match="key 'network'"):
        load_published(path, SMALL, len(OBJECT_IDS))


def test_the_command_names_what_is_wrong_and_leaves_no_model(tmp_path, meshes, capsys):
    """A failed import exits with 2 and writes nothing that could be loaded."""
    checkpoint = write_checkpoint(tmp_path / 'published.pt', hollow_state())
    output = tmp_path / 'model'
    arguments = ['import-checkpoint', str(checkpoint), '--dataset', 'lmo', '--output',
                 str(output)]
    assert main([*arguments, '--meshes', str(meshes)]) == 2
    assert 'has shape' in capsys.readouterr().err
    assert not output.exists()
    assert main([*arguments, '--meshes', str(tmp_path)]) == 2
    assert 'none of the meshes' in capsys.readouterr().err


@pytest.mark.parametrize(('changes', 'object_ids', 'problem'), [
    ({'depth_far': 5.0}, OBJECT_IDS, 'depth_far 4.0, the configuration has 5.0'),
    ({'view_origin': 'box_centre'}, OBJECT_IDS, "view_origin 'principal_point'"),
    ({}, OBJECT_IDS[::-1], r'objects\[0\]\.object_id 1, the configuration has 3')])
def test_a_run_with_other_specs_or_objects_is_refused(tmp_path, meshes, changes, object_ids,
                                                      problem):
    """No shape tells them, but distances or objects would be wrong."""
    path, spec = tmp_path / 'checkpoint.pt', dataclasses.replace(SMALL, **changes)
    identity = identity_of(list(load_bop_objects(meshes).values()), None, 0)
    save_checkpoint(path, {'network': small_network().state_dict(), IDENTITY: identity}, SMALL)
    with pytest.raises(ModelError, match=problem):
        import_published(path, spec, object_ids, meshes, tmp_path / 'model')
    assert not (tmp_path / 'model').exists()


def test_a_run_without_one_of_its_meshes_is_imported(tmp_path, meshes):
    """Objects that are left out are not compared; another view origin may be asked for."""
    some = shutil.copytree(meshes, tmp_path / 'some')
    (some / 'obj_000001.ply').unlink()
    identity = identity_of(list(load_bop_objects(meshes).values()), None, 0)
    path = tmp_path / 'checkpoint.pt'
    save_checkpoint(path, {'network': small_network().state_dict(), IDENTITY: identity}, SMALL)
    folder, left_out = import_published(path, SMALL, OBJECT_IDS, some, tmp_path / 'model',
                                        view_origin='box_centre')
    assert left_out == [1]
    assert read_paper_model(folder, meshes).spec == dataclasses.replace(
        SMALL, view_origin='box_centre')


def test_objects_without_a_mesh_are_left_out_and_keep_their_class(tmp_path, meshes):
    """A folder with some of the meshes gives a model of those, with the right kernels."""
    network = small_network(objects=3)
    checkpoint = write_checkpoint(tmp_path / 'published.pt', network.state_dict())
    path, left_out = import_published(checkpoint, SMALL, (1, 2, 3), meshes, tmp_path / 'model')
    assert left_out == [2]
    assert read_paper_model(path, meshes).class_indices == [0, 2]
    with pytest.raises(MeshError, match='none of the meshes'):
        import_published(checkpoint, SMALL, (7, 8, 9), meshes, tmp_path / 'none')
