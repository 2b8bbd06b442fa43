"""The law of covariances: found again in errors drawn from it, and told when it cannot be."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from bop_folder import write_dataset

from mrcnet_ros.cli.calibrate_laws import measured_covariance
from mrcnet_ros.datasets.bop import BopDataset, ResultRow
from mrcnet_ros.errors import DatasetError
from mrcnet_ros.evaluation.covariance_calibration import (
    PHOTOGRAPHS,
    Images,
    law_of,
    unknown,
    widened_law,
)
from mrcnet_ros.evaluation.covariance_errors import PoseError, errors_of, truths_of
from mrcnet_ros.evaluation.covariance_fit import fit_law
from mrcnet_ros.evaluation.covariance_report import (
    covariance_table,
    left_out_reports,
    report_errors,
)
from mrcnet_ros.evaluation.enough_poses import MIN_IMAGES, MIN_POSES
from mrcnet_ros.evaluation.runner import Run
from mrcnet_ros.geometry.se3 import exp_so3, rotation_to_axis
from mrcnet_ros.inference.poses import PoseEstimate
from mrcnet_ros.inference.uncertainty import CovarianceLaw, PoseSpread
from mrcnet_ros.objects import load_bop_objects

LAW = CovarianceLaw(lateral_floor=0.01, lateral_gain=0.4, depth_floor=0.02, depth_gain=0.5,
                    rotation_floor_rad=0.06, rotation_gain=0.5, score_exponent=0.3)


def random_spread(rng: np.random.Generator) -> PoseSpread:
    """Return a spread as wide as those of real images, somewhere in view."""
    t = np.array([*rng.uniform(-0.3, 0.3, 2), rng.uniform(0.5, 1.2)])
    R = rotation_to_axis(t + rng.normal(0, 0.02, 3)).T
    axes = np.column_stack([R[:, :2] * t[2] * rng.uniform(0.1, 0.2), t])
    cells, turned = (rng.normal(size=(k, k)) * s for k, s in ((2, 0.05), (3, 0.4)))
    width = np.exp(rng.normal(0, 0.6))
    return PoseSpread(axes, width * cells @ cells.T, width * rng.uniform(0.02, 0.1) ** 2,
                      width * turned @ turned.T, float(1 / (1 + np.exp(-rng.normal(0.2, 1.0)))))


def draw(seed: int, count: int, *, flips: float = 0.0, axis: np.ndarray | None = None,
         per_image: int = 7) -> list[PoseError]:
    """Return errors drawn from the covariances that :data:`LAW` says.

    :param flips: part of the rotations that are wrong by a radian or two instead.
    :param axis: (3,) camera frame, about which nothing can be seen.
    """
    rng = np.random.default_rng(seed)
    seen = np.eye(3) if axis is None else np.eye(3) - np.outer(axis, axis)
    errors = []
    for i in range(count):
        spread = random_spread(rng)
        e = rng.multivariate_normal(np.zeros(6), LAW.covariances([spread])[0])
        if rng.random() < flips:
            e[3:] = rng.normal(0, 1.2, 3)
        errors.append(PoseError((1, i // per_image), spread, e[:3], seen @ e[3:], seen))
    return errors


def test_the_law_is_found_again_in_errors_drawn_from_it():
    """All seven numbers, within what so many draws can tell."""
    found = dataclasses.asdict(fit_law(draw(0, 3000)))
    for name, value in dataclasses.asdict(LAW).items():
        assert found[name] == pytest.approx(value, rel=0.15), name


def test_new_errors_lie_within_the_ellipsoids_that_should_hold_them():
    """50, 90 and 99 % of draws that the law was not fitted to, for each group."""
    law, fresh = fit_law(draw(1, 300)), draw(2, 3000)
    for group in report_errors(fresh, [(np.arange(len(fresh)), law)]):
        assert group.inside == tuple(pytest.approx(level, abs=far) for level, far in
                                     ((0.5, 0.08), (0.9, 0.05), (0.99, 0.015)))
        assert group.rank > 0.2


def test_a_law_that_is_twice_too_sure_is_told_by_the_report():
    """Far fewer errors lie inside than should."""
    half = {n: v / 2 for n, v in dataclasses.asdict(LAW).items() if n != 'score_exponent'}
    fresh = draw(3, 1000)
    for group in report_errors(fresh, [(np.arange(len(fresh)), dataclasses.replace(LAW, **half))]):
        assert group.inside[0] < 0.3
        assert group.inside[1] < 0.75


def test_left_out_images_are_covered_as_well():
    """Each image with a law fitted to the others: no more than chance is missing."""
    groups = left_out_reports(draw(4, 210))
    assert [g.name for g in groups] == ['lateral', 'depth', 'rotation']
    for group in groups:
        assert group.poses == 210
        assert group.inside[0] == pytest.approx(0.5, abs=0.1)
        assert group.inside[1] == pytest.approx(0.9, abs=0.06)
    lines = list(covariance_table(groups))
    assert 'in 50%' in lines[0]
    assert 'deg' in lines[3]


def test_rotations_that_flip_widen_the_rest_but_little():
    """With one flip in twenty the deviations of ordinary poses stay within a factor of 1.5."""
    law = fit_law(draw(5, 1500, flips=0.05))
    assert 1.0 < law.rotation_gain / LAW.rotation_gain < 1.5
    fresh = draw(6, 1500, flips=0.05)
    rotation = report_errors(fresh, [(np.arange(len(fresh)), law)])[2]
    assert rotation.inside[0] == pytest.approx(0.5, abs=0.12)
    assert rotation.inside[1] == pytest.approx(0.9, abs=0.05)
    assert rotation.inside[2] < 0.975, 'ellipsoids of 99 % do not hold flips'


def test_what_a_continuous_symmetry_hides_does_not_make_the_law_too_sure():
    """Errors of bottles have two dimensions, and are counted so."""
    law = fit_law(draw(7, 2000, axis=np.array([0.0, 0.6, 0.8])))
    assert law.rotation_gain == pytest.approx(LAW.rotation_gain, rel=0.15)
    assert law.rotation_floor_rad == pytest.approx(LAW.rotation_floor_rad, rel=0.2)


def test_errors_as_large_as_the_distance_make_no_law():
    """They tell of annotations in another unit; a clipped law would hide it."""
    errors = [dataclasses.replace(e, t_error_m=1e3 * e.t_error_m) for e in draw(8, 300)]
    with pytest.raises(DatasetError, match=r'would need a \w+_floor of .* in millimetres'):
        fit_law(errors)


def test_too_few_poses_are_refused():
    """Also many poses on a few images, and those whose rotation cannot be seen."""
    for errors in ([], draw(8, MIN_POSES - 1), draw(8, 200, per_image=200 // (MIN_IMAGES - 1) + 1),
                   [dataclasses.replace(e, seen=np.zeros((3, 3))) for e in draw(8, 200)]):
        with pytest.raises(DatasetError, match='too few to fit a covariance'):
            left_out_reports(errors)


def test_as_few_poses_as_a_law_needs_have_a_report():
    """One image less than a law needs is still enough to report on the one left out."""
    errors = draw(8, MIN_POSES, per_image=-(-MIN_POSES // MIN_IMAGES))
    assert len({e.image for e in errors}) == MIN_IMAGES
    assert [group.poses for group in left_out_reports(errors)] == [MIN_POSES] * 3


def test_no_pose_at_all_is_no_fault_of_the_preset(capsys):
    """The reason is that there are too few."""
    assert measured_covariance(Run(), {}, {}, Images('photographs', 'visib', 1, 3, 0)) is None
    said = capsys.readouterr().out
    assert 'no covariance: 0 poses on 0 images are too few' in said and 'preset' not in said


def test_a_law_outlives_its_report(monkeypatch, capsys):
    """Here nothing is known of rotations where the one image is left out that shows them."""
    errors = [e if e.image == (1, 0) else dataclasses.replace(e, seen=np.zeros((3, 3)))
              for e in (*draw(8, MIN_POSES, per_image=MIN_POSES), *(
                  dataclasses.replace(e, image=(1, 1 + e.image[1])) for e in draw(9, 49)))]
    monkeypatch.setattr('mrcnet_ros.evaluation.covariance_errors.errors_of', lambda *_: errors)
    found = measured_covariance(Run(), {}, {}, Images('photographs', 'visib', 1, 3, 0))
    said = capsys.readouterr().out
    assert found is not None and found[1].poses == len(errors)
    assert 'no report on images that were left out of the fit' in said


def test_few_images_widen_a_law_more_than_many():
    """What is unknown falls with the number of images, not with that of poses on them."""
    few, many = draw(9, 56), draw(9, 1400)
    crowded = [dataclasses.replace(e, image=(1, e.image[1] % 8)) for e in many]
    for name in PHOTOGRAPHS:
        factors = [unknown(LAW, errors)[name] for errors in (few, many)]
        assert 1.0 < factors[1] < 1.06 < factors[0] < 1.5
    copies = [e for e in few for _ in range(25)]  # says no more than the few do
    assert len({e.image for e in crowded}) == len({e.image for e in few}) == 8
    assert unknown(LAW, copies) == pytest.approx(unknown(LAW, few), rel=0.1)


def test_laws_of_few_images_hold_new_errors_more_often_when_widened():
    """Over many sets of eight images the widened laws hold more, and about what they should."""
    inside = {True: [], False: []}
    fresh = draw(10, 700)
    for seed in range(8):
        errors = draw(100 + seed, 56)
        law = fit_law(errors, LAW)
        for wide in inside:
            used = widened_law(law, unknown(law, errors)) if wide else law
            groups = report_errors(fresh, [(np.arange(len(fresh)), used)])
            inside[wide].append([g.inside[1] for g in groups])
    narrow, wide = (np.mean(inside[k]) for k in (False, True))
    assert narrow < wide
    assert wide == pytest.approx(0.92, abs=0.04)


def test_a_law_of_renders_is_widened_for_photographs_and_says_so():
    """Unless the model is used on renders too."""
    errors = draw(11, 300)
    plain, source = law_of(errors, Images('synthetic', 'detector', 2, 3, 0, for_photographs=False))
    wide, marked = law_of(errors, Images('synthetic', 'detector', 2, 3, 0))
    real, of_photographs = law_of(errors, Images('photographs', 'visib', 2, 3, 0))
    assert (source.source, source.poses, source.images, source.boxes, source.crops) == (
        'synthetic', 300, 43, 'detector', 2)
    assert real == plain and of_photographs.source == 'photographs'
    assert wide.lateral_gain / plain.lateral_gain == pytest.approx(PHOTOGRAPHS['lateral'])
    assert wide.rotation_gain / plain.rotation_gain == pytest.approx(PHOTOGRAPHS['rotation'])
    assert marked.widened[0] / source.widened[0] == pytest.approx(PHOTOGRAPHS['lateral'], rel=1e-2)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    """Return two frames; the first has each object once."""
    root = tmp_path_factory.mktemp('bop')
    write_dataset(root)
    return BopDataset(root, 'toy', 'test')


@pytest.fixture(scope='module')
def objects(dataset):
    """Return the objects by label; number 3 looks the same after a quarter turn."""
    return {m.label: m for m in load_bop_objects(dataset.models_dir).values()}


def run_of(dataset, objects, *, rotation=(0.0, 0.0, 0.0), factor=1.0, spread=True) -> Run:
    """Return the truth as estimates, turned about the object's axes and at other distances."""
    run, labels = Run(), {m.object_id: m.label for m in objects.values()}
    rng = np.random.default_rng(0)
    for frame in dataset.frames:
        run.frames.append(frame)
        for truth in frame.target_ground_truth():
            T = truth.T_camera_object.copy()
            T[:3, :3] = T[:3, :3] @ exp_so3(rotation)
            T[:3, 3] *= factor
            run.rows.append(ResultRow(frame.scene_id, frame.image_id, truth.object_id, 0.9, T))
            run.poses.append(PoseEstimate(
                labels[truth.object_id], truth.object_id, T, 0.9, 0, '', np.zeros(4),
                spread=random_spread(rng) if spread else None))
    return run


