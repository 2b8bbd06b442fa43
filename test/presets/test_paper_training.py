"""Training the paper preset: samples, start, schedule, precision, resume, several processes."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the train extra')

import yaml  # noqa: E402
from paper_training import SPEC  # noqa: E402
from same_states import assert_same  # noqa: E402
from synth_folder import MESHES  # noqa: E402

from mrcnet_ros.cli.main import main  # noqa: E402
from mrcnet_ros.errors import ModelError, MrcnetError, SpecError  # noqa: E402
from mrcnet_ros.geometry.camera import Camera  # noqa: E402
from mrcnet_ros.inference.poses import Detection  # noqa: E402
from mrcnet_ros.presets.paper.estimator import PaperEstimator  # noqa: E402
from mrcnet_ros.presets.paper.export import published  # noqa: E402
from mrcnet_ros.presets.paper.network.mrcnet import PaperNet  # noqa: E402
from mrcnet_ros.presets.paper.spec import paper_spec  # noqa: E402
from mrcnet_ros.presets.paper.training.config import PaperTrainConfig  # noqa: E402
from mrcnet_ros.presets.paper.training.ranks import Ranks  # noqa: E402
from mrcnet_ros.presets.paper.training.samples import stack  # noqa: E402
from mrcnet_ros.presets.paper.training.start import starting_network  # noqa: E402
from mrcnet_ros.presets.paper.training.step import PaperStep  # noqa: E402
from mrcnet_ros.presets.paper.training.trainer import (  # noqa: E402
    PaperRun,
    is_plain,
    load_samples,
    paper_rate,
    train_paper,
)
from mrcnet_ros.training.checkpoint import load_checkpoint  # noqa: E402
from mrcnet_ros.training.loop import alone_in, decay_groups  # noqa: E402
from mrcnet_ros.training.run_config import read_config  # noqa: E402

CONFIG = Path(__file__).parents[2] / 'config' / 'train_paper.yaml'
ALONE = Ranks(0, 1, torch.device('cpu'))


@pytest.fixture(scope='module')
def whole_run(config) -> PaperTrainConfig:
    """Train once without a stop."""
    assert train_paper(config) == config.output / 'checkpoint.pt'
    return config


@pytest.fixture(scope='module')
def network() -> PaperNet:
    """Return a network as training starts it."""
    return starting_network(SPEC, len(MESHES), None, seed=3)


def metrics(config: PaperTrainConfig) -> list[dict[str, float]]:
    """Return what was logged, less the clock's part."""
    rows = map(json.loads, (config.output / 'metrics.jsonl').read_text().splitlines())
    return [{k: v for k, v in row.items() if k not in ('rate', 'hours')} for row in rows]


def assert_same_training(config: PaperTrainConfig, other: PaperTrainConfig) -> None:
    """Compare the last checkpoints and the metrics of two runs."""
    first, second = (load_checkpoint(c.output / 'checkpoint.pt', SPEC) for c in (config, other))
    for part in ('step', 'network', 'optimizer', 'scaler', 'sums', 'counted'):
        assert_same(first[part], second[part], part)
    assert metrics(config) == metrics(other)


def test_the_learning_rate_goes_from_the_lowest_to_the_highest_and_back(config):
    """Linear over the warm-up, then half a cosine, as published."""
    published = dataclasses.replace(config, learning_rate=2e-4, final_rate=5e-6, warmup=1000)
    rates = [paper_rate(published, 5000, step) for step in (0, 500, 1000, 3000, 5000)]
    assert rates == pytest.approx([5e-6, (5e-6 + 2e-4) / 2, 2e-4, (5e-6 + 2e-4) / 2, 5e-6])


def test_only_kernels_and_matrices_decay(network):
    """Biases, those of the objects included, and norms do not; nothing is left out or twice."""
    decayed, plain = decay_groups(network.named_parameters(), 1e-3, is_plain)
    assert (decayed['weight_decay'], plain['weight_decay']) == (1e-3, 0.0)
    names = {id(p): name for name, p in network.named_parameters()}
    for p in decayed['params']:
        assert p.ndim > 1 and names[id(p)].endswith(('weight', 'weights'))
    for p in plain['params']:
        assert names[id(p)].endswith('bias') or '.norm.' in names[id(p)] or p.ndim == 1
    trained = [id(p) for p in network.parameters() if p.requires_grad]
    assert sorted(trained) == sorted(id(p) for g in (decayed, plain) for p in g['params'])


