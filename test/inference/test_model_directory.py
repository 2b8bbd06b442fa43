"""What a model directory lacks, or holds too much of, is told by file and with a remedy."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from meshes import bumpy_sphere, cube, write_ply
from model_copy import LAW, SCORE, SCORE_SOURCE, SOURCE, change, copy_model

from mrcnet_ros.cli.known_objects import model_objects, resized_labels
from mrcnet_ros.errors import BackendError, MeshError, ModelError
from mrcnet_ros.inference.calibration_entries import write_law, write_size_ratios
from mrcnet_ros.inference.estimator import PoseEstimator
from mrcnet_ros.inference.model_directory import read_model_directory
from mrcnet_ros.inference.uncertainty import CovarianceLaw
from mrcnet_ros.meshes import mesh_digest
from mrcnet_ros.model_json import SEAL
from mrcnet_ros.presets.loading import preset_of

EYE = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]

@pytest.fixture
def model(tiny_model: Any, tmp_path: Path) -> Path:
    """Copy a good model with its meshes."""
    return copy_model(tiny_model, tmp_path)


def test_a_good_model_is_read_with_the_meshes_beside_it(model):
    """Meshes are looked for in the model itself when no folder is given."""
    found = read_model_directory(model)
    assert found.name == 'tiny'
    assert [o.mesh_path for o in found.objects] == [
        model / 'meshes' / 'blob.ply', model / 'meshes' / 'box.ply']
    assert all(o.load_mesh().vertices.shape[1] == 3 for o in found.objects)


def test_the_digest_tells_models_apart(model):
    """Whatever changes in the description changes the digest."""
    before = read_model_directory(model).digest
    change(model, lambda v: v.update(name='other'))
    assert read_model_directory(model).digest != before


def test_the_digest_of_the_graphs_is_of_the_graphs_alone(model):
    """Calibrating a model does not make a verification of its graphs invalid; new graphs do."""
    before = read_model_directory(model).graphs_digest
    write_law(model, CovarianceLaw(**LAW))
    write_size_ratios(model, {'box': 0.9})
    assert read_model_directory(model).graphs_digest == before
    graph = model / 'stage2.onnx'
    graph.write_bytes(graph.read_bytes() + b' ')
    change(model, lambda v: v['files'].update(
        {graph.name: hashlib.sha256(graph.read_bytes()).hexdigest()}))
    assert read_model_directory(model).graphs_digest != before


def test_a_missing_directory_is_named(tmp_path):
    """A path that is not there is told, with what to give."""
    with pytest.raises(ModelError, match=r'absent.*no such directory.*give the directory'):
        read_model_directory(tmp_path / 'absent')


def test_a_directory_without_a_description_is_no_model(tmp_path):
    """Any other folder is told by its lack of model.json."""
    with pytest.raises(ModelError, match=r'no readable model\.json.*is this a model directory'):
        read_model_directory(tmp_path)


@pytest.mark.parametrize('read', [read_model_directory, preset_of, model_objects, resized_labels])
def test_a_directory_with_a_detector_alone_is_told(tmp_path, read):
    """By whatever needs a model of poses."""
    (tmp_path / 'model.json').write_text(json.dumps({
        'format_version': 1, 'name': 'x', 'files': {}, 'detector': {}}))
    with pytest.raises(ModelError, match=r'holds a detector alone; give the .* model of poses'):
        read(tmp_path)


@pytest.mark.parametrize('file', ['stage1.onnx', 'template.onnx', 'stage2.onnx'])
def test_a_missing_graph_is_named(model, file):
    """Each graph is needed."""
    (model / file).unlink()
    with pytest.raises(ModelError, match=f'lacks {file}; export the model again'):
        read_model_directory(model)


@pytest.mark.parametrize('file', ['stage1.onnx', 'template.onnx', 'stage2.onnx'])
def test_one_wrong_byte_in_a_graph_is_noticed(model, file):
    """A damaged graph is not loaded; the error names it and says what to do."""
    data = bytearray((model / file).read_bytes())
    data[len(data) // 2] ^= 1
    (model / file).write_bytes(data)
    with pytest.raises(ModelError, match=rf'{file}: is damaged.*copy or export'):
        read_model_directory(model)


def test_a_graph_that_the_description_does_not_hold_is_refused(model):
    """A graph without a hash could be any."""
    change(model, lambda v: v['files'].pop('stage2.onnx'))
    with pytest.raises(ModelError, match=r'stage2\.onnx.*model\.json says nothing'):
        read_model_directory(model)


def test_a_middle_outside_of_the_mesh_is_refused(model):
    """Templates would be drawn around another point than the poses are told of."""
    change(model, lambda v: v['objects'][1].update(middle_m=[0.0, 0.0, 0.02]))
    known = read_model_directory(model).objects[1]
    assert known.load_mesh() and known.centred().load_mesh()
    change(model, lambda v: v['objects'][1].update(middle_m=[0.0, 0.0, 20.0]))
    moved = read_model_directory(model).objects[1]
    for item in (moved, moved.centred()):
        with pytest.raises(MeshError, match=r'box\.ply: does not contain the given middle.*20'):
            item.load_mesh()


def test_a_folder_whose_name_is_no_utf8_is_read(tiny_model, model):
    """As any is in another locale; the runtime takes names as UTF-8."""
    moved = model.rename(model.parent / os.fsdecode(b'mod\xe8le'))
    PoseEstimator.load(moved, store_root=tiny_model.store).close()


def test_a_graph_that_the_runtime_cannot_load_is_named(model):
    """A file with the right hash that is no graph is told by the runtime, with its name."""
    (model / 'stage1.onnx').write_bytes(b'no graph')

    def edit(values: dict[str, Any]) -> None:
        values['files']['stage1.onnx'] = hashlib.sha256(b'no graph').hexdigest()

    change(model, edit)
    with pytest.raises(ModelError, match=r'stage1\.onnx: ONNX Runtime cannot load it'):
        PoseEstimator.load(model, store_root=model / 'store')


@pytest.mark.parametrize(('graph', 'other'), [('stage1', 'stage2'), ('template', 'stage1')])
def test_graphs_of_another_network_are_refused_when_they_are_loaded(model, graph, other):
    """A description without a seal cannot tell; each image would fail."""
    data = (model / f'{other}.onnx').read_bytes()
    (model / f'{graph}.onnx').write_bytes(data)
    change(model, lambda v: v['files'].update(
        {f'{graph}.onnx': hashlib.sha256(data).hexdigest()}))
    with pytest.raises(ModelError, match=r'graphs are not those of this network.*inputs'):
        PoseEstimator.load(model, store_root=model / 'store')


@pytest.mark.parametrize('edit', [
    lambda v: v['objects'].reverse(),
    lambda v: v['objects'].append({**v['objects'][0], 'object_id': 9, 'label': 'new'}),
    lambda v: v['objects'].pop(0),
    lambda v: v['objects'][0].update(diameter_m=v['objects'][0]['diameter_m'] * 1.02),
    lambda v: v['objects'][1].update(symmetries=[EYE]),
    lambda v: v['spec']['crop'].update(padding=3.0),
    lambda v: v['files'].update({'stage2.onnx': v['files']['stage1.onnx']})])
def test_a_description_that_was_changed_by_hand_is_refused(model, edit):
    """Where it belongs to its graphs: they would take one object for another, or other sizes."""
    seal = json.loads((model / 'model.json').read_text())[SEAL]
    change(model, lambda v: (edit(v), v.update({SEAL: seal})))
    with pytest.raises(ModelError, match=r'model\.json: was changed since its graphs'):
        read_model_directory(model)


def test_names_and_priors_may_be_changed_by_hand(model):
    """They are the user's."""
    seal = json.loads((model / 'model.json').read_text())[SEAL]
    change(model, lambda v: (v['objects'][0].update(label='tin', object_id=4, view_prior=None,
                                                     size_ratio=0.9),
                             v.update({SEAL: seal})))
    assert read_model_directory(model).objects[0].label == 'tin'


