"""The scripts for a GPU machine, rehearsed on the processor with tiny models."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import bop_folder
import pytest
import yaml

pytest.importorskip('onnx', reason='needs the train extra')
pytest.importorskip('torch', reason='needs the train extra')

import torch
from tiny_model import SPEC, random_stem

from mrcnet_ros.objects import load_object_list
from mrcnet_ros.training.checkpoint import load_checkpoint, save_checkpoint

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / '.ci' / 'gpu'


def script(name: str, *words: object, code: int = 0) -> str:
    """Run a script as a user does; return what it printed."""
    ended = subprocess.run(
        [sys.executable, str(SCRIPTS / f'{name}.py'), *map(str, words)], cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(ROOT)}, capture_output=True, text=True, timeout=900,
        check=False)
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope='module')
def packed(refined_model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack a dataset of two objects, a training of them and a model that knows them.

    The files of its refiner are not carried.
    """
    tiny_model = refined_model
    root = tmp_path_factory.mktemp('gpu')
    bop_folder.write_dataset(root)
    shutil.copytree(root / 'toy' / 'models_eval', root / 'toy' / 'models')
    shutil.copytree(tiny_model.path, root / 'model',
                    ignore=shutil.ignore_patterns('refiner*'))
    shutil.copytree(tiny_model.meshes, root / 'model' / 'meshes')
    file = root / 'model' / 'model.json'
    values = json.loads(file.read_text())
    for entry, object_id in zip(values['objects'], bop_folder.MESHES, strict=True):
        entry['object_id'] = object_id
    file.write_text(json.dumps(values))
    own = tiny_model.config
    spec = {k: dataclasses.asdict(getattr(SPEC, k)) for k in ('crop', 'bins', 'template')}
    network = {k: list(v) if isinstance(v, tuple) else v
               for k, v in dataclasses.asdict(SPEC.network).items()}
    (root / 'train.yaml').write_text(yaml.safe_dump({
        'name': 'tiny', 'output': 'nowhere', 'cache': 'nowhere', 'models': str(own.models),
        'backgrounds': [str(b) for b in own.backgrounds], 'views': 6, 'patches': 4, 'bodies': 2,
        'distance_m': [0.4, 0.8], 'spec': {**spec, 'network': network}}))
    torch.save(random_stem(), root / 'stem.pt')
    said = script('pack', 'check', 'train', '--output', root / 'pack', '--bop-dir', root,
                  '--dataset', 'toy', '--config', root / 'train.yaml', '--stem',
                  root / 'stem.pt', '--no-packages')
    assert 'MiB  travel for train, without models/demo models/tless models/lmo/stage1.onnx' in said
    return root


def steps(folder: Path) -> dict[str, dict]:
    """Return the outcomes by name."""
    return {s['name']: s for s in json.loads((folder / 'results.json').read_text())['steps']}


def test_the_pack_holds_what_the_steps_need_and_nothing_points_elsewhere(packed):
    """The configuration's paths lead into the pack; only the first layers' weights travel."""
    with tarfile.open(packed / 'pack' / 'train.tar.xz') as archive:
        names = archive.getnames()
        config = yaml.safe_load(archive.extractfile('train.yaml').read())
    assert config['models'] == '@PACK@/train/models/objects.yaml'
    assert config['backgrounds'] == ['@PACK@/train/backgrounds0']
    assert {'train/models/blob.ply', 'stem.pt', 'software.npz'} <= set(names)
    with tarfile.open(packed / 'pack' / 'check.tar.xz') as archive:
        assert any(name.startswith('toy/test/') and 'rgb' in name for name in archive.getnames())


def test_meshes_in_a_folder_below_their_list_are_packed(packed, tiny_model, tmp_path):
    """As those of models/demo: the list of the pack names files that are in it."""
    meshes = shutil.copytree(tiny_model.meshes, tmp_path / 'meshes')
    entries = yaml.safe_load((meshes / 'objects.yaml').read_text())
    (tmp_path / 'list.yaml').write_text(yaml.safe_dump(
        [{**entry, 'mesh': f'meshes/{entry["mesh"]}'} for entry in entries]))
    values = yaml.safe_load((packed / 'train.yaml').read_text())
    (tmp_path / 'train.yaml').write_text(yaml.safe_dump(
        {**values, 'models': str(tmp_path / 'list.yaml')}))
    script('pack', 'train', '--output', tmp_path / 'pack', '--bop-dir', packed, '--dataset', 'toy',
           '--config', tmp_path / 'train.yaml', '--stem', packed / 'stem.pt', '--no-packages')
    with tarfile.open(tmp_path / 'pack' / 'train.tar.xz') as archive:
        archive.extractall(tmp_path / 'there')
    found = load_object_list(tmp_path / 'there' / 'train' / 'models' / 'list.yaml')
    assert [model.label for model in found.values()] == ['blob', 'box']


