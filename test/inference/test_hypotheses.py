"""The bins that stage 2 starts from, and the outline that chooses among the poses."""

from __future__ import annotations

import numpy as np
import pytest

from mrcnet_ros.errors import SpecError
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.geometry.crop import CropCamera
from mrcnet_ros.geometry.rotation_grid import rotation_grid
from mrcnet_ros.geometry.sampling import sample_crops
from mrcnet_ros.geometry.se3 import exp_so3, make_transform, rotation_angle
from mrcnet_ros.geometry.symmetry import Symmetries
from mrcnet_ros.inference.consensus import Answers, consensus
from mrcnet_ros.inference.hypotheses import APART_RAD, BinChooser
from mrcnet_ros.inference.outline_agreement import (
    NEUTRAL,
    OutlineAgreement,
    edge_directions,
    outline_agreement,
)
from mrcnet_ros.rendering.outline import Outline, template_outline
from mrcnet_ros.rendering.template_store import Templates

GRID = rotation_grid(2, 12)
FINE_GRID = rotation_grid(2, 24)  # its bins have others at 15 degrees
NONE = Symmetries.none()
HALF_TURN = Symmetries(np.stack([np.eye(4), np.diag([-1.0, -1.0, 1.0, 1.0])]))
SIZE_PX, FOCAL_PX, DISTANCE_M = 96, 300.0, 1.0
K = np.array([[FOCAL_PX, 0.0, 47.5], [0.0, FOCAL_PX, 47.5], [0.0, 0.0, 1.0]])


def chosen(logits, most, symmetries=NONE, allowed=None, grid=GRID):
    """Return bins and shares that are chosen for one crop."""
    allowed = np.ones((1, len(grid)), bool) if allowed is None else allowed[None]
    chooser = BinChooser(grid, allowed, [symmetries], most)
    found = chooser.choose(np.asarray(logits, np.float32)[None], np.zeros(1, np.int64))
    assert (found.rows == 0).all()
    return found.bins, found.shares


def logits_of(shares, grid=GRID):
    """Return logits with these probabilities, by bin; the other bins have the rest."""
    rest = (1.0 - sum(shares.values())) / (len(grid) - len(shares))
    values = np.full(len(grid), rest)
    for bin_index, share in shares.items():
        values[bin_index] = share
    return np.log(values)


def far_bins(count):
    """Return bins that are far from one another, half a turn about the object's z included."""
    found = [0]
    for i in range(1, len(GRID)):
        turns = [rotation_angle((GRID[i] @ S[:3, :3]).T @ GRID[j])
                 for j in found for S in HALF_TURN.transforms]
        if min(turns) > 2 * APART_RAD:
            found.append(i)
        if len(found) == count:
            return found
    raise AssertionError('the grid has too few')


def test_the_most_probable_bins_come_first():
    """With their probabilities, as many as asked for."""
    a, b, c, d = far_bins(4)
    logits = logits_of({a: 0.2, b: 0.3, c: 0.15, d: 0.25})
    bins, shares = chosen(logits, 3)
    assert bins.tolist() == [b, d, a]
    np.testing.assert_allclose(shares, [0.3, 0.25, 0.2], rtol=1e-5)
    bins, shares = chosen(logits, 1)
    assert bins.tolist() == [b] and shares.tolist() == [1.0]


def test_a_bin_that_is_far_less_probable_is_not_tried():
    """It takes time, and is hardly ever right: less than half of the best is too little."""
    a, b, c, _ = far_bins(4)
    assert chosen(logits_of({a: 0.4, b: 0.22, c: 0.18}), 3)[0].tolist() == [a, b]