def test_residuals_start_below_the_width_of_a_bin(network):
    """Depth and xy of stage 2 begin near nothing, as published."""
    for head, bins in ((network.regressor.depth_reg, 1000), (network.regressor.trans_reg, 64)):
        weight = head.linear2.weight.detach()
        assert 0 < weight.abs().max() <= (6 / sum(weight.shape)) ** 0.5 / bins
        assert not head.linear2.bias.detach().any()


def torchvision_state(network: PaperNet) -> dict[str, torch.Tensor]:
    """Return random ImageNet weights in torchvision's names."""
    generator = torch.Generator().manual_seed(1)
    state = {}
    for name, value in network.backbone.base_model.state_dict().items():
        number, _, rest = name.partition('.')
        part = {0: 'conv1', 1: 'bn1'}.get(int(number), f'layer{int(number) - 3}')
        state[f'{part}.{rest}'] = torch.randn(value.shape, generator=generator)
        if rest in ('bn1.weight', 'weight') and value.ndim == 1:
            state[f'{part}.{rest.replace("weight", "running_mean")}'] = torch.zeros(len(value))
    return {**state, 'fc.weight': torch.zeros(1000, 512), 'fc.bias': torch.zeros(1000)}


def test_imagenet_weights_go_where_the_published_training_puts_them(network, tmp_path):
    """All four stages are taken; the stem sees four channels and starts from noise."""
    state = torchvision_state(network)
    torch.save(state, tmp_path / 'resnet34.pth')
    started = starting_network(SPEC, 1, tmp_path / 'resnet34.pth', seed=3)
    for stage in range(1, 5):
        found = getattr(started.backbone, f'layer{stage}').state_dict()
        for name, value in found.items():
            assert torch.equal(value, state[f'layer{stage}.{name.removeprefix("0.")}']), name
    assert started.backbone.layer0[0].weight.shape[1] == 4
    del state['layer3.2.conv1.weight']
    torch.save(state, tmp_path / 'other.pth')
    with pytest.raises(ModelError, match=r"other\.pth.*ResNet-34.*'6\.2\.conv1\.weight'"):
        starting_network(SPEC, 1, tmp_path / 'other.pth', seed=3)
    with pytest.raises(ModelError, match=r'absent\.pth'):
        starting_network(SPEC, 1, tmp_path / 'absent.pth', seed=3)


def test_a_stopped_training_goes_on_as_if_nothing_had_happened(whole_run):
    """Stopped between two lines of metrics and resumed, a run ends with the same bits."""
    config = dataclasses.replace(whole_run, output=whole_run.output.with_name('stopped'))
    train_paper(config, stop_after=2)
    assert load_checkpoint(config.output / 'checkpoint.pt', SPEC)['step'] == 2
    train_paper(config)
    assert_same_training(whole_run, config)


def written(config: PaperTrainConfig) -> tuple[int, int]:
    """Return what changes when a checkpoint is written again; reading it changes other times."""
    found = (config.output / 'checkpoint.pt').stat()
    return found.st_ino, found.st_mtime_ns


def test_one_training_at_a_time_works_in_an_output(config, tmp_path):
    """A second one is refused before it reads the dataset."""
    own = dataclasses.replace(config, output=tmp_path)
    with alone_in(tmp_path), pytest.raises(SpecError, match='another training works in'):
        train_paper(own)


def test_a_changed_weight_decay_counts_after_a_checkpoint(whole_run):
    """The optimiser goes on with its averages and the numbers of the configuration."""
    run = PaperRun(dataclasses.replace(whole_run, weight_decay=0.5), ALONE)
    assert run.step == whole_run.steps
    assert {group['weight_decay'] for group in run.optimizer.param_groups} == {0.5, 0.0}


def test_a_finished_training_is_left_alone(whole_run, caplog):
    """Training again after the last step changes nothing, and says what to do."""
    caplog.set_level('INFO')
    before = written(whole_run)
    train_paper(whole_run)
    assert 'checkpoint.pt is at step 4, steps is 4; set steps higher' in caplog.text
    assert written(whole_run) == before


