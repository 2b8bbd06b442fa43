"""The work folder of ``mrcnet new``: finished steps, and the progress bar."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from ..errors import DatasetError, SpecError
from ..meshes import mesh_digest
from ..model_json import MODEL_FILE, read_model_json, seal_of
from ..reading.text import parse_json
from ..store.atomic import write_atomically, writing
from ..store.lock import try_lock
from .intake import Part
from .request import Request

STATE = 'state.json'
FILES = 'files'  # of a BOP folder and of the start, by name
# The step after which all options must stay the same. Before it, nothing took long but views,
# and those that are of use to other options are found again.
BEGUN = 'rendered'
TICK_S = 0.5  # between updates of the bar
# a step that takes longer than planned stays just below its end
ALMOST = 0.98


class Work:
    """The state of one output folder, in ``work/state.json``, for one command at a time.

    :param files: digests by name, as of :func:`named_files`.
    :param writes: names of what the command writes into the output, beside the model.
    :raises SpecError: when the output was begun for another request, or holds such files of
        somebody else, or another command works in it.
    :raises DatasetError: when the folder cannot be read or written.
    """

    def __init__(self, request: Request, files: Mapping[str, str],
                 writes: Sequence[str] = ()) -> None:
        self._path = request.work / STATE
        self._values: dict[str, Any] = {}
        self._lock: IO[str] | None = None
        asked = {**_asked(request), FILES: dict(files)}
        if self._path.exists():
            self._lock = _locked(request.work)
            self._values = _read(self._path)
            different = _different(self._values.get('asked'), asked, request.output)
            if different and BEGUN in self._values:
                raise SpecError(different)
            if different:  # nothing that takes long was done
                self._values = {}
        elif (request.output / MODEL_FILE).exists():
            raise SpecError(f'{request.output} already holds a model and has no work folder of '
                            'mrcnet new to continue in; give another --output, or remove it')
        elif taken := [name for name in writes if (request.output / name).exists()]:
            raise SpecError(f'{request.output} already has {" and ".join(taken)}, which would be '
                            'replaced; give another --output')
        self.resumed = bool(self._values)
        self['asked'] = asked
        self._lock = self._lock or _locked(request.work)

    def close(self) -> None:
        """Let other commands work in the folder; the end of the process does so too."""
        if self._lock is not None:
            self._lock.close()

    def __contains__(self, key: str) -> bool:
        """Tell whether a step is done."""
        return key in self._values

    def __getitem__(self, key: str) -> Any:
        """Return the result of a step."""
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        """Store the result of a step on disk."""
        self._values[key] = value
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, (json.dumps(self._values, indent=1) + '\n').encode())
        except OSError as error:
            raise DatasetError(f'{self._path}: cannot be written ({error.strerror}); give an '
                               '--output that can') from error

    def get(self, key: str, default: Any = None) -> Any:
        """Return the result of a step, or a default."""
        return self._values.get(key, default)


def _locked(folder: Path) -> IO[str]:
    """Return a file that no other command can lock until it is closed.

    :raises SpecError: when another command has locked it.
    :raises DatasetError: when it cannot be written.
    """
    with writing(folder):
        file = (folder / 'lock').open('w')
        if not try_lock(file):
            raise SpecError(f'another mrcnet new works in {folder.parent}; wait until it ends, or '
                            'give another --output')
    return file


def named_files(request: Request, parts: Sequence[Part]) -> dict[str, str]:
    """Return digests of what a request names by its folder alone: a BOP folder and the start.

    Of the start, what the training depends on counts, not what was measured with it.

    :param parts: that were taken in.
    :raises ModelError: when the start has no ``model.json``.
    """
    bop = {} if request.bop_models is None else {
        part.source.name: _digest([mesh_digest(part.source), part.diameter_m, part.symmetries])
        for part in parts}
    return {**bop, '--start': seal_of(read_model_json(request.start)[1])}


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _asked(request: Request) -> dict[str, Any]:
    """Return the options that must be the same in the next start, as plain data."""
    return {
        'meshes': {p.name: mesh_digest(p) for p in request.meshes},
        'bop_models': str(request.bop_models.resolve()) if request.bop_models else '',
        'object_ids': list(request.object_ids),
        'unit': request.unit, 'symmetries': dict(request.symmetries), 'views': request.views,
        'start': str(request.start.resolve()),
        'backgrounds': [str(b.resolve()) for b in request.backgrounds],
        'fast': request.fast, 'minutes': request.minutes, 'images': request.images,
        'detector': request.detector,
        'changes': json.loads(json.dumps(dict(request.changes), default=str))}


def _read(path: Path) -> dict[str, Any]:
    try:
        values = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DatasetError(f'{path} cannot be read ({error}); remove the work folder to start '
                           'again') from error
    if not isinstance(values, dict):
        raise DatasetError(f'{path} holds no state of mrcnet new; remove the work '
                           'folder to start again')
    return values


def _different(found: Any, asked: Mapping[str, Any], output: Path) -> str:
    """Say what an output was begun with otherwise, and what to do; '' for the same options."""
    if not isinstance(found, Mapping):
        raise DatasetError(f'{output / "work"} holds no state of mrcnet new; remove it to '
                           'start again')
    # older states name a detector only where there is one, and have no digests of folders
    known = {'detector': False, FILES: asked[FILES], **found}
    different = [name for name in asked if known.get(name) != asked[name]]
    if not different:
        return ''
    before = [_files_in_words(known.get(name) or {}, asked[name]) if name in ('meshes', FILES) else
              json.dumps({name: known.get(name)}) for name in different]
    return (f'{output} was begun with other {", ".join(different)} ({"; ".join(before)}); give '
            f'the same values to continue, or another --output, or remove {output}')


def _files_in_words(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Say which files differ between two starts, whose digests are given by name."""
    kinds = {'new': now.keys() - before.keys(), 'left out': before.keys() - now.keys(),
             'changed': {name for name in now.keys() & before.keys() if now[name] != before[name]}}
    return ', '.join(f'{kind}: {" ".join(sorted(names))}' for kind, names in kinds.items()
                     if names)


