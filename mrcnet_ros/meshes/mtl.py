"""Material libraries of OBJ files: the colours and textures that materials stand for."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MeshError
from ..reading.fields import numbers_of
from .files import before_comment, find_file, lines_of
from .light import shown
from .surface import ROUNDING, Paint

# options that may stand before the name of a texture, and the most values each takes
OPTIONS = {'-blendu': 1, '-blendv': 1, '-boost': 1, '-bm': 1, '-cc': 1, '-clamp': 1,
           '-imfchan': 1, '-mm': 2, '-o': 3, '-s': 3, '-t': 3, '-texres': 1, '-type': 1}
NUMBERS = {'-boost', '-bm', '-mm', '-o', '-s', '-t', '-texres'}
# Below it a camera sees more of what is behind a face than of the face.
LEAST_OPACITY = 0.5
# Without ``d``, ``Tr`` says how opaque a material is or how transparent; programs differ. At its
# ends it mostly means opaque: they write "Tr 1" as well as "Tr 0" for it.
UNCLEAR = (0.02, 0.98)
FIELDS = {'kd': 'colour', 'map_kd': 'picture', 'd': 'opacity', 'tr': 'transparency',
          'map_d': 'opacity_picture', 'map_ka': 'ambient_picture', 'map_ke': 'light_picture',
          'ke': 'light'}
# First line of the libraries of Blender, in which Kd is an amount of light, 0.8 for a light grey.
# Other programs write what a screen shows; the format does not say.
BLENDER = '# Blender'
Options = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class MtlMaterial:
    """A material as its library has it; what cannot be drawn is an error once a face needs it.

    :param colour: values of ``Kd``, None without it.
    :param picture: options and file name of ``map_Kd``, None without it.
    :param opacity: value of ``d``, None without it; ``transparency`` is that of ``Tr``.
    :param opacity_picture: options and file name of ``map_d``, None without it.
    :param ambient_picture: options and file name of ``map_Ka``, None without it.
    :param light_picture: the same of ``map_Ke``.
    :param light: values of ``Ke``, None without it.
    :param problem: why the library does not say how it looks, '' when it does.
    :param is_light: whether ``colour`` is an amount of light, and not what a screen shows.
    """

    library: Path
    colour: str | None = None
    picture: str | None = None
    opacity: str | None = None
    transparency: str | None = None
    opacity_picture: str | None = None
    ambient_picture: str | None = None
    light_picture: str | None = None
    light: str | None = None
    problem: str = ''
    is_light: bool = False


def read_library(path: Path) -> dict[str, MtlMaterial]:
    """Read the materials of a library by name.

    :raises OSError: when it cannot be read.
    """
    found: list[tuple[str, MtlMaterial]] = []
    lines = lines_of(path.read_bytes())
    is_light = lines[0].startswith(BLENDER)
    for line in lines:
        words = line.split(maxsplit=1)
        keyword, rest = words[0].lower() if words else '', words[1].strip() if words[1:] else ''
        if keyword == 'newmtl':
            found.append((rest, MtlMaterial(path, is_light=is_light)))
        elif keyword in FIELDS and found:
            name, material = found[-1]
            found[-1] = (name, _with(material, FIELDS[keyword], rest))
    materials: dict[str, MtlMaterial] = {}
    for name, material in found:
        materials[name] = merged(materials.get(name), material)
    return materials


def merged(first: MtlMaterial | None, second: MtlMaterial) -> MtlMaterial:
    """Return the one of two materials of the same name; when they differ, it cannot be used."""
    if first is None:
        return second
    if replace(first, library=second.library) == second:
        return first
    return replace(first, problem=f'is defined in two ways, in {first.library.name} and '
                   f'{second.library.name}')


def paint_of(mesh: Path, name: str, material: MtlMaterial, textured: bool) -> Paint:
    """Return how a material looks. A texture counts as it is: ``Kd`` does not tint it.

    :param textured: whether the faces have texture coordinates; without them ``Kd`` counts.
    :raises MeshError: when the texture is missing or the material cannot be drawn.
    """
    try:
        if material.problem:
            raise ValueError(material.problem)
        _check_opaque(material)
        if material.picture is None:
            _check_drawn(material, textured)
        if material.picture is None or not textured:
            return Paint(_plain(material))
        options, file = _split_options(material.picture)
        mask = (file if material.opacity_picture is None
                else _split_options(material.opacity_picture)[1])
    except ValueError as error:
        raise MeshError(mesh, f'its material {name!r} {error}',
                        f'correct it in {material.library}') from error
    image, opacity = (_found(mesh, name, material, f) for f in (file, mask))
    return Paint(None, image, None if opacity == image else opacity,
                 scale=_pair(options.get('-s', ()), 1.0), offset=_pair(options.get('-o', ()), 0.0),
                 clamped=options.get('-clamp', ('off',))[0].lower() == 'on')


def _found(mesh: Path, name: str, material: MtlMaterial, file: str) -> Path:
    """Return a picture of a material.

    :raises MeshError: when it is missing.
    """
    folder = material.library.parent
    image = find_file(file, folder, mesh.parent) or find_file(before_comment(file), folder,
                                                              mesh.parent)
    if image is None:
        raise MeshError(mesh, f'its texture {folder / file} is missing, which the material '
                        f'{name!r} needs', 'put it beside the mesh')
    return image


def _with(material: MtlMaterial, field: str, value: str) -> MtlMaterial:
    before = getattr(material, field)
    if before not in (None, value):
        return replace(material, problem=f'has both "{before}" and "{value}" as its {field}')
    change: dict[str, Any] = {field: value}
    return replace(material, **change)


def _check_opaque(material: MtlMaterial) -> None:
    """Refuse a material through which a camera sees.

    :raises ValueError: when it is one, or may be.
    """
    if material.opacity is not None and _last(material.opacity) < LEAST_OPACITY:
        raise ValueError(f'is transparent ("d {material.opacity}"), and faces are drawn opaque; '
                         'leave out those that a camera does not see, or give "d 1"')
    least, most = UNCLEAR
    if material.opacity is None and material.transparency is not None and (
            least < _last(material.transparency) < most):
        raise ValueError(f'has "Tr {material.transparency}", which some programs write for '
                         'transparent faces and some for opaque ones; give "d" in its place, 1 '
                         'for opaque')


def _check_drawn(material: MtlMaterial, textured: bool) -> None:
    """Refuse a material without ``map_Kd`` that shows what is not drawn.

    :raises ValueError: when it does.
    """
    if textured and material.opacity_picture is not None:
        raise ValueError('has "map_d" and no "map_Kd", and faces are drawn opaque')
    for keyword, file in (('map_Ka', material.ambient_picture),
                          ('map_Ke', material.light_picture)):
        if textured and file is not None:
            raise ValueError(f'has "{keyword} {file}" and no "map_Kd", which alone is drawn; if '
                             'faces look like that picture, call it "map_Kd"')
    is_black = material.colour is None or not any(_rgb(material.colour))
    if material.light is not None and is_black and any(_numbers(material.light)):
        raise ValueError(f'has the colour "Ke {material.light}" of its own light, and its "Kd", '
                         'which alone is drawn, is missing or black; give the colour as "Kd"')


def _last(text: str) -> float:
    """Return the last number of ``d`` or ``Tr``, 1 when there is none."""
    with contextlib.suppress(ValueError, IndexError):
        return float(numbers_of(text.split('#')[0].split()[-1:])[-1])
    return 1.0


def _plain(material: MtlMaterial) -> tuple[int, int, int] | None:
    """Return ``Kd`` as a screen shows it, None without one.

    :raises ValueError: when it is no colour.
    """
    if material.colour is None or not material.is_light:
        return None if material.colour is None else _rgb(material.colour)
    r, g, b = (int(v) for v in shown(np.array(_fractions(material.colour))))
    return r, g, b


def _rgb(text: str) -> tuple[int, int, int]:
    r, g, b = (round(255 * value) for value in _fractions(text))
    return r, g, b


def _fractions(text: str) -> list[float]:
    """Return the three numbers of ``Kd``, 0 to 1.

    :raises ValueError: when they are something else.
    """
    values = _numbers(text)
    values = values * 3 if len(values) == 1 else values
    if len(values) != 3 or not all(
            -ROUNDING <= value <= 1.0 + ROUNDING for value in values):
        raise ValueError(f'has the colour "Kd {text}", expected three numbers from 0 to 1')
    return [min(max(value, 0.0), 1.0) for value in values]


def _numbers(text: str) -> list[float]:
    """Return the numbers before a comment, none where one is no number."""
    with contextlib.suppress(ValueError):
        found: list[float] = numbers_of(text.split('#')[0].split()).tolist()
        return found
    return []


def _split_options(text: str) -> tuple[Options, str]:
    """Split the options from the name of the file, which may have blanks in it.

    :raises ValueError: when there is no name, or options change the colours of the texture.
    """
    options: Options = {}
    rest = text
    while True:
        option, after = _first_word(rest)
        if option.lower() not in OPTIONS:
            break
        values: list[str] = []
        option, rest = option.lower(), after
        while len(values) < OPTIONS[option]:
            word, after = _first_word(rest)
            if not after or (option in NUMBERS and not _is_number(word)):
                break  # what is left is the name
            values.append(word)
            rest = after
        options[option] = tuple(values)
    turbulence, levels = ([float(v) for v in options.get(o, ())] for o in ('-t', '-mm'))
    if any(turbulence) or levels not in ([], [0.0], [0.0, 1.0]):
        raise ValueError(f'has a texture with options that are not supported: "map_Kd {text}"')
    if not rest:
        raise ValueError(f'names no file in "map_Kd {text}"')
    return options, rest


def _first_word(text: str) -> tuple[str, str]:
    words = text.split(maxsplit=1)
    return (words[0] if words else ''), (words[1].strip() if words[1:] else '')


def _pair(values: tuple[str, ...], default: float) -> tuple[float, float]:
    u, v = ([float(value) for value in values] + [default] * 2)[:2]
    return u, v


def _is_number(word: str) -> bool:
    try:
        numbers_of([word])
    except ValueError:
        return False
    return True