def test_errors_are_those_that_sizes_leave(dataset, objects):
    """Distances 10 % too large are no error of an object that is found to be that much smaller."""
    run = run_of(dataset, objects, factor=1.1)
    for size, left in ((1.0, 0.1), (1 / 1.1, 0.0)):
        errors = errors_of(run, objects, dict.fromkeys(objects, size))
        assert len(errors) == 5
        for error in errors:
            distance = np.linalg.norm(error.t_error_m) / np.linalg.norm(error.spread.axes_m[:, 2])
            assert (distance > 0.05) == (left > 0)


def test_a_symmetric_view_is_no_error(dataset, objects):
    """A quarter turn is an error of the object that has no such symmetry alone."""
    run = run_of(dataset, objects, rotation=(0.0, 0.0, np.pi / 2))
    errors = errors_of(run, objects, dict.fromkeys(objects, 1.0))
    angles = sorted(round(float(np.linalg.norm(e.rotation_error_rad)), 3) for e in errors)
    assert angles == [0.0, 0.0, 0.0, 1.571, 1.571]


@pytest.mark.parametrize(('apart', 'known'), [
    (0.0, [True, True]),
    (0.2, [True, True]),  # of the way to the other one
    (0.4, [False, True]),  # as near to the other one as to be in doubt
    (0.9, [False, True]),  # nearer to the other one, which has a better estimate
    (1.1, [False, True])])
