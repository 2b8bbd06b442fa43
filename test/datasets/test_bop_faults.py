"""BOP folders and result files with numbers that cannot be, or files that do not fit together."""

import bop_folder
import cv2
import numpy as np
import pytest
from bop_folder import add_depth, edit, read

from mrcnet_ros.datasets.bop import BopDataset, read_results_csv
from mrcnet_ros.errors import DatasetError, MeshError, MrcnetError
from mrcnet_ros.evaluation.gallery import OverlayWriter
from mrcnet_ros.evaluation.vsd_scores import score_vsd
from mrcnet_ros.geometry.se3 import exp_so3
from mrcnet_ros.objects import load_bop_objects, load_object_list

R = exp_so3([0.3, -0.2, 0.5])
MIRROR = np.diag([-1.0, 1.0, 1.0])
root, scene = bop_folder.root_fixture(), bop_folder.scene_fixture()


def edit_gt(scene, **changes):
    edit(scene / 'scene_gt.json', lambda v: v['4'][0].update(**changes))


@pytest.mark.parametrize(('matrix', 'problem'), [
    (R @ MIRROR, 'mirror image'), (1.1 * R, 'factors of 1.1 to 1.1'),
    (np.zeros((3, 3)), 'factors of 0 to 0'), (R @ np.diag([1, 1, 0.9]), 'factors of 0.9 to 1'),
    (-R, 'mirror image')])
def test_matrices_of_the_ground_truth_that_are_no_rotations(root, scene, matrix, problem):
    """Mirrors, scales and shears are refused with file and annotation, not projected."""
    edit_gt(scene, cam_R_m2c=matrix.ravel().tolist())
    with pytest.raises(DatasetError, match=rf'scene_gt\.json: annotation 0 of object 1: .*no rot'
                                           rf'ation: .*{problem}'):
        read(root)


@pytest.mark.parametrize('factor', [1e-3, 1e3])
def test_ground_truth_in_another_unit_is_refused(root, scene, factor):
    """One pose in metres among many in millimetres is enough; so is the other way round."""
    t_mm = 1e3 * bop_folder.SCENE[4][0][1][:3, 3]
    edit_gt(scene, cam_t_m2c=(factor * t_mm).tolist())
    with pytest.raises(DatasetError, match=r'image 4 of scene 7 object 1 .* in millimetres'):
        read(root)


@pytest.mark.parametrize('factor', [1e-3, 1e3])
def test_models_in_another_unit_are_refused(root, factor):
    """Sizes of models_info.json and of boxes in the images must agree."""
    edit(root / 'toy/models_eval/models_info.json',
         lambda v: [e.update(diameter=factor * e['diameter']) for e in v.values()])
    with pytest.raises(DatasetError, match=r'models_info\.json must be in millimetres'):
        read(root)


def test_a_list_of_images_is_refused(root, scene):
    """Files of a scene name their images."""
    path = scene / 'scene_gt.json'
    path.write_text(f'[{path.read_text()}]')
    with pytest.raises(DatasetError, match=r'scene_gt\.json.*expected an object of images'):
        read(root)


def test_all_poses_in_centimetres_are_refused(root, scene):
    """A factor of ten is told from the median of all objects."""
    edit(scene / 'scene_gt.json', lambda v: [e.update(cam_t_m2c=[x / 10 for x in e['cam_t_m2c']])
                                             for entries in v.values() for e in entries])
    with pytest.raises(DatasetError, match=r'0\.1\d+ times as large as in models_info\.json'):
        read(root)


def test_an_object_behind_the_camera_is_refused(root, scene):
    """A visible object is in front."""
    edit_gt(scene, cam_t_m2c=[0, 0, -700.0])
    with pytest.raises(DatasetError, match=r'object 1 is -0\.7 m away'):
        read(root)