def test_a_step_that_there_is_not_is_told_before_all_others(tmp_path):
    """Nothing runs; a plan of which no step is left has not passed either."""
    words = ['--output', tmp_path / 'out', '--device', 'cpu', '--pack', tmp_path]
    script('check', 'check', *words, '--only', 'machine', 'verfy', code=2)
    assert not (tmp_path / 'out').exists()
    script('check', 'train', *words, '--only', 'install', code=1)
    written = (SCRIPTS / 'check.py').read_text()
    names = ast.literal_eval(re.search(r'^NAMES = ({.*?})', written, re.M | re.S)[1])
    assert set(re.findall(r"Step\(f?'(\w+)", written)) == {*names['check'], *names['train']}


def test_the_check_runs_on_a_processor(packed):
    """Rendering, verification and swaps pass; figures of every step are in one file."""
    output = packed / 'checked'
    script('check', 'check', '--output', output, '--device', 'cpu', '--pack', packed / 'pack',
           '--model', packed / 'model', '--dataset', 'toy', '--minutes', 60,
           '--only', 'machine', 'render', 'verify', 'swaps', 'backends')
    found = steps(output)
    assert set(found) == {'machine', 'render', 'verify onnxruntime:fp32', 'backends',
                          'swaps onnxruntime:fp32', 'swaps torch:fp32'}
    assert found['render']['figures']['differences']['outline'] == 0
    assert found['verify onnxruntime:fp32']['figures']['results'][-1]['passed']
    assert set(found['backends']['figures']['backends']) == {'torch fp32', 'onnxruntime fp32'}
    assert len(found['swaps torch:fp32']['figures']['mib']) == 21
    assert sorted(p.name for p in output.iterdir()) == ['log.txt', 'results.json']


def test_what_a_killed_training_kept_comes_back_in_pieces(packed, tiny_model):
    """Its last checkpoint is cut where the training itself could not do it."""
    output, run = packed / 'killed', packed / 'pack' / 'work' / 'run'
    run.mkdir(parents=True)
    output.mkdir()
    (output / 'checkpoint.pt.07').write_bytes(b'of another training')
    state = load_checkpoint(tiny_model.path / 'weights.pt', SPEC)
    save_checkpoint(run / 'checkpoint.pt', {**state, 'network': state['average'], 'step': 500},
                    SPEC)
    script('check', 'train', '--output', output, '--device', 'cpu', '--pack', packed / 'pack',
           '--only', 'pieces')
    assert [p.name for p in output.glob('checkpoint.pt.*')] == ['checkpoint.pt.00']
    assert load_checkpoint(output / 'checkpoint.pt.00', SPEC)['step'] == 500
    shutil.rmtree(run)


@pytest.mark.slow
def test_a_training_fills_the_time_and_comes_back_in_pieces(packed):
    """It ends in time; the pieces join to a checkpoint of that training."""
    output = packed / 'trained'
    script('check', 'train', '--output', output, '--device', 'cpu', '--pack', packed / 'pack',
           '--dataset', 'toy', '--minutes', 3, '--composers', 1, '--set', 'batch_size=4',
           '--set', 'validation=1000000', '--set', 'warmup=2', '--only', 'train', 'metrics')
    assert {name: s['status'] for name, s in steps(output).items()} == {
        'train': 'passed', 'metrics': 'passed'}
    data = b''.join(p.read_bytes() for p in sorted(output.glob('checkpoint.pt.*')))
    (packed / 'joined.pt').write_bytes(data)
    state = load_checkpoint(packed / 'joined.pt', SPEC)
    rows = [json.loads(line) for line in (output / 'metrics.jsonl').read_text().splitlines()]
    assert 0 <= state['step'] - rows[-1]['step'] < 50  # a line for every fifty


def test_a_wheel_for_another_python_does_not_keep_the_others_out(tmp_path):
    """Each that depends on the release of Python is installed by a step of its own."""
    (tmp_path / 'wheels').mkdir()
    wheel(tmp_path / 'wheels', 'anywhere', 'py3-none-any')
    wheel(tmp_path / 'wheels', 'elsewhere', 'cp21-cp21-any')
    script('check', 'check', '--output', tmp_path / 'out', '--device', 'cpu', '--pack', tmp_path,
           '--model', tmp_path / 'wheels', '--only', 'install', 'machine', code=1)
    found = steps(tmp_path / 'out')
    assert {name: s['status'] for name, s in found.items()} == {
        'install wheels': 'passed', 'install elsewhere': 'failed', 'machine': 'passed'}
    assert (tmp_path / 'work' / 'site' / 'anywhere.py').exists()
    assert 'numpy==' in (tmp_path / 'out' / 'log.txt').read_text()