def test_the_truth_of_one_of_two_is_that_on_its_ray(dataset, objects, apart, known):
    """Where that is not clear there is none; the first estimate is moved towards the other."""
    run = run_of(dataset, objects, factor=1.2)
    rows = [r for r in run.rows if (r.image_id, r.object_id) == (17, 3)]
    true = [t for t in run.frames[1].target_ground_truth() if t.object_id == 3]
    T = rows[0].T_camera_object.copy()
    T[:3, 3] += apart * (rows[1].T_camera_object[:3, 3] - T[:3, 3])
    rows[0] = dataclasses.replace(rows[0], T_camera_object=T)
    for order in (slice(None), slice(None, None, -1)):
        found = truths_of(run.frames, rows[order])
        assert [t is not None for t in found] == known[order]
        assert all(t is None or t is wanted
                   for t, wanted in zip(found, true[order], strict=True))


@pytest.mark.parametrize(('spread', 'told'), [(True, 'too few to fit'), (False, 'no pose came')])
def test_no_law_is_made_of_too_little(dataset, objects, capsys, spread, told):
    """The command says why, and goes on with the sizes."""
    sizes = dict.fromkeys(objects, 1.0)
    assert measured_covariance(run_of(dataset, objects, spread=spread), objects, sizes,
                               Images('photographs', 'visib', 1, 3, 0)) is None
    assert told in capsys.readouterr().out