@pytest.mark.parametrize(('file', 'change', 'problem'), [
    ('scene_gt.json', lambda v: v['4'][0].update(obj_id=1.5), 'obj_id must be a whole number'),
    ('scene_gt.json', lambda v: v['4'][0].update(obj_id='1'), "obj_id must be .*'1'"),
    ('scene_gt.json', lambda v: v['4'][0].update(cam_t_m2c=['1', '2', '3']), 'm2c must be 3'),
    ('scene_gt.json', lambda v: v['4'][0].update(cam_t_m2c=[1, float('nan'), 3]),
     r'4\[0\]\.cam_t_m2c\[1\] is NaN'),
    ('scene_gt.json', lambda v: v.update({'4': {}}), 'must be a list of instances'),
    ('scene_gt_info.json', lambda v: v['4'][0].update(bbox_obj=[1, 2, 3]), 'bbox_obj must be 4'),
    ('scene_gt_info.json', lambda v: v['4'][0].update(visib_fract=float('inf')), 'is Infinity'),
    ('scene_gt_info.json', lambda v: v['4'][0].update(visib_fract=88), 'fract must be .* 88'),
    ('scene_camera.json', lambda v: v['4'].update(depth_scale=0), 'depth_scale must be .*got 0'),
    ('scene_camera.json', lambda v: v['4'].update(depth_scale=float('nan')), 'depth_scale is NaN'),
    ('scene_camera.json', lambda v: v['4']['cam_K'].__setitem__(0, float('nan')),
     r'4\.cam_K\[0\] is NaN'),
    ('../../camera.json', lambda v: v.update(width=320.5), 'width must be a whole number'),
    ('../../test_targets_bop19.json', lambda v: v.append(v[0]), 'object 1 of image 4 of scene 7 '
                                                                'is listed twice'),
    ('../../test_targets_bop19.json', lambda v: v[0].update(inst_count=1.5), 'inst_count must be'),
    ('../../models_eval/models_info.json', lambda v: v['1'].update(diameter=float('nan')),
     r'1\.diameter is NaN'),
    ('../../models_eval/models_info.json', lambda v: v.update({'01': v['1']}), 'the same number'),
    ('../../models_eval/models_info.json', lambda v: v['3'].update(symmetry_discrete=[]),
     r"unknown fields \['symmetry_discrete'\]"),
])
def test_a_number_that_cannot_be_is_named(root, scene, file, change, problem):
    """The message names the file and the field."""
    edit(scene / file, change)
    with pytest.raises(DatasetError, match=rf'{(scene / file).name}.*{problem}'):
        read(root)


def test_files_are_read_as_they_are_or_not_at_all(root, scene):
    """Keys that stand twice and bytes that are no UTF-8 are refused with the file."""
    path = scene / 'scene_camera.json'
    text = path.read_text()
    path.write_text(text[:-1] + ', ' + text[1:])
    with pytest.raises(DatasetError, match=r"scene_camera\.json: .*key '4' is given twice"):
        read(root)
    path.write_bytes(text.replace('cam_K', 'cam_é').encode('latin-1'))
    with pytest.raises(DatasetError, match=r'scene_camera\.json: .*not UTF-8'):
        read(root)


@pytest.mark.parametrize('name', ['000004.jpg', '4.png'])
def test_two_files_of_one_image_are_refused(root, scene, name):
    """Nobody can tell which one counts."""
    (scene / 'rgb' / name).write_bytes((scene / 'rgb/000004.png').read_bytes())
    with pytest.raises(DatasetError, match='are both image 4; remove one'):
        read(root)


def test_two_folders_of_one_scene_are_refused(root, scene):
    """As 7 and 000007 are."""
    (scene.parent / '7').mkdir()
    with pytest.raises(DatasetError, match='are both scene 7'):
        read(root)


def test_colour_counts_where_grey_lies_beside_it(root, scene):
    """Networks are trained with colour."""
    (scene / 'gray').mkdir()
    cv2.imwrite(str(scene / 'gray/000004.png'), np.zeros((240, 320), np.uint8))
    assert read(root).frames[0].load_image().std() > 1


@pytest.mark.parametrize('annotated', [True, False])
def test_targets_of_the_detection_task_name_images_alone(root, scene, annotated):
    """All that is visible is to be found; without truth, whatever a detector finds."""
    (root / 'toy/test_targets_bop19.json').unlink()
    (root / 'toy/test_targets_bop24.json').write_text('[{"scene_id": 7, "im_id": 17}]')
    edit(scene / 'scene_gt_info.json', lambda v: v['17'][2].update(visib_fract=0.05))
    if not annotated:
        for name in ('scene_gt.json', 'scene_gt_info.json'):
            (scene / name).unlink()
    dataset = read(root)
    assert [f.image_id for f in dataset.frames] == [17]
    assert dataset.frames[0].targets == ({3: 2} if annotated else {})
    assert dataset.frames[0].targets_unknown is not annotated
    assert dataset.object_ids == ((3,) if annotated else (1, 3))


