"""The training of a refiner: its crops are those of poses about as wrong as answers are."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip('torch', reason='needs the train extra')

import torch
from same_states import assert_same
from small_training import LOG_EVERY, VALIDATION_SAMPLES, metrics
from tiny_model import REFINER_SPEC, SPEC, random_stem, refiner_config, write_material

from mrcnet_ros.errors import ModelError, SpecError
from mrcnet_ros.geometry.se3 import rotation_angle
from mrcnet_ros.network.mrcnet import Pyramid, RefinerNetwork, Stage2
from mrcnet_ros.specs import NetworkSpec
from mrcnet_ros.training import trainer
from mrcnet_ros.training.checkpoint import load_checkpoint
from mrcnet_ros.training.config import RefinerConfig
from mrcnet_ros.training.refiner_composer import RefinerComposer, start_near
from mrcnet_ros.training.run_config import read_config
from mrcnet_ros.training.step import refiner_step
from mrcnet_ros.training.targets import stack_samples
from mrcnet_ros.training.trainer import train
from mrcnet_ros.training.training_data import load_material, load_templates, load_views
from mrcnet_ros.training.training_start import build_network
from mrcnet_ros.training.warm_start import read_refiner_start


@pytest.fixture(scope='module')
def config(tmp_path_factory: pytest.TempPathFactory) -> RefinerConfig:
    """Return a configuration of few steps; its views are rendered once."""
    made = write_material(tmp_path_factory.mktemp('material'), processes=1, steps=16)
    return refiner_config(made)


@pytest.fixture(scope='module')
def material(config: RefinerConfig):
    """Return what its samples are composed from."""
    objects = config.load_objects()
    return load_material(config, objects, load_views(config, objects), [])


@pytest.fixture(autouse=True)
def small_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log and validate on few samples."""
    monkeypatch.setattr(trainer, 'LOG_EVERY', LOG_EVERY)
    monkeypatch.setattr(trainer, 'VALIDATION_SAMPLES', VALIDATION_SAMPLES)


def test_crops_show_objects_about_as_templates_do(material):
    """The origin is near the middle, the size near that of templates, the template is near.

    How far, says the error of the pose that the crop was made for.
    """
    composer = material.composer
    assert isinstance(composer, RefinerComposer)
    samples = [composer.sample(3, i) for i in range(120)]
    off = np.array([np.hypot(*s.xy) / np.exp(s.log_size) for s in samples])
    larger = np.array([s.log_size - np.log(0.8) for s in samples])
    turned = np.degrees([rotation_angle(s.R_ray_object @ composer._grid[s.template].T)
                         for s in samples])
    assert 0.005 < np.median(off) < 0.03 and off.max() < 0.5
    assert 0.005 < np.median(np.abs(larger)) < 0.04
    # twelve directions are up to 37 degrees apart from a view
    assert np.median(turned) < 37.0
    assert {s.class_index for s in samples} == {0, 1}


def test_most_starts_are_near_and_some_are_far():
    """Errors of answers have heavy tails."""
    rng, R = np.random.default_rng(5), np.eye(3)
    starts = [start_near(rng, R, 0.8, 0.1) for _ in range(4000)]
    turns = np.degrees([rotation_angle(T[:3, :3]) for T in starts])
    z = np.array([abs(np.log(T[2, 3] / 0.8)) for T in starts])
    across = np.array([np.hypot(*T[:2, 3]) / 0.1 for T in starts])
    assert 5.0 < np.median(turns) < 8.0 and 0.04 < np.mean(turns > 25.0) < 0.15
    assert 0.008 < np.median(z) < 0.02 and 0.01 < np.median(across) < 0.025


