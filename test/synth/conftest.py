"""A dataset that several files of tests look at."""

import pytest
import synth_folder


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return synth_folder.write_dataset(tmp_path_factory.mktemp('synth'))