def test_a_trained_checkpoint_is_one_in_the_published_format(whole_run):
    """It loads as published checkpoints do, shared tensors under both names, and has moved."""
    network = published.load_published(whole_run.output / 'checkpoint.pt', SPEC, len(MESHES))
    start = starting_network(SPEC, len(MESHES), None, whole_run.seed).state_dict()
    moved = {name for name, value in network.state_dict().items()
             if not torch.equal(value, start[name])}
    frozen = {'backbone.base_model.0.weight', 'backbone.base_model.1.weight',
              'backbone.base_model.1.bias'}
    assert moved == set(start) - frozen


@pytest.mark.parametrize(('options', 'view_origin'), [
    ([], None), (['--view-origin', 'box_centre'], 'box_centre')])
def test_the_command_imports_what_was_trained(whole_run, tmp_path, monkeypatch, options,
                                              view_origin):
    """Spec, objects in class order and meshes are those of the configuration, unless asked."""
    path = write_config(tmp_path / 'train.yaml', whole_run, object_ids=[5, 2])
    asked = []
    monkeypatch.setattr(published, 'import_published',
                        lambda *args, **named: asked.append((args, named)) or (args[-1], []))
    checkpoint = whole_run.output / 'checkpoint.pt'
    assert main(['import-checkpoint', str(checkpoint), '--config', str(path),
                 '--output', str(tmp_path / 'model'), *options]) == 0
    (words, named), = asked
    assert words == (checkpoint, SPEC, (5, 2), whole_run.models_dir, tmp_path / 'model')
    assert named['view_origin'] == view_origin


def test_a_checkpoint_is_imported_where_the_dataset_of_its_training_is_not(
        whole_run, tmp_path, monkeypatch):
    """--meshes replaces its models, also to name the classes."""
    path, asked = write_config(tmp_path / 'train.yaml', whole_run,
                               dataset=str(tmp_path / 'gone')), []
    monkeypatch.setattr(published, 'import_published',
                        lambda *args, **_: asked.append(args[2:4]) or (args[-1], []))
    command = ['import-checkpoint', str(whole_run.output / 'checkpoint.pt'), '--config',
               str(path), '--output', str(tmp_path / 'model')]
    assert main(command) == 2
    assert main([*command, '--meshes', str(whole_run.models_dir)]) == 0
    assert asked == [(tuple(MESHES), whole_run.models_dir)]


def test_a_trained_model_estimates_poses(whole_run, tmp_path):
    """The model directory of a checkpoint answers detections in the dataset's images."""
    pytest.importorskip('onnx', reason='needs the train extra')
    folder, left_out = published.import_published(
        whole_run.output / 'checkpoint.pt', SPEC, tuple(MESHES), whole_run.models_dir, tmp_path)
    assert left_out == []
    samples = load_samples(whole_run)
    estimator = PaperEstimator.load(folder, whole_run.models_dir, threads=1)
    x, y, w, h = samples.index.box_xywh[0]
    camera = Camera(samples.index.K[0], 160, 120)
    image = cv2.imread(str(samples.index.image_path(0)))[..., ::-1].copy()
    label = estimator.model.objects[samples.index.class_index[0]].label
    result = estimator.estimate(image, camera, [
        Detection(label, np.array([x, y, x + w, y + h], np.float64))])
    assert [p.label for p in result.poses] == [label], result.skipped


def test_a_checkpoint_of_other_objects_is_refused(whole_run):
    """A run with one object less does not go on from it."""
    with pytest.raises(ModelError, match=r'was trained with . objects, the configuration has 1'):
        PaperRun(dataclasses.replace(whole_run, object_ids=(5,)), ALONE)


def test_damaged_weights_do_not_replace_a_checkpoint(whole_run):
    """A run that diverged says so and keeps what it had."""
    run = PaperRun(whole_run, ALONE)
    before = written(whole_run)
    run.network.decoder.corr_x4.proj_in.bias.data[3] = torch.nan
    with pytest.raises(MrcnetError, match=r'step 4: the weights are not finite.*is kept'):
        run.save()
    assert written(whole_run) == before


