"""Proves on a GPU what a CPU cannot, or trains there, within a given time.

Called as ``python3 .ci/gpu/check.py check --output DIR --minutes 8``, or with ``train``. Works
on a machine that has Python, PyTorch and CUDA and nothing of this project: what it lacks is taken
from the folder that pack.py made. Every step has a time of its own; a step that fails is told in
DIR/results.json and does not stop the others. See docs/gpu_check.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from steps import MINUTES, Step, run_steps

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PYTHON = sys.executable
MRCNET = [PYTHON, '-m', 'mrcnet_ros.cli.main']
# what each runtime is asked for, where it can be had: precisions of the table of runtimes
ON_CUDA = ('tensorrt:fp32', 'tensorrt:fp16', 'tensorrt_rtx:fp32', 'tensorrt_rtx:fp16',
           'onnxruntime:fp32@cuda', 'torch:fp32@cuda')
ON_CPU = ('onnxruntime:fp32', 'torch:fp32')
# A rehearsal may have few and busy cores: times as long for each step.
REHEARSAL = 10
# The first words of the names of the steps.
NAMES = {'check': ('install', 'machine', 'render', 'verify', 'tests', 'backends', 'swaps',
                   'paper'),
         'train': ('install', 'machine', 'render', 'memory', 'speed', 'train', 'pieces',
                   'metrics')}
PACK = '@PACK@'  # stands in the packed configuration for the folder it is unpacked in
# Where the driver is mounted and not installed, OpenGL's loader does not look for it there.
EGL_VENDOR = Path('/usr/local/nvidia/share/glvnd/egl_vendor.d/10_nvidia.json')
# What somebody who reads the log later wants to know of the machine; %s says whether it will do.
MACHINE = '''
%s; code=$?
python3 --version; nproc; uname -a
free -m; df -h . /tmp /dev/shm
ldconfig -p | grep -E 'libEGL|libGL|libOpenGL|libcuda'; ls /usr/share/glvnd/egl_vendor.d
{python} -m pip list --format=freeze
exit $code
'''
# Of a training that was killed or failed, the last checkpoint that it kept, in pieces.
RESCUE = '''
import sys
from pathlib import Path
from mrcnet_ros.training.checkpoint_pieces import write_pieces
folder, last = map(Path, sys.argv[1:])
if (folder / 'checkpoint.pt.00').exists():  # written last
    print('the training wrote its pieces itself')
else:
    print(*write_pieces(last, folder, 60 * 2**20), sep='\\n')
'''
# of the training, after its last step: checkpoint and pieces [s]
TRAINING_ENDS_S = 25.0


def main() -> int:
    """Run the steps of one purpose.

    :return: 0 when all passed, 1 otherwise, also when there was none.
    """
    args = _arguments()
    deadline = time.monotonic() + 60.0 * args.minutes
    args.work.mkdir(parents=True, exist_ok=True)
    args.output.mkdir(parents=True, exist_ok=True)
    _unpack(args.pack / f'{args.purpose}.tar.xz', args.work)
    _forget_refiner(args.model)
    plan = _check if args.purpose == 'check' else _train
    scale = 1 if args.device == 'cuda' else REHEARSAL
    # planned as it runs: which runtimes there are is known once all wheels are installed
    steps = (dataclasses.replace(s, limit_s=scale * s.limit_s)
             for s in chain(_install(args), plan(args))
             if not args.only or s.name.split()[0] in args.only)
    outcomes = run_steps(steps, args.output, deadline, {
        'purpose': args.purpose, 'device': args.device, 'minutes': args.minutes})
    failed = [o.name for o in outcomes if o.status != 'passed']
    print(f'{len(outcomes) - len(failed)} of {len(outcomes)} steps passed; see '
          f'{args.output}/results.json' + (f'\nnot passed: {", ".join(failed)}' if failed else ''))
    return 1 if failed or not outcomes else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('purpose', choices=('check', 'train'))
    parser.add_argument('--output', type=Path, required=True, metavar='DIR',
                        help='for results.json, log.txt and pieces of the trained weights')
    parser.add_argument('--minutes', type=float, default=8.0, metavar='M',
                        help='for everything (default: 8)')
    parser.add_argument('--device', default='cuda', choices=('cuda', 'cpu'),
                        help='cpu rehearses the steps (default: cuda)')
    parser.add_argument('--pack', type=Path, default=ROOT / '.gpu', metavar='DIR',
                        help='what pack.py made (default: .gpu)')
    parser.add_argument('--model', type=Path, default=ROOT / 'models' / 'lmo', metavar='DIR')
    parser.add_argument('--dataset', default='lmo', help='in the pack (default: lmo)')
    parser.add_argument('--composers', type=int, default=15, metavar='N',
                        help='processes that compose training images (default: 15)')
    parser.add_argument('--set', action='append', default=[], metavar='NAME=VALUE',
                        dest='changes', help='of the training, as for mrcnet train')
    parser.add_argument('--only', nargs='+', metavar='STEP', help='run only these')
    args = parser.parse_args()
    if unknown := sorted(set(args.only or ()) - set(NAMES[args.purpose])):
        parser.error(f'argument --only: {args.purpose} has no step {", ".join(unknown)}; there '
                     f'are {", ".join(NAMES[args.purpose])}')
    args.work = args.pack.resolve() / 'work'
    args.output = args.output.resolve()
    return args


def _unpack(archive: Path, folder: Path) -> None:
    if archive.exists():
        with tarfile.open(archive) as file:
            # Python before 3.10.12 and 3.11.4 has no filters; the archive is of pack.py
            file.extraction_filter = getattr(tarfile, 'data_filter', None)
            file.extractall(folder)
    config = folder / 'train.yaml'
    if config.exists():
        config.write_text(config.read_text().replace(PACK, str(folder)))


def _forget_refiner(model: Path) -> None:
    """Take a refiner whose files were not carried out of the description of a model.

    Its layers are those of the other graphs, and tests run a small one.
    """
    file = model / 'model.json'
    if (model / 'refiner.onnx').exists() or not file.exists():
        return
    values = json.loads(file.read_text())
    for name in ('refiner', 'refined', 'seal'):  # the seal would tell that it was changed
        values.pop(name, None)
    values['files'] = {name: digest for name, digest in values['files'].items()
                       if not name.startswith('refiner')}
    file.write_text(json.dumps(values))


def _environment(args: argparse.Namespace) -> dict[str, str]:
    env = {'PYTHONPATH': f'{ROOT}:{args.work / "site"}', 'PYTHONUNBUFFERED': '1',
           'MRCNET_CACHE': str(args.work / 'cache')}
    if EGL_VENDOR.exists() and not any(Path('/usr/share/glvnd/egl_vendor.d').glob('*nvidia*')):
        env['__EGL_VENDOR_LIBRARY_FILENAMES'] = str(EGL_VENDOR)
    given = os.environ.get('LD_LIBRARY_PATH')
    if libraries := _cuda_libraries():
        env['LD_LIBRARY_PATH'] = ':'.join([*libraries, *([given] if given else [])])
    return env


def _cuda_libraries() -> list[str]:
    """Return the folders of CUDA and cuDNN that came with PyTorch.

    A runtime that was carried is in another folder of packages and does not look there.
    """
    found = importlib.util.find_spec('nvidia')
    roots = found.submodule_search_locations or [] if found else []
    return [str(folder) for root in roots for folder in sorted(Path(root).glob('*/lib'))]


def _install(args: argparse.Namespace) -> Iterator[Step]:
    """Install what was carried; a source package is compiled, which needs CUDA's headers."""
    pip = [PYTHON, '-m', 'pip', 'install', '-q', '--no-index', '--no-deps', '--no-compile',
           '--no-cache-dir', '--upgrade', '--target', str(args.work / 'site')]
    env = _environment(args)
    found = sorted((args.pack / 'wheels').glob('*.whl'))
    if args.purpose == 'train':
        found += sorted((args.pack / 'wheels_train').glob('*.whl'))
    # one that is for another Python must not keep the others out
    portable = [str(p) for p in found if '-py3-' in p.name]
    if portable:
        yield Step('install wheels', [*pip, *portable], 60)
    for path in found:
        if str(path) not in portable:
            yield Step(f'install {path.name.split("-")[0]}', [*pip, str(path)], 60)
    for source in sorted((args.pack / 'wheels').glob('*.tar.gz')):
        yield Step(f'install {source.name}', [*pip, '--no-build-isolation', str(source)], 150)
    proof = 'nvidia-smi' if args.device == 'cuda' else 'true'
    yield Step('machine', ['sh', '-c', MACHINE.replace('%s', proof).replace('{python}', PYTHON)],
               20, env=env)