def test_two_objects_of_one_number_are_refused_without_meshes_as_well(model):
    """Else the labels of one of them would be lost in a bag."""
    change(model, lambda v: v['objects'][1].update(object_id=2))
    with pytest.raises(ModelError, match='two of its objects have the same object_id'):
        model_objects(model)


@pytest.mark.parametrize('version', [0, 2, '1', None])
def test_another_format_is_refused(model, version):
    """The error says which version there is and which is wanted."""
    change(model, lambda v: v.update(format_version=version))
    for read in (read_model_directory, model_objects):
        with pytest.raises(ModelError, match=r'format version .*expected 1; export the model ag'):
            read(model)


@pytest.mark.parametrize(('edit', 'problem'), [
    (lambda v: v['spec']['bins'].update(rings=3), r"bins: unknown fields \['rings'\]"),
    (lambda v: v['spec']['crop'].pop('padding'), r"crop: .*missing fields \['padding'\]"),
    (lambda v: v['spec'].update(novel=1), r"unknown fields \['novel'\]"),
    (lambda v: v.pop('spec'), "'spec'"),
    (lambda v: v.pop('files'), "'files'"),
    (lambda v: v['objects'][0].pop('diameter_m'), "'diameter_m'"),
    (lambda v: v['objects'][1].update(symmetries=[1, 2, 3]), 'reshape'),
    (lambda v: v['objects'][1].update(symmetries=[2.0] * 16), 'identity'),
    (lambda v: v['objects'][0].update(view_prior={'up': 3}), r"unknown fields \['up'\]"),
    (lambda v: v['objects'][0].update(view_prior=[]), 'view_prior'),
    (lambda v: v['objects'][0].update(view_prior={
        'elevation_min_deg': 0, 'elevation_max_deg': 1.57, 'tilt_max_deg': 0.87}),
     'view_prior is in degrees; .* look like radians'),
    (lambda v: v['objects'][0].update(view_prior={
        'elevation_min_deg': 90, 'elevation_max_deg': 0, 'tilt_max_deg': 50}),
     '-90 <= elevation_min_deg < elevation_max_deg <= 90.*got 90, 0 and 50'),
    (lambda v: v['spec'].update(preset='foo'), "preset is 'foo', expected 'default'"),
    (lambda v: v['spec']['crop'].update(size_px='96'), "crop: size_px must be int, got '96'"),
    (lambda v: v['spec']['crop'].update(padding=float('nan')), r'spec\.crop\.padding is NaN'),
    (lambda v: v['objects'][0].update(size_ratio=0.001), 'size_ratio must be .* 0.5 to 2'),
    (lambda v: v['objects'][0].update(label=True), 'label must be text, got True'),
    (lambda v: v['objects'][0].update(symmetries=[EYE, [-1, *EYE[1:]]]), 'is a mirror image'),
    (lambda v: v['objects'][0].update(symmetries=[EYE, [*EYE[:15], 2]]), 'the last row'),
    (lambda v: v['spec']['network'].update(radii=[1, 2]), 'network: radii must be tuple'),
    (lambda v: v['spec']['network'].update(radii=[1, 2, 2.5]), 'network: radii must be tuple'),
    (lambda v: v['objects'][0].update(diameter_m=0.0), 'blob.* has a diameter of 0 m'),
    (lambda v: v['objects'][0].update(diameter_m=float('nan')), r'\[0\]\.diameter_m is NaN'),
    (lambda v: v['objects'][1].update(label='blob'), "are both called 'blob'"),
    (lambda v: v['objects'][1].update(object_id=2), "'blob' and 'box' are both object 2"),
    (lambda v: v['objects'][1].update(size_ratoi=0.9), "fields ..size_ratoi.*is 'size_ratio' me"),
    (lambda v: v['objects'][1].update(unit_m=-0.001), 'unit_m must be a finite number from 1e-06'),
    (lambda v: v['objects'][1].update(bounds_m=[[0, 0, 0], [80, 80, 80]]), "bounds_m of 'box'"),
    (lambda v: v['objects'][1]['bounds_m'].reverse(), "bounds_m of 'box'"),
    (lambda v: v['objects'][1].update(label='/box'), 'begin with a slash'),
    (lambda v: v.update(objects=[]), 'names no objects'),
    (lambda v: v.update(objects=5), 'not iterable'),
    (lambda v: v.update(files=[]), 'files must map names'),
    (lambda v: v.update(files=None), 'files must map names'),
    (lambda v: v.update(covariance=[1.0]), 'covariance must map names to numbers'),
    (lambda v: v.update(covariance={**LAW, 'depth_gain': '1'}), 'depth_gain must be float'),
    (lambda v: v.update(covariance={**LAW, 'depth_floor': 0.0}), 'depth_floor must be 1e-05 to 1'),
    (lambda v: v.update(covariance={**LAW, 'rotation_gain': 11}), 'rotation_gain must be 0 to 10'),
    (lambda v: v.update(covariance={**LAW, 'slope': 1.0}), r'covariance: unknown fields ..slope'),
    (lambda v: v.update(covariance_source='photographs'), 'covariance_source must map names'),
    (lambda v: v.update(covariance_source={**SOURCE, 'source': 'a guess'}), "got 'a guess'"),
    (lambda v: v.update(covariance_source={**SOURCE, 'widened': [1.0]}), 'widened must be tuple'),
    (lambda v: v.update(covariance={'depth_gain': 1.0}), 'missing fields .*score_exponent'),
    (lambda v: v.update(score=0.5), 'score must map names to numbers'),
    (lambda v: v.update(score={**SCORE, 'quality_gain': -1.0}), 'quality_gain must be 0 to 20'),
    (lambda v: v.update(score={'offset': 1.0}), 'score: .*missing fields .*usual_apart'),
    (lambda v: v.update(score_source={**SCORE_SOURCE, 'source': 'a guess'}), "got 'a guess'"),
    (lambda v: v.update(score_source=[]), 'score_source must map names'),
])
def test_a_wrong_entry_of_the_description_is_named(model, edit, problem):
    """Fields of another version, and lacking ones, are told by their names."""
    change(model, edit)
    with pytest.raises(ModelError, match=rf'model\.json.*{problem}.*export the model again'):
        read_model_directory(model)