def test_neighbours_of_a_better_bin_are_not_tried():
    """Stage 2 would end at the same pose; those of symmetric equivalents count as well."""
    first = 5
    turned = FINE_GRID[first] @ np.diag([-1.0, -1.0, 1.0])
    own, mirrored = (np.degrees(rotation_angle(np.swapaxes(FINE_GRID, 1, 2) @ R))
                     for R in (FINE_GRID[first], turned))
    near = int(np.flatnonzero((own > 10.0) & (own < 19.0))[0])
    far = int(np.argsort(own)[len(own) // 2])
    logits = logits_of({first: 0.3, near: 0.29, far: 0.28}, FINE_GRID)
    assert chosen(logits, 2, grid=FINE_GRID)[0].tolist() == [first, far]
    wide = int(np.argmin(np.where(own > 21.0, own, np.inf)))
    assert own[wide] < 35.0
    logits = logits_of({first: 0.3, wide: 0.29}, FINE_GRID)
    assert chosen(logits, 2, grid=FINE_GRID)[0].tolist() == [first, wide]
    beside = int(np.flatnonzero((mirrored > 10.0) & (mirrored < 19.0) & (own > 30.0))[0])
    logits = logits_of({first: 0.3, beside: 0.29, far: 0.28}, FINE_GRID)
    assert chosen(logits, 2, grid=FINE_GRID)[0].tolist() == [first, beside]
    assert mirrored[far] > 21.0
    assert chosen(logits, 2, HALF_TURN, grid=FINE_GRID)[0].tolist() == [first, far]


def test_bins_outside_the_view_prior_are_not_tried():
    """However probable."""
    a, b, c, _ = far_bins(4)
    allowed = np.ones(len(GRID), bool)
    allowed[a] = False
    bins, _ = chosen(logits_of({a: 0.5, b: 0.2, c: 0.15}), 2, allowed=allowed)
    assert bins.tolist() == [b, c]


@pytest.mark.parametrize('most', [0, 9, 2.5, -1])
def test_the_number_of_hypotheses_has_limits(most):
    """And the error names what was given."""
    with pytest.raises(SpecError, match=f'hypotheses must be .* from 1 to 8, got {most}'):
        BinChooser(GRID, np.ones((1, len(GRID)), bool), [NONE], most)


def box_depth(R):
    """Return the depth image of a card of 0.2 x 0.1 m at a distance of 1 m, turned in plane."""
    v, u = np.mgrid[:SIZE_PX, :SIZE_PX]
    rays = np.stack([(u - K[0, 2]) / FOCAL_PX, (v - K[1, 2]) / FOCAL_PX, np.ones_like(u)], -1)
    at = rays @ R  # object frame: R.T @ ray
    inside = (np.abs(at[..., 0]) < 0.1) & (np.abs(at[..., 1]) < 0.05)
    return np.where(inside, np.float32(DISTANCE_M), np.float32(0.0))


def turn(degrees):
    """Return a rotation about the optical axis."""
    return exp_so3([0.0, 0.0, np.radians(degrees)])


def agreement(image, R, t=(0.0, 0.0, DISTANCE_M)):
    """Return how well the outline of the card at a pose agrees with an image."""
    outline = template_outline(box_depth(np.eye(3)), K, np.eye(3), DISTANCE_M, 200)
    T = make_transform(R, np.array(t))[None, :3]
    return outline_agreement(edge_directions(image)[None], np.zeros(1, np.int64),
                             Outline(outline.points[None], outline.normals[None]), T, K[None])[0]


def picture(R, inside=180, outside=70):
    """Return an image of the card."""
    return np.where(box_depth(R)[..., None] > 0, np.uint8(inside), np.uint8(outside)).repeat(3, 2)


def test_the_outline_of_a_template_is_that_of_the_object():
    """Its points lie on the border of the card, its normals across it."""
    outline = template_outline(box_depth(turn(20)), K, turn(20), DISTANCE_M, 150)
    x, y, z = outline.points.T
    pixel_m = DISTANCE_M / FOCAL_PX
    border = np.minimum(np.abs(np.abs(x) - 0.1), np.abs(np.abs(y) - 0.05))
    assert border.max() < 1.2 * pixel_m and np.abs(z).max() < 1e-6
    assert outline.points.shape == outline.normals.shape == (150, 3)
    corner = np.hypot(np.abs(x) - 0.1, np.abs(y) - 0.05) < 4 * pixel_m
    on_short = np.abs(np.abs(x) - 0.1) < np.abs(np.abs(y) - 0.05)
    assert np.abs(outline.normals[on_short & ~corner, 0]).min() > 0.9
    assert np.abs(outline.normals[~on_short & ~corner, 1]).min() > 0.9


@pytest.mark.parametrize('truth', [0, 35, 70])
def test_the_true_pose_agrees_best(truth):
    """Better than other turns and other places."""
    image = picture(turn(truth))
    best = agreement(image, turn(truth))
    others = [agreement(image, turn(truth + d)) for d in (20, 40, 90, 140)]
    others += [agreement(image, turn(truth), (dx, dy, DISTANCE_M))
               for dx, dy in ((0.03, 0.0), (0.0, 0.03), (-0.05, 0.04))]
    assert best > 0.9 and max(others) < best - 0.1
    assert agreement(image, turn(truth), (0.0, 0.0, 1.4)) < best - 0.1


def test_the_pose_whose_outline_agrees_better_weighs_more():
    """By exp(20 x agreement)."""
    image = picture(turn(35))
    templates = Templates(1, np.zeros(1, np.int64), np.eye(3)[None],
                          np.zeros((1, SIZE_PX, SIZE_PX, 3), np.uint8),
                          box_depth(np.eye(3))[None], K, DISTANCE_M)
    T = np.stack([make_transform(turn(angle), [0.0, 0.0, DISTANCE_M]) for angle in (35, 75)])
    right, wrong = OutlineAgreement([templates]).likelihoods(
        image[None], Camera(K, SIZE_PX, SIZE_PX), [CropCamera(np.eye(3), K, SIZE_PX)],
        [(0, 0, 0)] * 2, T)
    apart = agreement(image, turn(35)) - agreement(image, turn(75))
    assert apart > 0.1 and right / wrong == pytest.approx(np.exp(20 * apart), rel=1e-4)


@pytest.mark.parametrize(('inside', 'outside'), [(70, 180), (124, 128), (250, 3)])
def test_contrast_does_not_matter(inside, outside):
    """Light on dark, dark on light, much or little."""
    image = picture(turn(35), inside, outside)
    assert agreement(image, turn(35)) > 0.9
    assert agreement(image, turn(75)) < 0.85


def test_where_nothing_is_seen_nothing_is_known():
    """In an even image, outside of the crop, behind the camera and at no pose at all."""
    even, seen = np.full((SIZE_PX, SIZE_PX, 3), 90, np.uint8), picture(turn(0))
    assert agreement(even, turn(0)) == pytest.approx(NEUTRAL)
    assert agreement(seen, turn(0), (0.5, 0.0, DISTANCE_M)) == pytest.approx(NEUTRAL)
    assert agreement(seen, turn(0), (0.0, 0.0, -DISTANCE_M)) == pytest.approx(NEUTRAL)
    assert agreement(seen, np.full((3, 3), np.nan)) == pytest.approx(NEUTRAL)


def test_random_directions_agree_as_nothing_does():
    """So unknown parts of an outline speak neither for nor against a pose."""
    noise = np.random.default_rng(0).integers(0, 255, (SIZE_PX, SIZE_PX, 3), np.uint8)
    assert agreement(noise, turn(10)) == pytest.approx(NEUTRAL, abs=0.05)


@pytest.mark.parametrize('pixels', [0, 1])
def test_a_plate_seen_edge_on_is_known_neither_to_agree_nor_not_to(pixels):
    """Its template has no pixels, or a line of them, which has no direction across."""
    depth = np.zeros((SIZE_PX, SIZE_PX), np.float32)
    depth[40:40 + pixels, 20:76] = DISTANCE_M
    outline = template_outline(depth, K, np.eye(3), DISTANCE_M, 50)
    T = make_transform(np.eye(3), np.array([0.0, 0.0, DISTANCE_M]))[None, :3]
    image = np.full((SIZE_PX, SIZE_PX, 3), 60, np.uint8)
    # it lies between two rows, so that its edges have a direction
    image[40, 20:76], image[41, 20:76] = 200, 130
    found = outline_agreement(edge_directions(image)[None], np.zeros(1, np.int64),
                              Outline(outline.points[None], outline.normals[None]), T, K[None])
    assert NEUTRAL - 0.05 < found[0] <= 1.0


def test_the_border_of_the_photograph_is_no_edge_of_the_object():
    """A pose that ends there is as good as one that goes on beyond, where nothing tells."""
    camera = Camera(np.array([[FOCAL_PX, 0, 320.0], [0, FOCAL_PX, 240.0], [0, 0, 1]]), 640, 480)
    angle = np.arctan2(-310.0, FOCAL_PX)  # looks to the left border
    crop = CropCamera(exp_so3([0.0, angle, 0.0]).T, K, SIZE_PX)
    grey = np.full((480, 640, 3), 128, np.uint8)
    pixels = sample_crops(grey, camera, [crop])
    assert (pixels == 0).any(), 'the border does not run through the crop'
    rgb = np.zeros((1, SIZE_PX, SIZE_PX, 3), np.uint8)
    templates = Templates(1, np.zeros(1, np.int64), np.eye(3)[None], rgb,
                          box_depth(np.eye(3))[None], K, DISTANCE_M)
    T = np.stack([make_transform(crop.R_crop_camera.T, crop.R_crop_camera.T @ [x, 0, DISTANCE_M])
                  for x in (-0.1, 0.0, 0.05, 0.07, 0.09, 0.1)])
    found = OutlineAgreement([templates]).likelihoods(
        pixels, camera, [crop], [(0, 0, 0)] * len(T), T)
    np.testing.assert_allclose(found / found[0], 1.0, atol=1e-6)
    grey[:, 40:] = 30  # an edge of something in the photograph counts
    seen = OutlineAgreement([templates]).likelihoods(
        sample_crops(grey, camera, [crop]), camera, [crop], [(0, 0, 0)] * len(T), T)
    assert np.ptp(seen) > 0.5 * seen.min()


def test_belief_decides_between_answers_of_equal_quality():
    """And an answer that is hardly believed does not lower the score of the others."""
    T = make_transform(np.eye(3), np.array([0.0, 0.0, 1.0]))
    other = make_transform(exp_so3([0.0, 2.0, 0.0]), np.array([0.0, 0.0, 1.0]))
    answers = Answers(np.stack([T, other, T, other]), np.full(4, 0.7),
                      np.array([1.0, 30.0, 1.0, 28.0]), np.array([0, 0, 1, 1]))
    found = consensus(answers, NONE, 0.2)
    np.testing.assert_allclose(found.T_camera_object, other, atol=1e-9)
    assert found.members.tolist() == [1, 3]
    assert found.score == pytest.approx(0.7 * 58 / 60)
    assert found.share == pytest.approx(58 / 60)
    assert found.apart < 0.1  # answers of one crop are not compared with one another


def test_answers_that_all_agree_have_all_of_the_belief():
    """Not a rounding error more, for a start refuses that."""
    T = make_transform(np.eye(3), np.array([0.0, 0.0, 1.0]))
    rng = np.random.default_rng(0)
    for count in (2, 3, 6, 7):
        for belief in rng.random((40, count)):
            answers = Answers(np.stack([T] * count), np.full(count, 0.7), belief,
                              np.arange(count) % 2)
            share = consensus(answers, NONE, 0.2).share
            assert share <= 1.0 and share == pytest.approx(1.0)