def _check(args: argparse.Namespace) -> Iterator[Step]:
    """Return the steps that prove; those that tell most come first."""
    env, work = _environment(args), args.work
    model = work / 'model'  # a copy: verifying writes into it
    shutil.copytree(args.model, model, dirs_exist_ok=True)
    data = ['--bop-dir', str(work), '--dataset', args.dataset, '--model', str(model)]
    yield _render(args)
    runtimes = _runtimes(args)
    for words in runtimes:
        if (words, args.device) != ('torch:fp32', 'cpu'):  # the reference itself
            yield Step(f'verify {words}', [*MRCNET, 'verify', *data, *_options(words)], 90,
                       model / 'verified.json', env)
        # PyTorch runs no detector, and ONNX Runtime on the processor is its reference
        if (model / 'detector.onnx').is_file() and not words.startswith('torch') and (
                words, args.device) != ('onnxruntime:fp32', 'cpu'):
            yield Step(f'verify detector {words}', [
                *MRCNET, 'verify', '--detector', *data, *_options(words)], 60,
                model / 'verified.json', env)
    tests = sorted(p for p in (ROOT / 'test').rglob('test_*.py') if 'mark.gpu' in p.read_text())
    # names and times: of a run that is stopped, the log tells which test took its time
    yield Step('tests', [PYTHON, '-m', 'pytest', '-v', '--durations=0', '-m', 'gpu', '-p',
                         'no:cacheprovider', *map(str, tests)], 150, env=env)
    figures = work / 'backends.json'
    batches = '1 2 4 8 16 32' if args.device == 'cuda' else '1 2'
    yield Step('backends', [
        *MRCNET, 'bench', 'backends', *data, '--backends',
        *dict.fromkeys(['torch:fp32', *runtimes]), '--batches', *batches.split(), '--repeats', '2',
        '--limit', '4', '--json', str(figures)], 150, figures, env)
    meshes = model / 'meshes' if (model / 'meshes').is_dir() else work / args.dataset / 'models'
    for words in runtimes:
        figures = work / f'swaps_{words.replace(":", "_")}.json'
        yield Step(f'swaps {words}', [
            PYTHON, str(HERE / 'swaps.py'), '--model', str(model), '--meshes',
            str(meshes), '--json', str(figures), *_options(words)], 60, figures, env)
    figures = work / 'paper.json'
    yield Step('paper', [
        *MRCNET, 'bench', 'paper', '--backends', *runtimes, '--repeats', '2', '--json',
        str(figures)], 150, figures, env)