@pytest.mark.parametrize('text', ['', '{"format_version": 1', '[]', 'null'])
def test_a_description_that_is_cut_off_or_something_else_is_refused(model, text):
    """What is no JSON object is no model."""
    (model / 'model.json').write_text(text)
    with pytest.raises(ModelError, match='model'):
        read_model_directory(model)


def test_a_missing_mesh_folder_says_where_to_give_it(model):
    """Without meshes the error tells the option and the parameter for their folder."""
    shutil.rmtree(model / 'meshes')
    with pytest.raises(MeshError, match=r'meshes.*no such folder.*--meshes'):
        read_model_directory(model)
    with pytest.raises(MeshError, match=r'elsewhere.*no such folder'):
        read_model_directory(model, model / 'elsewhere')


def test_a_missing_mesh_names_its_object(model):
    """Which object needs the mesh is part of the error."""
    (model / 'meshes' / 'box.ply').unlink()
    with pytest.raises(MeshError, match=r"box\.ply.*is missing.*'box' needs it.*give the folder"):
        read_model_directory(model)


def test_another_mesh_under_the_same_name_is_noticed(model):
    """A mesh that is not the one trained with would give wrong templates: it is refused."""
    write_ply(model / 'meshes' / 'blob.ply', bumpy_sphere(0.051, subdivisions=2))
    with pytest.raises(MeshError, match=r"blob\.ply: is not the mesh known as 'blob'.*sha256"):
        PoseEstimator.load(model, store_root=model / 'store')


def test_another_mesh_is_noticed_also_when_templates_are_stored(model, tiny_model):
    """Templates drawn from the right mesh do not hide the wrong one."""
    PoseEstimator.load(model, store_root=model / 'store')
    write_ply(model / 'meshes' / 'blob.ply', bumpy_sphere(0.051, subdivisions=2))
    with pytest.raises(MeshError, match='is not the mesh known as'):
        PoseEstimator.load(model, store_root=model / 'store')


def test_a_mesh_in_another_unit_is_told_with_its_unit(model):
    """A mesh in metres where millimetres are said to be names both."""
    path = write_ply(model / 'meshes' / 'box.ply', cube(0.08), unit_m=1.0)
    change(model, lambda v: v['objects'][1].update(mesh_sha256=mesh_digest(path)))
    with pytest.raises(MeshError, match=r'box\.ply.*looks like the mesh is in metres'):
        PoseEstimator.load(model, store_root=model / 'store')


def test_an_unknown_backend_lists_the_known_ones(model):
    """The error says what there is."""
    with pytest.raises(BackendError, match=r"unknown backend 'abacus'.*onnxruntime"):
        PoseEstimator.load(model, backend='abacus', store_root=model / 'store')