def test_a_batch_that_is_seen_again_and_again_is_learnt(config):
    """The loss falls on samples that do not change, all class losses and the mask with it."""
    run = PaperRun(dataclasses.replace(config, output=config.output.with_name('none'), steps=30),
                   ALONE)
    batch = stack([run.dataset[n] for n in range(2)])
    first, last = repeated_losses(run, batch)
    assert last.sum() < 0.8 * first.sum()
    assert all(last[i] < 0.95 * first[i] for i in (0, 2, 3, 6))


def repeated_losses(run: PaperRun, batch, steps: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the seven losses of the first and of the last step on one batch."""
    rows = []
    for _ in range(steps):
        run.sums.zero_()
        run.one_step(batch)
        run.step += 1
        rows.append(run.sums.clone())
    return rows[0], rows[-1]


def record(network: PaperNet, precision: torch.dtype, batch, config) -> dict[str, Any]:
    """Run a step and return what passed between its parts."""
    run = PaperRun(config, ALONE)
    seen: dict[str, Any] = {}

    def draw(class_index, R, t, K_crop):
        seen.update(R=R, t=t)
        return run.artist(class_index, R, t, K_crop)

    handles = [network.classifier.register_forward_hook(
        lambda module, args, out: seen.update(pooled=args[0], view=args[1], logits=out)),
        network.decoder.clf_pool.register_forward_hook(
            lambda module, args, out: seen.update(convolved=out))]
    step = PaperStep(network, SPEC, run.forward._shapes, draw, precision)
    seen['losses'] = step(batch)
    for handle in handles:
        handle.remove()
    return seen


def test_geometry_stays_out_of_the_lower_precision(network, config):
    """Convolutions run in bfloat16; heads, poses and losses in float32, near the full answer."""
    config = dataclasses.replace(config, output=config.output.with_name('none'))
    batch = stack([load_samples(config)[n] for n in range(2)])
    full = record(network, torch.float32, batch, config)
    low = record(network, torch.bfloat16, batch, config)
    assert (full['convolved'].dtype, low['convolved'].dtype) == (torch.float32, torch.bfloat16)
    for name in ('pooled', 'view', 'R', 't', 'losses'):
        assert low[name].dtype == torch.float32, name
    assert all(x.dtype == torch.float32 for x in low['logits'])
    assert torch.equal(low['view'], batch.view)
    assert torch.allclose(low['R'] @ low['R'].transpose(1, 2), torch.eye(3), atol=1e-5)
    assert torch.allclose(low['losses'][[0, 2, 3, 6]], full['losses'][[0, 2, 3, 6]], rtol=0.05)


def test_half_precision_without_a_gpu_is_refused(config):
    """float16 needs scaled gradients, which are made for GPUs."""
    if torch.cuda.is_available():
        pytest.skip('there is a GPU')
    with pytest.raises(SpecError, match='float16 needs a GPU'):
        train_paper(dataclasses.replace(config, precision='float16'))


@pytest.mark.gpu
@pytest.mark.parametrize('precision', ['float32', 'bfloat16', 'float16'])
def test_a_gpu_trains_in_every_precision(config, precision):
    """The loss falls on samples that do not change; float16 scales its gradients."""
    if not torch.cuda.is_available():
        pytest.skip('needs a GPU')
    run = PaperRun(dataclasses.replace(config, precision=precision, steps=30,
                                       output=config.output.with_name('none')),
                   Ranks(0, 1, torch.device('cuda', 0)))
    assert run.scaler.is_enabled() == (precision == 'float16')
    batch = stack([run.dataset[n] for n in range(2)]).to(run.device)
    # float16 skips about six steps, until the scale of its gradients is small enough
    first, last = repeated_losses(run, batch, 16 if precision == 'float16' else 8)
    assert last.sum() < 0.8 * first.sum()


def write_config(path: Path, config: PaperTrainConfig, **changes: Any) -> Path:
    """Write a configuration as a file."""
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)} | changes
    plain = {k: str(v) if isinstance(v, Path) else list(v) if isinstance(v, tuple) else v
             for k, v in values.items() if v is not None}
    spec = {'depth_near': 0.1, 'depth_far': 8.0, 'size_px': 32}
    path.write_text(yaml.safe_dump({'preset': 'paper', **plain, 'spec': spec}))
    return path


def torchrun(path: Path, *arguments: str) -> None:
    """Train in two processes on the processor, as a user starts it."""
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    ended = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2',
         '-m', 'mrcnet_ros.cli.main', 'train', str(path), *arguments],
        env=environment, capture_output=True, text=True, timeout=3000, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]


def test_two_processes_share_every_step(config, tmp_path):
    """A step of both has the mean of their gradients; a resumed run ends with the same bits."""
    base = dataclasses.replace(config, batch_size=1, steps=2, log=1, final_rate=1e-3)
    whole, stopped = (dataclasses.replace(base, output=config.output.with_name(name))
                      for name in ('two', 'two_stopped'))
    torchrun(write_config(tmp_path / 'whole.yaml', whole))
    torchrun(write_config(tmp_path / 'stopped.yaml', stopped), '--stop-after', '1')
    state = load_checkpoint(stopped.output / 'checkpoint.pt', SPEC)
    alone = PaperRun(dataclasses.replace(base, output=config.output.with_name('none')), ALONE)
    losses = [alone.forward(alone.dataset[n]) for n in range(2)]
    (sum(x.sum() for x in losses) / 2).backward()
    alone.optimizer.step()
    found, expected = (s['state'] for s in (state['optimizer'], alone.optimizer.state_dict()))
    assert len(found) == len(expected)
    for number, values in expected.items():
        mean = values['exp_avg']
        assert torch.allclose(found[number]['exp_avg'], mean, rtol=1e-3,
                              atol=1e-3 * float(mean.abs().max())), number
    row = metrics(stopped)[0]
    assert row['samples'] == 2
    assert row['loss'] == pytest.approx(
        float(sum(x.detach().sum() for x in losses)) / 2, rel=1e-3)
    torchrun(tmp_path / 'stopped.yaml')
    assert_same_training(whole, stopped)


def test_the_example_trains_as_published():
    """The defaults are the numbers of the paper."""
    config = read_config(PaperTrainConfig, CONFIG)
    assert config.spec == paper_spec('tless')
    assert config.models_dir == Path('datasets/tless/models_cad')
    assert (config.learning_rate, config.final_rate, config.weight_decay) == (2e-4, 5e-6, 1e-3)
    assert (config.warmup, config.epochs, config.batch_size) == (1000, 75, 16)


@pytest.mark.parametrize(('changes', 'problem'), [
    ({'batch': 3}, r"unknown fields \['batch'\]; known: .*'batch_size'"),
    ({'spec': {}}, r'depth_near.*depth_far'),
    ({'spec': {'depth_near': 2, 'depth_far': 1}}, r'depth_near \(2\) must be positive and below'),
    ({'spec': {'depth_near': 1, 'depth_far': 2, 'size_px': 100}}, 'size_px must be a multiple'),
    ({'spec': 3}, 'spec must be a mapping'),
    ({'precision': 'half'}, r"precision must be one of .*'bfloat16'.*'half'"),
    ({'object_ids': [2, 2]}, 'object_ids names an object twice'),
    ({'steps': 0}, 'steps must be at least 1'),
    ({'learning_rate': 'fast'}, "learning_rate must be a number .*'fast'"),
    ({'splits': 'train_pbr'}, "splits must be a list, got 'train_pbr'"),
    ({'object_ids': ['1_0']}, r"object_ids\[0\] must be a number .*'1_0'"),
    ({'object_ids': [1.5]}, r'object_ids\[0\] must be a number .*1\.5'),
    ({'spec': {'depth_near': 1, 'depth_far': 2, 'size': 64}}, r"unknown fields \['size'\]"),
    ({'spec': {'depth_near': 1, 'depth_far': 2, 'turns': 1.5}}, 'turns must be int, got 1.5'),
    ({'learning_rate': 0}, 'learning_rate must be above 0, got 0'),
    ({'final_rate': -1.0}, r'final_rate must be 0 to learning_rate \(0\.0002\), got -1\.0'),
    ({'final_rate': 0.1}, 'final_rate must be .* got 0.1'),
    ({'workers': -1}, 'workers')])
def test_a_wrong_configuration_is_named(tmp_path, changes, problem):
    """The error names the field at fault."""
    values = {'preset': 'paper', 'output': 'o', 'dataset': 'd/mine',
              'spec': {'depth_near': 0.1, 'depth_far': 2.0}, **changes}
    path = tmp_path / 'train.yaml'
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(SpecError, match=problem):
        read_config(PaperTrainConfig, path)
