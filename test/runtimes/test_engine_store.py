"""Engines are stored whole, used only for what they were built for, and built once for all."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from mrcnet_ros.runtimes.engine_store import EngineKey, EngineStore, default_engine_root
from mrcnet_ros.store.atomic import STALE_SECONDS

KEY = EngineKey(
    graph='stage1', graph_sha256='ab' * 32, converter=1, library='tensorrt', version='10.9.0',
    gpu='NVIDIA L4', capability='8.9', precision='fp16', profile=(1, 8, 16))
ENGINE = bytes(range(256)) * 64
CHANGES = {
    'graph': 'stage2', 'graph_sha256': 'cd' * 32, 'converter': 2, 'library': 'tensorrt_rtx',
    'version': '10.9.1', 'gpu': 'NVIDIA L40', 'capability': '8.6', 'precision': 'fp32',
    'profile': (1, 8, 32), 'longest_px': 800,
}


class Builds:
    """Builds engines that differ from one another, and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> bytes:
        self.count += 1
        return ENGINE + bytes([self.count])


def never() -> bytes:
    """Fail: the stored engine should have been used."""
    raise AssertionError('built again')


def test_the_second_time_nothing_is_built(tmp_path: Path) -> None:
    """Another store of the same folder returns the same bytes."""
    first = EngineStore(tmp_path / 'new' / 'engines').load_or_build(KEY, Builds())
    assert EngineStore(tmp_path / 'new' / 'engines').load_or_build(KEY, never) == first


@pytest.mark.parametrize('field', CHANGES)
def test_an_engine_is_of_no_use_for_anything_else(tmp_path: Path, field: str) -> None:
    """Another graph, library, GPU, precision or profile means another engine; the first stays."""
    store, builds = EngineStore(tmp_path), Builds()
    store.load_or_build(KEY, builds)
    other = dataclasses.replace(KEY, **{field: CHANGES[field]})
    assert store.load_or_build(other, builds) == ENGINE + b'\x02'
    assert store.load_or_build(KEY, never) == ENGINE + b'\x01'


def test_the_key_has_no_part_that_this_test_forgets() -> None:
    """The test above changes every field."""
    assert set(CHANGES) == {field.name for field in dataclasses.fields(EngineKey)}