def test_targets_of_the_localisation_task_count_where_both_are_there(root):
    """They say how many of what, which is what is scored here."""
    (root / 'toy/test_targets_bop24.json').write_text('[{"scene_id": 7, "im_id": 17}]')
    assert [f.image_id for f in read(root).frames] == [4, 17]


def test_names_that_a_shell_completed_are_those_without_the_slash(root):
    """Otherwise the targets of the split are not found, and other images are scored."""
    plain = BopDataset(root, 'toy', 'test')
    completed = BopDataset(root, 'toy/', 'test/')
    assert (completed.name, completed.split) == ('toy', 'test')
    assert [f.image_id for f in completed.frames] == [f.image_id for f in plain.frames]
    assert [f.targets for f in completed.frames] == [f.targets for f in plain.frames]


def two_sizes(root, scene):
    """Make the second image twice as large, as another camera's."""
    (root / 'toy/camera.json').unlink()
    path = scene / 'rgb/000017.png'
    cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), None, fx=2, fy=2))
    twice = np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]]) @ bop_folder.K
    edit(scene / 'scene_camera.json', lambda v: v['17'].update(cam_K=twice.ravel().tolist()))
    edit(scene / 'scene_gt_info.json', lambda v: [
        e.update({k: [2 * x for x in e[k]] for k in ('bbox_obj', 'bbox_visib')})
        for e in v['17']])


def test_images_of_two_sizes_are_drawn_and_scored(root, scene):
    """Outlines reach to where the objects are, and the truth has all of its surface right."""
    from mrcnet_ros.datasets.bop import ResultRow

    two_sizes(root, scene)
    add_depth(scene, (320, 240), (4,))
    add_depth(scene, (640, 480), (17,))
    frames, objects = read(root).frames, load_bop_objects(root / 'toy/models_eval')
    rows = [ResultRow(7, f.image_id, g.object_id, 0.9, g.T_camera_object)
            for f in frames for g in f.target_ground_truth()]
    assert score_vsd(frames, rows, objects).average == 1.0
    with OverlayWriter(root / 'drawn', objects, {1: 'a', 3: 'b'}, frames) as writer:
        for frame in frames:
            own = [r for r in rows if r.image_id == frame.image_id]
            black = np.zeros((frame.camera.height, frame.camera.width, 3), np.uint8)
            bgr = cv2.imread(str(writer.write(frame, black, own)))
            assert bgr.shape[:2] == (2 * frame.camera.height, 2 * frame.camera.width)
            for truth in frame.ground_truth:
                x1, y1, x2, y2 = (2 * np.clip(truth.box_amodal_xyxy, 0, None)).astype(int)
                assert (bgr[y1 - 4:y2 + 4, x1 - 4:x2 + 4, 1] > 180).sum() > x2 - x1


def test_pictures_of_other_images_are_not_mixed_with_new_ones(root, scene):
    """Those of the same images are replaced; other files are none of them."""
    frames, objects = read(root).frames, load_bop_objects(root / 'toy/models_eval')
    folder = root / 'drawn'
    folder.mkdir()
    for name in ('notes.png', f'000007_{frames[0].image_id:06d}.png'):
        (folder / name).touch()
    with OverlayWriter(folder, objects, {1: 'a', 3: 'b'}, frames):
        pass
    (folder / '000007_009999.png').touch()
    with pytest.raises(DatasetError, match=r'holds 1 pictures .* such as 000007_009999\.png'):
        OverlayWriter(folder, objects, {1: 'a', 3: 'b'}, frames)


GOOD = '7,4,1,0.5,1 0 0 0 1 0 0 0 1,0 0 700,0.1'