class Bar:
    """Shows how much of a plan is done; a line for each step, and a bar on a terminal.

    :param plan: seconds that each step takes, by name, in order; corrected as steps end.
    """

    def __init__(self, plan: Mapping[str, float]) -> None:
        self._plan, self._done = dict(plan), 0.0
        self._bar = tqdm(total=100, bar_format='{l_bar}{bar}| {postfix}', disable=None)

    def replan(self, step: str, seconds: float) -> None:
        """Change the planned time of a step."""
        self._plan[step] = seconds

    def skip(self, step: str) -> None:
        """Remove a step that is done already."""
        self._plan.pop(step, None)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show a step while it runs."""
        started, over = time.monotonic(), threading.Event()
        tqdm.write(f'{name} ({_clock(sum(self._plan.values()))} left)')
        ticker = threading.Thread(target=self._tick, args=(name, started, over), daemon=True)
        ticker.start()
        try:
            yield
        finally:
            over.set()
            ticker.join()
        self._done += time.monotonic() - started
        self._plan.pop(name, None)

    def close(self) -> None:
        self._bar.close()

    def _tick(self, name: str, started: float, over: threading.Event) -> None:
        while not over.wait(TICK_S):
            spent = time.monotonic() - started
            planned = self._plan.get(name, 0.0)
            here = min(spent, ALMOST * planned)
            rest = sum(self._plan.values()) - here
            self._bar.n = 100 * (self._done + spent) / max(self._done + spent + rest, 1e-9)
            self._bar.set_description_str(name)
            self._bar.set_postfix_str(f'{_clock(rest)} left')


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{rest:02d}' if hours else f'{minutes}:{rest:02d}'