def test_the_same_sample_comes_again(material):
    """It depends on seed and number alone."""
    first, second = (material.composer.sample(9, 4) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    assert first.template == second.template and first.log_size == second.log_size


def test_the_loss_of_a_perfect_answer_is_that_of_the_dense_parts(config, material):
    """Of an answer that says the true pose, the terms of the pose are zero."""
    objects = config.load_objects()
    network, bank = build_network(config, objects, random_stem()), load_templates(config, objects)
    bank.refresh(network)
    network.eval()
    batch = stack_samples([material.composer.sample(1, i) for i in range(6)]).ready(
        torch.device('cpu'))
    R_residual = batch.rotation @ material.grid[batch.template].mT
    right = Stage2(R_residual[:, :, :2].mT.flatten(1), batch.xy, batch.log_size, torch.zeros(6))
    network.residual.regress = lambda *_: right
    parts = refiner_step(network, batch, bank, material.shapes, material.grid).parts
    assert max(parts['rotation'], parts['xy'], parts['depth']) < 1e-3
    assert parts['recall'] > 0.99 and parts['mask'] > 0 and 'rotation_bin' not in parts


def test_nothing_has_to_be_aligned():
    """The refiner is stage 2 at the middle and at the size of templates, without the warp."""
    torch.manual_seed(2)
    network = RefinerNetwork(spec=REFINER_SPEC, objects=2).eval()
    torch.nn.init.normal_(network.residual.output.weight, std=0.1)
    size, (e4, e8, e16) = 32, REFINER_SPEC.network.embedding
    crop, template = (Pyramid(*(torch.rand(3, c, size // s, size // s)
                                for c, s in ((e4, 4), (e8, 8), (e16, 16), (4, 4))))
                      for _ in range(2))
    classes = torch.tensor([0, 1, 1])
    with torch.no_grad():
        found = network(crop, network.residual.project_template(template), classes)
        aligned = network.residual(crop, template, torch.zeros(3, 2),
                                   torch.full((3,), float(np.log(0.8))), classes)
    for a, b in zip(found, aligned, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_a_stopped_training_goes_on_as_if_nothing_had_happened(config, tmp_path):
    """The same bits and the same metrics; and it learns."""
    whole = dataclasses.replace(config, output=tmp_path / 'whole')
    stopped = dataclasses.replace(config, output=tmp_path / 'stopped')
    train(whole, random_stem())
    train(stopped, random_stem(), stop_after=8)
    train(stopped, random_stem())
    first, second = (load_checkpoint(c.output / 'checkpoint.pt', REFINER_SPEC)
                     for c in (whole, stopped))
    for part in ('step', 'samples', 'network', 'average', 'optimizer'):
        assert_same(first[part], second[part], part)
    assert metrics(whole) == metrics(stopped)
    losses = [row['loss'] for (_, validation), row in sorted(metrics(whole).items())
              if not validation]
    assert len(losses) == 4 and losses[-1] < losses[0]


def test_it_starts_from_the_layers_of_stage_2_or_from_a_refiner(tiny_model, refined_model):
    """Every layer that both have; the other stages are left out."""
    stage2 = read_refiner_start(tiny_model.path, REFINER_SPEC)
    own = read_refiner_start(refined_model.path, REFINER_SPEC)
    whole = torch.load(tiny_model.path / 'weights.pt', weights_only=True)['average']
    assert set(stage2.weights) == set(own.weights) == {
        name for name in whole if not name.startswith('coarse.')}
    assert all(torch.equal(value, whole[name].to(value.dtype))
               for name, value in stage2.weights.items())
    config = refiner_config(tiny_model.config, init=refined_model.path)
    network = build_network(config, config.load_objects(), random_stem())
    name = 'residual.output.weight'
    assert torch.equal(network.state_dict()[name], own.weights[name])
    assert not torch.equal(own.weights[name], stage2.weights[name])


def test_a_start_of_other_widths_is_refused(tiny_model):
    """Both are told."""
    wide = dataclasses.replace(REFINER_SPEC, network=NetworkSpec())
    with pytest.raises(ModelError, match='both must be the same'):
        read_refiner_start(tiny_model.path, wide)


def test_what_a_refiner_cannot_have_is_refused(config):
    """By name."""
    with pytest.raises(SpecError, match='a refiner is trained whole'):
        dataclasses.replace(config, freeze_shared=True, init=config.cache).check()
    sides = dataclasses.replace(SPEC.template, size_px=40)
    with pytest.raises(SpecError, match='must be a multiple of 32'):
        dataclasses.replace(config, spec=dataclasses.replace(
            REFINER_SPEC, template=sides)).check()


def test_the_shipped_configuration_can_be_read(monkeypatch):
    """It is of the preset, and its widths are those of the model it starts from."""
    from mrcnet_ros.store.shared_files import shared_file

    found = read_config(RefinerConfig, shared_file('config/train_lmo_refiner.yaml'))
    assert found.spec.nside == 4 and found.spec.network.radii == (3, 3, 2)
    assert found.spec.crop.size_px == 96
