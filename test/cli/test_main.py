"""The mrcnet command itself: missing packages, interruptions, help."""

import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mrcnet_ros.cli import main as mrcnet


def test_an_unknown_command_lists_the_known_ones(capsys):
    """Argparse's exit code 2 with all names."""
    with pytest.raises(SystemExit, match='2'):
        mrcnet.main(['evalate'])
    assert 'evaluate' in capsys.readouterr().err


def test_an_unknown_option_shows_the_options_of_its_command(capsys):
    """Those of mrcnet itself help nobody."""
    with pytest.raises(SystemExit) as ended:
        mrcnet.main(['synth', '--models', 'a.yaml', '--output', 'out', '--symmetry', 'x'])
    told = capsys.readouterr().err
    assert ended.value.code == 2 and told.startswith('usage: mrcnet synth ')
    assert 'mrcnet synth: error: unrecognized arguments: --symmetry x' in told


def test_help_names_every_command_and_imports_none():
    """Listing the commands needs nothing but the standard library and this package."""
    script = ("import sys; from mrcnet_ros.cli.main import main, COMMANDS\n"
              "try: main(['--help'])\n"
              "except SystemExit: pass\n"
              "heavy = {'numpy', 'cv2', 'torch', 'onnxruntime', 'rclpy', 'pyrender'}\n"
              "print('loaded:', sorted(heavy & set(sys.modules)))")
    result = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True,
                            check=True)
    assert 'loaded: []' in result.stdout
    for name in mrcnet.COMMANDS:
        assert re.search(rf'^ +{name}\s', result.stdout, re.MULTILINE)


def use_command(monkeypatch, run):
    module = SimpleNamespace(add_arguments=lambda parser: None, run=run)
    monkeypatch.setattr(mrcnet, '_command', lambda name: module)


def test_a_missing_optional_package_is_named_with_its_extra(monkeypatch, capsys):
    """Without torch the training says what to install."""
    def run(args):
        raise ModuleNotFoundError("No module named 'torch'", name='torch.nn')

    use_command(monkeypatch, run)
    assert mrcnet.main(['train']) == 2
    assert "extra 'train'" in capsys.readouterr().err


def test_a_missing_module_of_our_own_is_not_hidden(monkeypatch):
    """Only known optional packages are explained away."""
    def run(args):
        raise ModuleNotFoundError('gone', name='mrcnet_ros.gone')

    use_command(monkeypatch, run)
    with pytest.raises(ModuleNotFoundError):
        mrcnet.main(['train'])


def test_interrupting_a_command_ends_it_quietly(monkeypatch, capsys):
    """Control-C gives exit code 130 and one line."""
    def run(args):
        raise KeyboardInterrupt

    use_command(monkeypatch, run)
    assert mrcnet.main(['train']) == 130
    assert capsys.readouterr().err == 'mrcnet train: interrupted\n'