def _train(args: argparse.Namespace) -> Iterator[Step]:
    """Return the steps of a training: is the step right, how fast, and then all the time left."""
    env, work = _environment(args), args.work
    for old in args.output.glob('checkpoint.pt.*'):
        old.unlink()  # of another training
    fields = {
        'device': args.device, 'processes': 1, 'composers': args.composers, 'batch_size': 512,
        'cache': work / 'cache', 'output': work / 'run', 'steps': 1_000_000, 'warmup': 100,
        'refresh': 50, 'checkpoint': 500, 'validation': 500, 'learning_rate': 0.002}
    changes = [f'{k}={v}' for k, v in fields.items()] + args.changes
    words = [word for change in changes for word in ('--set', change)]
    shared = work / 'shared_memory.json'
    shared.unlink(missing_ok=True)
    yield _render(args)
    yield Step('memory', [PYTHON, str(HERE / 'shared_memory.py'), str(work / 'train.yaml'), *words,
                          '--json', str(shared)], 60, shared, env)
    if shared.exists():  # fewer views where there is too little memory for all
        words += ['--set', f'views={json.loads(shared.read_text())["views"]}']
    common = [str(work / 'train.yaml'), '--stem', str(work / 'stem.pt'), *words]
    figures = work / 'bench.json'
    yield Step('speed', [*MRCNET, 'bench', 'train', *common, '--json', str(figures)], 200,
               figures, env)
    yield Step('train', [
        *MRCNET, 'train', *common, '--minutes', MINUTES, '--pieces', str(args.output),
        '--pieces-mib', '60'], 1e9, env=env, spare_s=TRAINING_ENDS_S, leave_s=25)
    yield Step('pieces', [PYTHON, '-c', RESCUE, str(args.output),
                          str(work / 'run' / 'checkpoint.pt')], 20, env=env)
    yield Step('metrics', ['cp', str(work / 'run' / 'metrics.jsonl'), str(args.output)], 10)


def _render(args: argparse.Namespace) -> Step:
    figures = args.work / 'render.json'
    models = args.work / args.dataset / 'models'
    if not models.is_dir():  # a training's own are those of the dataset
        models = args.work / 'train' / 'models'
    return Step('render', [
        PYTHON, str(HERE / 'render.py'), 'compare', str(args.work / 'software.npz'), '--models',
        str(models), '--json', str(figures)], 60, figures,
        _environment(args))


def _runtimes(args: argparse.Namespace) -> list[str]:
    """Return the runtimes that can be had here, as ``NAME:PRECISION[@DEVICE]``."""
    asked = ON_CUDA if args.device == 'cuda' else ON_CPU
    script = ('import sys\nfrom mrcnet_ros.runtimes.backends import RUNTIMES\n'
              'import onnxruntime\n'
              'gpu = "CUDAExecutionProvider" in onnxruntime.get_available_providers()\n'
              'for word in sys.argv[1:]:\n'
              '    name = word.split(":")[0]\n'
              '    if not RUNTIMES[name].problem() and (gpu or word != "onnxruntime:fp32@cuda"):\n'
              '        print(word)\n')
    try:
        found = subprocess.run([PYTHON, '-c', script, *asked], env=_environment(args), cwd=ROOT,
                               capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return list(asked)
    return found.stdout.split() if found.returncode == 0 else list(asked)


def _options(words: str) -> list[str]:
    runtime, _, device = words.partition('@')
    name, _, precision = runtime.partition(':')
    return ['--backend', name, '--precision', precision, *(['--device', device] if device else [])]


if __name__ == '__main__':
    sys.exit(main())
