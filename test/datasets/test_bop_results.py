"""Result files of BOP: what is written is read again, and damage is named."""


import bop_folder
import numpy as np
import pytest

from mrcnet_ros.datasets.bop import ResultRow, ResultsWriter, read_results_csv, write_results_csv
from mrcnet_ros.errors import DatasetError


def rows():
    return [ResultRow(7, image_id, object_id, 0.1 + 0.3 * index, T, 0.125 + image_id)
            for image_id, objects in bop_folder.SCENE.items()
            for index, (object_id, T) in enumerate(objects)]


def test_a_result_file_gives_back_what_was_written(tmp_path):
    """Writing and reading keeps numbers, order and poses to 1e-15 m."""
    path = tmp_path / 'sub' / 'out.csv'
    write_results_csv(path, rows())
    back = read_results_csv(path)
    assert len(back) == len(rows())
    for a, b in zip(rows(), back, strict=True):
        assert (a.scene_id, a.image_id, a.object_id, a.score, a.time_s) == (
            b.scene_id, b.image_id, b.object_id, b.score, b.time_s)
        np.testing.assert_array_equal(a.T_camera_object[:3, :3], b.T_camera_object[:3, :3])
        np.testing.assert_allclose(a.T_camera_object, b.T_camera_object, rtol=0, atol=1e-15)


def test_a_result_file_is_laid_out_as_bop_asks(tmp_path):
    """Header, R row by row, t in millimetres, separated by spaces."""
    path = tmp_path / 'out.csv'
    T = np.eye(4)
    T[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    T[:3, 3] = [0.001, -0.25, 1.5]
    write_results_csv(path, [ResultRow(2, 38, 5, 0.75, T, 0.5)])
    header, line = path.read_text().splitlines()
    assert header == 'scene_id,im_id,obj_id,score,R,t,time'
    fields = line.split(',')
    assert fields[:4] == ['2', '38', '5', '0.75'] and fields[6] == '0.5'
    assert [float(v) for v in fields[4].split(' ')] == [0, -1, 0, 1, 0, 0, 0, 0, 1]
    assert [float(v) for v in fields[5].split(' ')] == [1.0, -250.0, 1500.0]


def test_rows_written_before_an_error_are_in_the_file(tmp_path):
    """What was handed to the writer is on disk at once, before and after an exception."""
    path = tmp_path / 'out.csv'
    with pytest.raises(RuntimeError, match='halfway'), ResultsWriter(path) as writer:
        writer.write(rows()[:2])
        assert len(read_results_csv(path)) == 2
        raise RuntimeError('halfway')
    assert len(read_results_csv(path)) == 2


@pytest.mark.parametrize(('line', 'named'), [
    ('7,4,1,0.5,1 0 0 0 1 0 0 0 1,1 2 3', 'line 2: 6 columns'),
    ('7,4,1,0.5,1 0 0 0 1 0 0 0,1 2 3,0.1', 'line 2'),
    ('7,4,1,0.5,1 0 0 0 1 0 0 0 1,1 2,0.1', 'line 2'),
    ('7,4,x,0.5,1 0 0 0 1 0 0 0 1,1 2 3,0.1', 'line 2'),
    ('7,4,1,0.5,1 0 0 0 1 0 0 0 nan,1 2 3,0.1', 'not finite'),
    ('7,4,1,0.5,1 0 0 0 1 0 0 0 1,1 2 3,0.1\n7,4,3,0.5,1 0 0 0 1 0 0 0 1,1 2 3,0.3',
     'line 3: image 4 of scene 7 has rows with different times'),
])
def test_a_result_file_that_cannot_be_understood_is_refused_by_line(tmp_path, line, named):
    """The error names file and line."""
    path = tmp_path / 'out.csv'
    path.write_text('scene_id,im_id,obj_id,score,R,t,time\n' + line + '\n')
    with pytest.raises(DatasetError, match=named):
        read_results_csv(path)


def test_a_missing_result_file_is_named(tmp_path):
    """The path is in the message."""
    with pytest.raises(DatasetError, match=r'none\.csv'):
        read_results_csv(tmp_path / 'none.csv')
