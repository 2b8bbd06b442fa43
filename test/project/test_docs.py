"""The pages of docs/ build, and what they and the README point to exists."""

import itertools
import operator
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from test_layers import ALLOWED

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', ROOT / 'examples' / 'README.md',
         *sorted((ROOT / 'docs').glob('*.md'))]


def test_the_pages_build_without_a_warning(tmp_path: Path):
    """A broken link, a broken anchor or a page outside the navigation fails the build."""
    pytest.importorskip('mkdocs', reason='needs the test extra')
    done = subprocess.run([sys.executable, '-m', 'mkdocs', 'build', '--strict', '--quiet',
                           '--site-dir', str(tmp_path / 'site')], cwd=ROOT, check=False,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / 'site' / 'ros_api.html').is_file()


@pytest.mark.parametrize('page', PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_to_files_of_the_repository_exist(page: Path):
    """Every relative link of a page leads to a file."""
    links = re.findall(r'\]\(([^)#\s]+)', page.read_text(encoding='utf-8'))
    missing = [link for link in links if '://' not in link and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.name)
def test_commands_that_pages_name_exist(page: Path):
    """Every `mrcnet WORD` of a page is a command of the command line."""
    from mrcnet_ros.cli.main import COMMANDS
    named = set(re.findall(r'\bmrcnet ([a-z][a-z-]+)', page.read_text(encoding='utf-8')))
    assert named <= set(COMMANDS)


@pytest.mark.parametrize('page', [*PAGES, *(ROOT / 'models').glob('*/README.md')],
                         ids=lambda p: str(p.relative_to(ROOT)))
def test_pages_speak_of_nothing_that_their_readers_do_not_have(page: Path):
    """Folders, calls and goals of those who made the project; the cards list the photographs."""
    text = ' '.join(page.read_text(encoding='utf-8').split())
    assert re.findall(r'shared (?:frames|photographs|test photographs|LM-O)|for one call'
                      r'|\$OUT|The goals? (?:is|was|are|were|of)|[Tt]he aim (?:was|of)'
                      r'|[Oo]ther work|that others used', text) == []


def _commands(text: str) -> list[str]:
    """Return the whole commands of a page: its lines of code, and others that name a dataset."""
    joined = re.sub(r'\\\n\s*', ' ', text)
    lines = re.findall(r'^ {4,}(mrcnet .*?)(?:  #.*)?$', joined, re.MULTILINE)
    inline = [' '.join(found.split()) for found in re.findall(r'`(mrcnet [^`]+)`', joined)]
    return [*lines, *(command for command in inline if '--bop-dir' in command)]


@pytest.mark.parametrize('page', [*PAGES, *(ROOT / 'models').glob('*/README.md')],
                         ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_of_pages_can_be_copied(page: Path):
    """They have all that is required, and no option that does not exist."""
    from mrcnet_ros.cli.main import _command, _parser
    for command in _commands(page.read_text(encoding='utf-8')):
        words = ['1' if word in ('N', 'M', 'S') else word for word in shlex.split(command)[1:]]
        try:
            _parser(words[0], _command(words[0])).parse_args(words)
        except SystemExit as ended:
            assert not ended.code, command


@pytest.mark.parametrize('page', PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_placeholder_of_a_command_stands_for_one_thing(page: Path):
    """Whoever puts in one path for each word writes no results into the dataset."""
    for command in _commands(page.read_text(encoding='utf-8')):
        words = re.findall(r'(?<=[\s=])[A-Z]{2,}\b(?!/)', command)
        assert len(words) == len(set(words)), command


def test_datasets_that_pages_make_differ():
    """The second command would stop at the folder of the first."""
    pages = ' '.join(page.read_text(encoding='utf-8') for page in PAGES)
    made = re.findall(r'mrcnet synth [^`#]*?--output (data/\w+)', pages)
    assert len(made) > 5 and len(made) == len(set(made))


@pytest.mark.parametrize('page', PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_pages_that_train_or_need_pytorch_install_it(page: Path):
    """A page that says what to install says all that its commands need."""
    text = page.read_text(encoding='utf-8')
    extras = {name for found in re.findall(r"pip install '\.\[([\w,-]+)\]'", text)
              for name in found.split(',')}
    needed = any(re.match('mrcnet (train|new|export)|.*--backend torch', command)
                 for command in _commands(text))
    assert not (extras - {'ros'} and needed) or 'train' in extras


def test_nobody_is_sent_to_an_index_for_this_package():
    """No index has it: whoever took the name there would be installed."""
    files = [*PAGES, *(ROOT / 'mrcnet_ros').rglob('*.py')]
    assert [path for path in files if re.search(
        r"pip install (?:-\S+ )*['\"]?mrcnet", path.read_text(encoding='utf-8'))] == []


def test_files_that_the_development_page_names_exist_with_what_it_names_in_them():
    """Packages, files, and the functions and classes that follow a file in its cell."""
    text = (ROOT / 'docs/development.md').read_text(encoding='utf-8')
    package = ROOT / 'mrcnet_ros'
    places = re.findall(r'`([a-z_0-9/]+(?:/|\.py))`(?:: ((?:`\w+`(?:, )?)+))?', text)
    assert sum(bool(names) for _, names in places) >= 10  # five files of each preset
    for place, names in places:
        path = next((r / place for r in (package, ROOT) if (r / place).exists()), None)
        assert path is not None, f'{place} does not exist'
        for name in re.findall(r'\w+', names):
            assert re.search(rf'^(class|def) {name}\b', path.read_text(encoding='utf-8'), re.M), \
                f'{place} defines no {name}'


def test_packages_import_only_those_above_them_in_the_table():
    """The development page has every package, each below all that it may import."""
    text = (ROOT / 'docs/development.md').read_text(encoding='utf-8')
    table = text[text.index('## Packages'):text.index('## From a box')].splitlines()
    rows = {name: number for number, line in enumerate(table) if line.startswith('| `')
            for name in re.findall(r'`(\w+)(?:/|\.py)`', line.split(' | ')[0])}
    for package, imports in ALLOWED.items():
        own = package.partition('/')[0]
        if own not in ('', 'former_places'):
            tops = {name.partition('/')[0] for name in imports} - {''}
            assert all(rows[name] <= rows[own] for name in tops), package


def test_every_launch_argument_is_on_the_page_of_the_ros_api():
    """In the command, or in the table below it."""
    launch = (ROOT / 'launch' / 'pose.launch.py').read_text(encoding='utf-8')
    table = launch[launch.index('\nARGUMENTS = {'):launch.index('\ndef ')]
    names = re.findall(r"^    '(\w+)': \(", table, re.MULTILINE)
    page = (ROOT / 'docs' / 'ros_api.md').read_text(encoding='utf-8').split('## Topics')[0]
    assert len(names) > 10
    assert [name for name in names if f'{name}:=' not in page and f'`{name}`' not in page] == []


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.name)
def test_launch_arguments_that_pages_give_exist(page: Path):
    """Copied from a page, a launch command starts."""
    launch = (ROOT / 'launch' / 'pose.launch.py').read_text(encoding='utf-8')
    text = page.read_text(encoding='utf-8').replace('\\\n', ' ')
    for words in re.findall(r'ros2 launch mrcnet_ros pose.launch.py (.*)', text):
        assert [name for name in re.findall(r'(\w+):=', words)
                if f"    '{name}': (" not in launch] == []


@pytest.mark.parametrize(('page', 'section'), [
    ('grasping', '## Time limits'), ('ros_api', '## `~/confirm_pose`')])
def test_pages_say_that_only_detections_count_for_a_confirmed_pose(page: str, section: str):
    """With track, poses come much faster, and a time limit by their rate is too short."""
    text = (ROOT / f'docs/{page}.md').read_text(encoding='utf-8').partition(section)[2]
    assert 'detector_rate_hz' in text.partition('\n## ')[0]


def test_the_readme_leads_from_a_mesh_to_a_pose_and_stays_short():
    """Below 1000 words, with all steps, and what a beginner does if there is no pose."""
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    steps = text[text.index('## On a robot'):text.index('## From Python')]
    assert len(text.split()) < 1000
    assert [step for step in ('mrcnet new', 'docs/install.md', 'config/fastdds.xml', 'ros2 launch',
                              '`overlay`', 'docs/troubleshooting.md', 'params_file:=')
            if step not in steps] == []


@pytest.mark.parametrize('page', ['README.md', 'docs/own_object.md'])
def test_models_of_a_users_own_are_found_from_every_folder(page: str):
    """The commands run in the sources, in a workspace and on a robot; N and OUT stand for any."""
    text = (ROOT / page).read_text(encoding='utf-8')
    places = re.findall(r'(?:\bmodel:=|\bdetector:=|--output )([^\s`]+)', text)
    assert len(places) > 2
    assert [p for p in places if not p.startswith(('~/', '/')) and not p.isupper()] == []


def test_the_install_page_says_how_to_call_the_commands_of_all_pages():
    """A colcon build puts neither `mrcnet` nor `pose_node` on the PATH."""
    text = (ROOT / 'docs' / 'install.md').read_text(encoding='utf-8')
    assert 'ros2 run mrcnet_ros mrcnet' in text
    assert 'ros2 run mrcnet_ros pose_node --help' in text.replace('\n', ' ')


def test_every_example_is_described():
    """The page of the examples has each program."""
    page = (ROOT / 'examples' / 'README.md').read_text(encoding='utf-8')
    programs = [path.name for path in (ROOT / 'examples').glob('*.py')]
    assert programs and all(f'`{name}`' in page for name in programs)


def _tables(page: Path) -> list[list[dict[str, str]]]:
    """Return the tables of a page, each a list of rows by the heading of the column."""
    tables: list[list[list[str]]] = []
    lines = ['', *page.read_text(encoding='utf-8').splitlines()]
    for before, line in itertools.pairwise(lines):
        if line.startswith('|'):
            if not before.startswith('|'):
                tables.append([])
            tables[-1].append([c.strip().strip('*') for c in line.strip().strip('|').split('|')])
    return [[dict(zip(head, row, strict=True)) for row in rows] for head, _, *rows in tables]


@pytest.mark.parametrize('page', sorted((ROOT / 'models').glob('*/README.md')),
                         ids=lambda p: p.parent.name)
def test_figures_of_a_card_belong_together(page: Path):
    """Means are those of their parts, so that no figure stands in the wrong table."""
    poses = [t for t in _tables(page) if {'object', 'AR_MSSD', 'AR_MSPD', 'mean'} <= set(t[0])]
    boxes = [t for t in _tables(page) if {'object', 'recall', 'AP50'} <= set(t[0])]
    assert poses or page.parent.name == 'demo'
    for row in itertools.chain(*poses):
        assert (float(row['AR_MSSD']) + float(row['AR_MSPD'])) / 2 == pytest.approx(
            float(row['mean']), abs=1.1e-3), row
    for table, name, whole in [*((t, 'mean', 'overall') for t in poses),
                               *((t, 'recall', 'all') for t in boxes)]:
        end = next(i for i, row in enumerate(table) if row['object'] == whole)
        counts = [int(row['targets']) for row in table[:end]]
        figures = [float(row[name]) for row in table[:end]]
        assert sum(counts) == int(table[end]['targets'])
        assert sum(map(operator.mul, counts, figures)) / sum(counts) == pytest.approx(
            float(table[end][name]), abs=1.1e-3)