@pytest.mark.parametrize(('line', 'problem'), [
    (GOOD.replace('1 0 0 0 1', '-1 0 0 0 1'), 'line 2: R is no rotation: it is a mirror'),
    (GOOD.replace('1 0 0 0 1 0 0 0 1', '2 0 0 0 2 0 0 0 2'), 'line 2: R is no rotation'),
    (GOOD.replace('0.5', 'nan'), 'line 2: score nan'),
    (GOOD.replace('0.1', 'inf'), 'line 2: .*inf'),
    (GOOD.replace('700', 'nan'), 'line 2: the pose is not finite'),
    (GOOD.replace('7,4', '7,4.0'), r"line 2: im_id must be a whole number .*'4\.0'"),
    (GOOD.replace('7,4', '1_0,4'), "line 2: scene_id .*'1_0'"),
    (GOOD.replace('0 0 700', '0 0 0.7'), r'0\.0007 m away .*t must be in millimetres'),
    (GOOD.replace('0 0 700', '0 0 700000'), 't must be in millimetres'),
])
def test_a_row_that_cannot_be_a_pose_is_named(tmp_path, line, problem):
    """File and line are in the message."""
    path = tmp_path / 'poses.csv'
    path.write_text(f'scene_id,im_id,obj_id,score,R,t,time\n{line}\n')
    with pytest.raises(DatasetError, match=rf'poses\.csv.*{problem}'):
        read_results_csv(path)
    path.write_text(f'scene_id,im_id,obj_id,score,R,t,time\n{GOOD}\n')
    assert len(read_results_csv(path)) == 1


def test_columns_in_another_order_are_refused(tmp_path):
    """They would be taken for one another."""
    path = tmp_path / 'poses.csv'
    path.write_text(f'scene_id,im_id,obj_id,score,t,R,time\n{GOOD}\n')
    with pytest.raises(DatasetError, match='the columns are scene_id,im_id,obj_id,score,t,R,time'):
        read_results_csv(path)


IDENTITY = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(('entry', 'problem'), [
    ('label: on', None), ('label: 2024-01-01', None), ('label: 08', None), ('label: 5', None),
    ('label: true', 'label must be text, got True'), ('label: 1.10', 'label must be text'),
    ('label:', 'label must be text, got None'), ('label: null', 'label must be text'),
    ('label: x, id: 1_0', "id must be a whole number .*'1_0'"),
    ('label: x, id: 08', 'id must be a whole number'), ('label: x, id: 1.5', 'id must be'),
    ('label: x, id: true', 'id must be a whole number'), ('label: x, id: -1', 'id must be'),
    ('label: x, lable: y', r"unknown fields \['lable'\].*is 'label' meant"),
    ('label: x, symmetry_discrete: []', r"is 'symmetries_discrete' meant"),
    ('label: x, unit_m: mm', "unit_m must be a finite number from 1e-06, got 'mm'"),
    ('label: x, unit_m: -0.001', 'unit_m must be a finite number from 1e-06, got -0.001'),
    ('label: "x "', 'begin or end with a blank'), ('label: /x', 'begin with a slash'),
    ('label: "x\\ny"', 'cannot be printed'), ('label: "x\\u200by"', 'cannot be printed'),
    ('label: x, diameter: 1_00', "diameter must be .*'1_00'"),
    ('label: x, label: y', "the key 'label' is given twice"),
    ('label: x, symmetries_continuous: [{axis: [0, 0, 0], offset: [0, 0, 0]}]', 'an axis that is'),
    ('label: x, symmetries_continuous: [{axis: [0, 0, .nan], offset: [0, 0, 0]}]', 'malformed'),
    ('label: x, symmetries_continuous: [{axis: [0, 0, 1], offset: [0, 0, 0], angle: 3}]', 'needs'),
    (f'label: x, symmetries_discrete: [{[-1, *IDENTITY[1:]]}]', 'discrete.0. is no rot'),
    (f'label: x, symmetries_discrete: [{[*IDENTITY[:12], 5, 0, 0, 1]}]', 'column by column'),
    (f'label: x, symmetries_discrete: [{[*IDENTITY[:3], 99999, *IDENTITY[4:]]}]', 'moves it by'),
])
def test_fields_of_an_object_list_mean_what_they_say(root, entry, problem):
    """Words that YAML changes are kept or refused; the message names list and object."""
    entry = entry if ', id:' in entry else entry + ', id: 1'
    path = root / 'toy/models_eval/list.yaml'
    path.write_text(f'- {{mesh: obj_000001.ply, {entry}}}')
    if problem is None:
        word = entry.split(',')[0].removeprefix('label: ')
        assert load_object_list(path)[1].label == word
    else:
        with pytest.raises(MrcnetError, match=rf'list\.yaml.*(.|\n)*{problem}'):
            load_object_list(path)