@pytest.mark.parametrize('damage', ['empty', 'half', 'one byte less', 'one bit', 'text', 'head'])
def test_a_damaged_engine_is_built_anew(
        tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    """The log names the file and what is wrong; the new engine replaces it."""
    store, builds = EngineStore(tmp_path), Builds()
    store.load_or_build(KEY, builds)
    path = store.path(KEY)
    data = path.read_bytes()
    flipped = bytearray(data)
    flipped[-100] ^= 4
    path.write_bytes({
        'empty': b'', 'half': data[:len(data) // 2], 'one byte less': data[:-1],
        'one bit': bytes(flipped), 'text': b'<html>not found</html>', 'head': data[:40]}[damage])
    assert store.load(KEY) is None
    assert str(path) in caplog.text and 'built anew' in caplog.text
    assert store.load_or_build(KEY, builds) == ENGINE + b'\x02'
    assert EngineStore(tmp_path).load_or_build(KEY, never) == ENGINE + b'\x02'


def test_an_engine_of_another_gpu_under_this_name_is_built_anew(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file copied over from another robot is whole, and still not used."""
    store, builds = EngineStore(tmp_path), Builds()
    foreign = dataclasses.replace(KEY, gpu='NVIDIA GeForce RTX 3060', capability='8.6')
    store.load_or_build(foreign, builds)
    os.replace(store.path(foreign), store.path(KEY))
    assert store.load_or_build(KEY, builds) == ENGINE + b'\x02'
    assert 'built for something else' in caplog.text


def test_a_discarded_engine_is_gone(tmp_path: Path) -> None:
    """What the library refuses although it is whole can be removed, twice."""
    store = EngineStore(tmp_path)
    store.load_or_build(KEY, Builds())
    store.discard(KEY)
    store.discard(KEY)
    assert store.load(KEY) is None


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    """The error passes through, and the next process may try."""
    store = EngineStore(tmp_path)

    def fail() -> bytes:
        raise RuntimeError('no memory')

    with pytest.raises(RuntimeError, match='no memory'):
        store.load_or_build(KEY, fail)
    assert store.load(KEY) is None and not list(tmp_path.glob('*.engine'))
    assert store.load_or_build(KEY, Builds()) == ENGINE + b'\x01'


SCRIPT = '''
import sys, time
from pathlib import Path
from mrcnet_ros.runtimes.engine_store import EngineStore
sys.path.insert(0, {here!r})
from test_engine_store import ENGINE, KEY
folder, name = Path({folder!r}), sys.argv[1]

def build():
    with (folder / 'builds').open('a') as file:
        file.write(name + '\\n')
    (folder / 'building').touch()
    time.sleep({seconds})
    return ENGINE + name.encode()

print('ready', flush=True)
sys.stdin.readline()
say = lambda text: print(text, flush=True)
found = EngineStore(folder / 'engines').load_or_build(KEY, build, say)
print(found[len(ENGINE):].decode())
'''


def start(folder: Path, name: str, seconds: float) -> subprocess.Popen[str]:
    """Start a process that wants the engine as soon as it is told."""
    script = SCRIPT.format(here=str(Path(__file__).parent), folder=str(folder), seconds=seconds)
    process = subprocess.Popen(
        [sys.executable, '-c', textwrap.dedent(script), name], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == 'ready\n'
    return process


def test_of_two_processes_one_builds_and_the_other_waits(tmp_path: Path) -> None:
    """Both get the engine of the one that built."""
    racers = {name: start(tmp_path, name, seconds=1.0) for name in ('a', 'b')}
    for process in racers.values():
        assert process.stdin
        process.stdin.write('go\n')
        process.stdin.flush()
    said = {name: process.communicate(timeout=600)[0].splitlines()
            for name, process in racers.items()}
    assert [p.returncode for p in racers.values()] == [0, 0]
    builder = (tmp_path / 'builds').read_text().split()
    assert len(builder) == 1
    assert [lines[-1] for lines in said.values()] == builder * 2


def test_who_waits_takes_over_when_the_builder_is_killed(tmp_path: Path) -> None:
    """A lock ends with its process; nothing half done is seen."""
    builder = start(tmp_path, 'killed', seconds=600.0)
    assert builder.stdin
    builder.stdin.write('go\n')
    builder.stdin.flush()
    deadline = time.monotonic() + 600
    while not (tmp_path / 'building').exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    waiter = start(tmp_path, 'heir', seconds=0.0)
    assert waiter.stdin and waiter.stdout
    waiter.stdin.write('go\n')
    waiter.stdin.flush()
    assert waiter.stdout.readline() == (
        'another process builds the engine of stage1; waited 0 s\n')
    builder.send_signal(signal.SIGKILL)
    builder.communicate()
    assert waiter.communicate(timeout=600)[0].splitlines()[-1] == 'heir'
    assert EngineStore(tmp_path / 'engines').load_or_build(KEY, never) == ENGINE + b'heir'


def unwritable(folder: Path) -> bool:
    """Make a folder read-only; False for root, whom that does not stop."""
    folder.chmod(0o555)
    return not os.access(folder, os.W_OK)


def test_a_read_only_folder_means_building_in_memory(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The engine is returned all the same, and the log says what that costs."""
    folder = tmp_path / 'engines'
    folder.mkdir()
    if not unwritable(folder):
        # root may write anywhere: a file in the folder's place refuses root as well
        folder.chmod(0o755)
        folder.rmdir()
        folder.write_text('')
    store, builds = EngineStore(folder), Builds()
    assert store.load_or_build(KEY, builds) == ENGINE + b'\x01'
    assert 'kept in memory only and built again next time' in caplog.text
    assert store.load_or_build(KEY, builds) == ENGINE + b'\x02'


def test_a_read_only_folder_still_serves_its_engines(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Engines that were built ahead are used, without a lock and without a warning."""
    store = EngineStore(tmp_path / 'engines')
    built = store.load_or_build(KEY, Builds())
    for lock in store.root.glob('*.lock'):
        lock.unlink()
    unwritable(store.root)
    assert store.load_or_build(KEY, never) == built
    assert not list(store.root.glob('*.lock')) and not caplog.records
    store.root.chmod(0o755)


def test_a_full_disk_means_building_in_memory(
        tmp_path: Path, caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing half written stays; the log names the folder and the reason."""
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store, builds = EngineStore(tmp_path), Builds()
    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', full)
        assert store.load_or_build(KEY, builds) == ENGINE + b'\x01'
    assert 'No space left on device' in caplog.text and str(tmp_path) in caplog.text
    assert 'kept in memory only' in caplog.text
    assert [p.suffix for p in tmp_path.iterdir()] == ['.lock']
    assert store.load_or_build(KEY, builds) == ENGINE + b'\x02'
    assert store.load_or_build(KEY, never) == ENGINE + b'\x02'


@pytest.mark.skipif(not Path('/dev/shm').is_dir() or os.geteuid() != 0,
                    reason='needs root, to mount a small disk')
def test_a_disk_that_is_really_full_means_building_in_memory(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The same with the system's own error."""
    mounted = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=8k', 'tmpfs', str(tmp_path)],
                             capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f'cannot mount: {mounted.stderr.strip()}')
    try:
        assert EngineStore(tmp_path).load_or_build(KEY, Builds()) == ENGINE + b'\x01'
        assert 'No space left on device' in caplog.text
        assert not list(tmp_path.glob('*.engine')) and not list(tmp_path.glob('.*.partial'))
    finally:
        subprocess.run(['umount', str(tmp_path)], check=True)


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    """But only when it is so old that nobody can be writing it any more."""
    old, new = tmp_path / '.a.partial', tmp_path / '.b.partial'
    for file in (old, new):
        file.write_bytes(b'half')
    past = time.time() - STALE_SECONDS - 60
    os.utime(old, (past, past))
    EngineStore(tmp_path).load_or_build(KEY, Builds())
    assert not old.exists() and new.exists()


def test_engines_are_kept_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """$MRCNET_CACHE moves them, as it moves the templates."""
    monkeypatch.setenv('MRCNET_CACHE', '/somewhere')
    assert default_engine_root() == Path('/somewhere/engines')
    monkeypatch.delenv('MRCNET_CACHE')
    monkeypatch.setenv('XDG_CACHE_HOME', '/cache')
    assert default_engine_root() == Path('/cache/mrcnet_ros/engines')


def test_a_lock_file_left_behind_locks_nobody_out(tmp_path: Path) -> None:
    """What counts is the lock, not the file."""
    store = EngineStore(tmp_path)
    lock = store.path(KEY).with_suffix('.lock')
    lock.touch()
    assert store.load_or_build(KEY, Builds()) == ENGINE + b'\x01'
    with lock.open('ab') as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.fixture(autouse=True)
def _warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
