"""Gathers in one folder what a bare GPU machine lacks: packages, meshes, pictures.

For example ``python .ci/gpu/pack.py check train --bop-dir ../shared/data``. See docs/gpu_check.md
for what to carry. Nothing of it gets into git: /.gpu/ is ignored.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

import torch

from mrcnet_ros.cli.train import read_stem
from mrcnet_ros.datasets.bop import BopDataset
from mrcnet_ros.datasets.catalogue import facts_of
from mrcnet_ros.meshes import companion_files
from mrcnet_ros.network.stem import stem_entries
from mrcnet_ros.objects.object_files import read_object_list
from mrcnet_ros.reading.text import yaml_of
from mrcnet_ros.training.config import TrainConfig
from mrcnet_ros.training.disturbers import is_bop
from mrcnet_ros.training.run_config import read_config, read_values

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# What PyTorch's images for GPUs do not hold. The releases are those that are installed here.
# pyglet, which pyrender names too, opens windows only and is never loaded.
WHEELS = ('pyrender2', 'PyOpenGL', 'trimesh', 'freetype-py', 'imageio')
WHEELS_TRAIN = ('embreex',)  # larger than all others together
PLATFORMS = ('manylinux_2_28_x86_64', 'manylinux_2_27_x86_64', 'manylinux_2_17_x86_64',
             'manylinux2014_x86_64', 'manylinux1_x86_64', 'manylinux_2_5_x86_64')
# OpenGL's loaders: the driver's own libraries are behind them
DEBS = ('libegl1', 'libglvnd0', 'libopengl0', 'libgl1', 'libglx0', 'libgles2')
MIB = 2**20
# Of the files in git, what each purpose can do without while it is carried.
UNUSED = {'check': ('models/demo', 'models/tless', 'models/lmo/refiner'),
          'train': ('models/demo', 'models/tless', *(f'models/lmo/{name}' for name in (
               'stage1.onnx', 'stage2.onnx', 'template.onnx', 'detector.onnx',
               'detector_weights.pt', 'refiner')))}
# Of all that travels: git's files less the unused ones, and what is named below.
CARRIED = {'check': ('wheels', 'debs', 'check.tar.xz'),
           'train': ('wheels', 'wheels_train', 'debs', 'train.tar.xz')}
THERE = '@PACK@'  # where the pack is unpacked, which check.py knows


def main() -> int:
    """Fill the folder and say how much there is to carry.

    :return: 1 when it is more than may travel.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('purposes', nargs='+', choices=('check', 'train'))
    parser.add_argument('--output', type=Path, default=ROOT / '.gpu', metavar='DIR')
    parser.add_argument('--bop-dir', type=Path, default=Path('../shared/data'),
                        metavar='DIR', help='folder of the dataset (default: ../shared/data)')
    parser.add_argument('--dataset', default='lmo', help='to verify on (default: lmo)')
    parser.add_argument('--config', type=Path, default=ROOT / 'config' / 'train_lmo.yaml',
                        help='of the training (default: config/train_lmo.yaml)')
    parser.add_argument('--stem', type=Path, help='ImageNet weights, as for mrcnet train')
    parser.add_argument('--no-packages', action='store_true', help='only the data')
    parser.add_argument('--python', default='3.12', metavar='X.Y',
                        help='of the other machine (default: 3.12)')
    parser.add_argument('--most-mib', type=float, default=64.0, metavar='N',
                        help='that may travel in one call (default: 64)')
    parser.add_argument('--debs', action='store_true', help="OpenGL's loaders too")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    reference = args.output / 'software.npz'
    args.models = BopDataset(args.bop_dir, args.dataset).training_models_dir
    subprocess.run([sys.executable, str(HERE / 'render.py'), 'draw', str(reference), '--models',
                    str(args.models)], check=True)
    for purpose in args.purposes:
        with tarfile.open(args.output / f'{purpose}.tar.xz', 'w:xz', preset=6) as archive:
            archive.add(reference, 'software.npz')
            (_add_test if purpose == 'check' else _add_training)(archive, args)
    reference.unlink()
    if not args.no_packages:
        _download_wheels(args.output / 'wheels', WHEELS, args.python)
        if 'train' in args.purposes:
            _download_wheels(args.output / 'wheels_train', WHEELS_TRAIN, args.python)
    if args.debs:
        _download_debs(args.output / 'debs')
    return 0 if _report(args) else 1


def _add_test(archive: tarfile.TarFile, args: argparse.Namespace) -> None:
    """Add the photographs that runtimes are verified on, with what is known of them."""
    dataset = args.bop_dir / args.dataset
    _add_models(archive, args.models, f'{args.dataset}/models')
    for name in ('models_eval', 'camera.json', 'test_targets_bop19.json'):
        if (dataset / name).exists():
            archive.add(dataset / name, f'{args.dataset}/{name}')
    split = facts_of(args.dataset).test_split
    for scene in sorted(p for p in (dataset / split).iterdir() if p.is_dir()):
        for path in sorted(scene.glob('*.json')):
            archive.add(path, f'{args.dataset}/{split}/{scene.name}/{path.name}')
        for kind in ('rgb', 'gray'):
            for path in sorted((scene / kind).glob('*')):
                archive.add(path, f'{args.dataset}/{split}/{scene.name}/{kind}/{path.name}')


