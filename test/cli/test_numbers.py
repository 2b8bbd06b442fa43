"""Numbers on the command line that cannot be are refused before anything starts."""

import pytest

from mrcnet_ros.cli.main import main


@pytest.mark.parametrize(('words', 'option'), [
    (['fuzz', '--model', 'm'], '--timeout'), (['soak'], '--memory-limit'),
    (['soak'], '--silence-limit'), (['soak'], '--warm-up'), (['demo'], '--rate'),
    (['bag', 'from-bop', '--output', 'o'], '--rate')])
@pytest.mark.parametrize('value', ['nan', 'inf', '-1'])
def test_limits_and_rates_are_finite_and_not_negative(capsys, words, option, value):
    """No growth is above a limit of nan, so that any leak would pass."""
    with pytest.raises(SystemExit) as ended:
        main([*words, f'{option}={value}'])
    assert ended.value.code == 2
    assert f'argument {option}: must be' in capsys.readouterr().err


@pytest.mark.parametrize('option', ['--scenes', '--frames'])
def test_a_demo_of_nothing_is_refused(capsys, option):
    """It would have nothing to judge."""
    with pytest.raises(SystemExit):
        main(['demo', f'{option}=0'])
    assert f'argument {option}: must be at least 1' in capsys.readouterr().err