def test_the_check_is_planned_when_the_wheels_are_installed(tmp_path):
    """What a wheel changes about the runtimes that are there, the steps after it know."""
    (tmp_path / 'wheels').mkdir()
    wheel(tmp_path / 'wheels', 'sitecustomize', 'py3-none-any',
          "import sys\nsys.modules['torch'] = None\n")  # as if it were not installed
    script('check', 'check', '--output', tmp_path / 'out', '--device', 'cpu', '--pack', tmp_path,
           '--model', tmp_path / 'wheels', '--only', 'install', 'swaps', code=1)
    assert set(steps(tmp_path / 'out')) == {'install wheels', 'swaps onnxruntime:fp32'}


def wheel(folder: Path, name: str, tag: str, code: str = '') -> None:
    """Write a wheel of one module."""
    about = f'{name}-1.dist-info'
    with zipfile.ZipFile(folder / f'{name}-1-{tag}.whl', 'w') as file:
        file.writestr(f'{name}.py', code)
        file.writestr(f'{about}/METADATA', f'Metadata-Version: 2.1\nName: {name}\nVersion: 1\n')
        file.writestr(f'{about}/WHEEL', f'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n')
        file.writestr(f'{about}/RECORD', f'{name}.py,,\n{about}/RECORD,,\n')


def test_more_than_may_travel_is_an_error(packed):
    """The pack says how much of what travels, and fails when it is too much."""
    said = script('pack', 'check', '--output', packed / 'pack', '--bop-dir', packed, '--dataset',
                  'toy', '--no-packages', '--most-mib', 0.1, code=1)
    assert ('MiB  travel for check, without models/demo models/tless models/lmo/refiner: '
            'more than 0.1') in said


def test_a_training_has_as_many_views_as_fit_into_shared_memory(packed, tmp_path):
    """The step tells what it found and what is needed; too many views are made fewer."""
    script('check', 'train', '--output', tmp_path, '--device', 'cpu', '--pack', packed / 'pack',
           '--set', 'views=100000000', '--only', 'memory', 'metrics', code=1)
    memory = steps(tmp_path)['memory']
    assert memory['status'] == 'passed'
    assert 'free, the training needs' in memory['said'][0]
    assert memory['figures']['needed_gib'] > memory['figures']['free_gib']
    assert 0 < memory['figures']['views'] < 100_000_000
    assert f"{memory['figures']['views']} views of each object fit" in memory['said'][1]


PLAN = '''
import sys, time
from pathlib import Path
sys.path.insert(0, {scripts!r})
from steps import Step, run_steps

figures = Path({folder!r}) / 'figures.json'
python = [sys.executable, '-c']
run_steps([
    Step('slow', [*python, 'import time; print("begun", flush=True); time.sleep(600)'], 6),
    Step('wrong', [*python, 'raise SystemExit("no such thing")'], 20),
    Step('absent', ['/no/such/program'], 20),
    Step('good', [*python, f'open({{str(figures)!r}}, "w").write("[1]")'], 20, figures),
    Step('minutes', [*python, 'print("left", "{{minutes}}")'], 30, spare_s=6),
    Step('late', [*python, ''], 20, spare_s=1000),
], Path({folder!r}), time.monotonic() + 300, {{'purpose': 'test'}})
'''


def test_steps_are_bounded_and_none_stops_the_others(tmp_path):
    """One hangs, one fails, one cannot be begun: each is told, and the rest still runs."""
    plan = PLAN.format(scripts=str(SCRIPTS), folder=str(tmp_path))
    subprocess.run([sys.executable, '-c', plan], check=True, timeout=200)
    found = steps(tmp_path)
    assert {name: s['status'] for name, s in found.items()} == {
        'slow': 'out of time', 'wrong': 'failed', 'absent': 'failed', 'good': 'passed',
        'minutes': 'passed', 'late': 'not begun'}
    assert found['slow']['said'] == ['begun'] and found['slow']['seconds'] < 60
    assert found['wrong']['said'] == ['no such thing']
    assert found['good']['figures'] == [1]
    assert found['minutes']['said'] == ['left 0.400']
    failed = json.loads((tmp_path / 'results.json').read_text())['failed']
    assert failed == ['slow', 'wrong', 'absent', 'late']
    assert 'no such thing' in (tmp_path / 'log.txt').read_text()