def test_a_list_without_objects_is_refused(root):
    """Nothing could be trained with it or found by it."""
    (root / 'list.yaml').write_text('[]')
    with pytest.raises(DatasetError, match='names no objects'):
        load_object_list(root / 'list.yaml')


@pytest.mark.parametrize('motion', [
    {'symmetries_continuous': [{'axis': [0, 0, 1], 'offset': [40, 0, 0]}]},
    {'symmetries_discrete': [[1, 0, 0, 30, 0, -1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1]]}])
def test_a_symmetry_that_the_mesh_does_not_have_is_refused(root, motion):
    """About another axis than its own; true ones are kept."""
    path = root / 'toy/models_eval/models_info.json'
    assert load_bop_objects(path.parent)[3].load_mesh()
    edit(path, lambda v: v['3'].update(motion))
    with pytest.raises(MeshError, match=r'obj_000003\.ply: does not have the given symmetries'):
        load_bop_objects(path.parent)[3].load_mesh()


def with_sizes(root):
    """Say in models_info.json where the models are, which are around their origins."""
    edit(root / 'toy/models_eval/models_info.json', lambda v: [
        e.update({f'min_{a}': -40.0 for a in 'xyz'} | {f'size_{a}': 80.0 for a in 'xyz'})
        for e in v.values()] and None)


@pytest.mark.parametrize('change', [
    lambda v: [c.update(cam_K=[2 * k for k in c['cam_K'][:6]] + [0, 0, 1]) for c in v.values()],
    lambda v: [c.update(cam_K=[300, 0, 20, 0, 300, 230, 0, 0, 1]) for c in v.values()]])
def test_truth_beside_its_boxes_is_refused(root, scene, change):
    """As with cam_K of another resolution; a few boxes that are off do not matter."""
    with_sizes(root)
    assert len(read(root).frames) == 2
    edit(scene / 'scene_gt_info.json', lambda v: v['4'][0]['bbox_obj'].__setitem__(0, 270))
    assert len(read(root).frames) == 2
    edit(scene / 'scene_camera.json', change)
    with pytest.raises(DatasetError, match='are outside their boxes; cam_K must match'):
        read(root)


def test_a_target_that_is_there_no_times_is_refused(root):
    """The image would count as one without targets."""
    edit(root / 'toy/test_targets_bop19.json', lambda v: v[0].update(inst_count=0))
    with pytest.raises(DatasetError, match=r'inst_count of object .* is 0'):
        read(root)


def test_a_symmetry_of_models_info_that_is_none_names_file_and_object(root):
    """Scores would take wrong poses for right ones."""
    path = root / 'toy/models_eval/models_info.json'
    edit(path, lambda v: v['3'].update(symmetries_discrete=[[*IDENTITY[:5], -1, *IDENTITY[6:]]]))
    with pytest.raises(DatasetError, match=r'models_info\.json: object 3 .*mirror image'):
        load_bop_objects(path.parent)


def test_a_file_of_targets_that_names_none_is_refused(root):
    """It is no other way to ask for all objects."""
    (root / 'toy/test_targets_bop19.json').write_text('[]')
    with pytest.raises(DatasetError, match=r'test_targets_bop19\.json: names no targets; .*10%'):
        bop_folder.read(root)


@pytest.mark.parametrize('K', [[300, 0, 0, 0, 301, 0, 160, 118, 1],
                               [300, 160, 301, 118, 0, 0, 0, 0, 1]])
def test_intrinsics_in_another_order_name_file_and_image(root, scene, K):
    """Columns instead of rows, or fx, cx, fy, cy."""
    edit(scene / 'scene_camera.json', lambda v: v['17'].update(cam_K=K))
    with pytest.raises(DatasetError, match=r'scene_camera\.json: cam_K of image 17: .*be fx, 0'):
        read(root)
