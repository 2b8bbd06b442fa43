"""How far a command is: shown by tqdm, or not at all."""

import sys

import pytest

from mrcnet_ros.cli.progress import SilentBar, progress_bar


@pytest.fixture
def without_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tqdm', None)


def test_without_tqdm_the_work_is_done_all_the_same(without_tqdm, capsys):
    """Loops, counts and descriptions are those of tqdm; nothing is printed."""
    assert isinstance(progress_bar(total=3), SilentBar)
    assert list(progress_bar(range(3), unit='image', disable=None)) == [0, 1, 2]
    with progress_bar(total=7, unit='turn') as bar:
        bar.update()
        bar.update(4)
        bar.set_description('five')
        assert bar.n == 5
        bar.close()
    assert capsys.readouterr() == ('', '')


def test_with_tqdm_it_is_shown():
    """The same calls go to tqdm."""
    tqdm = pytest.importorskip('tqdm', reason='needs the train extra')
    with progress_bar(total=2, disable=True) as bar:
        assert isinstance(bar, tqdm.tqdm)
        bar.update()