def _add_training(archive: tarfile.TarFile, args: argparse.Namespace) -> None:
    """Add all that a configuration names, and the configuration with the new paths."""
    config = read_config(TrainConfig, args.config)
    values = read_values(args.config)
    there = THERE
    list_name = ''
    if config.models.suffix in ('.yaml', '.yml'):
        list_name = f'/{config.models.name}'
        _add_list(archive, config.models, 'train/models')
    else:
        _add_models(archive, config.models, 'train/models',
                    {o.object_id for o in config.load_objects()})
    if args.models.resolve() != config.models.resolve():  # the reference was drawn from these
        _add_models(archive, args.models, f'{args.dataset}/models')
    values['models'] = f'{there}/train/models{list_name}'
    values['backgrounds'] = []
    for number, background in enumerate(config.backgrounds):
        archive.add(background, f'train/backgrounds{number}')
        values['backgrounds'].append(f'{there}/train/backgrounds{number}')
    values['disturbers'] = []
    for number, folder in enumerate(config.disturbers):
        name = f'train/disturbers{number}'
        if is_bop(folder):
            _add_models(archive, folder, name)
        else:
            archive.add(folder, name)
        values['disturbers'].append(f'{there}/{name}')
    _add_bytes(archive, 'train.yaml', yaml_of(values).encode())
    stem = io.BytesIO()
    torch.save({k: v for k, v in read_stem(args.stem).items() if k in stem_entries()}, stem)
    _add_bytes(archive, 'stem.pt', stem.getvalue())


def _add_list(archive: tarfile.TarFile, path: Path, name: str) -> None:
    """Add a list of objects, and their meshes with all files that belong to them."""
    archive.add(path, f'{name}/{path.name}')
    added: set[str] = set()
    for entry in read_object_list(path).values():
        mesh = path.parent / entry['mesh']
        for file in (mesh, *companion_files(mesh)):
            relative = os.path.relpath(file, path.parent)
            if relative.startswith('..') or Path(entry['mesh']).is_absolute():
                raise SystemExit(f'{path}: {file} cannot be packed; move it below the folder of '
                                 'the list, and name it relative to the list')
            if relative not in added:
                archive.add(file, f'{name}/{relative}')
                added.add(relative)


def _add_models(archive: tarfile.TarFile, folder: Path, name: str,
                object_ids: set[int] | None = None) -> None:
    """Add a folder of meshes; of a BOP folder only some objects."""
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        number = path.stem.removeprefix('obj_')
        if object_ids is None or not number.isdigit() or int(number) in object_ids:
            archive.add(path, f'{name}/{path.name}')


def _add_bytes(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def _download_wheels(folder: Path, names: Sequence[str], python: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    wanted = []
    for name in names:
        try:
            wanted.append(f'{name}=={metadata.version(name)}')
        except metadata.PackageNotFoundError:
            print(f'{name} is not installed here and is left out')
    subprocess.run([
        sys.executable, '-m', 'pip', 'download', '-q', '--no-deps', '--only-binary=:all:',
        '--python-version', python, '--implementation', 'cp',
        *(word for p in PLATFORMS for word in ('--platform', p)), '-d', str(folder), *wanted],
        check=True)


def _download_debs(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    subprocess.run(['apt-get', 'download', *DEBS], cwd=folder, check=True)


def _report(args: argparse.Namespace) -> bool:
    """Print what is carried for each purpose; tell whether all of it may travel."""
    listed = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, check=False)
    tracked = [name for name in listed.stdout.decode().split('\0') if name]
    print(f'{_mib(ROOT / n for n in tracked):7.1f} MiB  files in git')
    for path in sorted(args.output.iterdir()):
        if path.name != 'work':
            print(f'{_mib([path]):7.1f} MiB  {path}')
    fits = True
    for purpose in args.purposes:
        kept = [ROOT / n for n in tracked if not n.startswith(UNUSED[purpose])]
        size = _mib([*kept, *(args.output / name for name in CARRIED[purpose])])
        fits &= size <= args.most_mib
        print(f'{size:7.1f} MiB  travel for {purpose}, without {" ".join(UNUSED[purpose])}'
              + ('' if size <= args.most_mib else f': more than {args.most_mib:g}'))
    return fits


def _mib(paths: Iterable[Path]) -> float:
    """Return the size of files and of all files in folders; those that are missing are none."""
    files = (f for p in paths for f in ([p] if p.is_file() else p.rglob('*')) if f.is_file())
    return sum(f.stat().st_size for f in files) / MIB


if __name__ == '__main__':
    sys.exit(main())
