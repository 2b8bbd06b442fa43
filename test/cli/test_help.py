"""What --help says of the options."""

import argparse

import pytest

from mrcnet_ros.cli.main import COMMANDS, _command, _parser
from mrcnet_ros.cli.main import main as mrcnet

UNSAID = (None, False, '', [], {}, argparse.SUPPRESS)


def _parsers(parser: argparse.ArgumentParser):
    """Yield a parser and those of its subcommands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _parsers(inner)


@pytest.mark.parametrize('name', COMMANDS)
def test_every_default_is_told(name):
    """Of an option that is left out, the help says what counts."""
    silent = [action.option_strings for parser in _parsers(_parser(name, _command(name)))
              for action in parser._actions
              if action.option_strings and parser.get_default(action.dest) not in UNSAID
              and action.help != argparse.SUPPRESS and 'default' not in (action.help or '')]
    assert silent == []


def test_verify_takes_no_option_that_counts_for_nothing(capsys):
    """It computes what is not verified yet in any case."""
    with pytest.raises(SystemExit):
        mrcnet(['verify', '--help'])
    said = capsys.readouterr().out
    assert '--allow-unverified' not in said
    assert 'mrcnet verify accepted' not in ' '.join(said.split())
    assert 'or else the dataset' in ' '.join(said.split())
