"""Files are read strictly: what could be meant in two ways, or is damaged, is refused."""

import io

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from mrcnet_ros.errors import ImageError
from mrcnet_ros.reading import fields, picture
from mrcnet_ros.reading.text import parse_json, parse_yaml, yaml_of

RNG = np.random.default_rng(0)
PHOTO = cv2.GaussianBlur(RNG.integers(0, 255, (60, 80, 3), np.uint8), (0, 0), 2)


@pytest.mark.parametrize('text', ['{"a": [1, 2.5, "x", null, true]}', '[]', '3', '"é"'])
def test_good_json_is_read(text):
    """Values come out as the standard library has them, with or without a byte order mark."""
    values = {'{': {'a': [1, 2.5, 'x', None, True]}, '[': [], '3': 3, '"': 'é'}[text[0]]
    assert parse_json(text.encode()) == values
    assert parse_json(b'\xef\xbb\xbf' + text.encode()) == values


@pytest.mark.parametrize(('data', 'problem'), [
    (b'{"38": [{"cam_t_m2c": [1, NaN]}]}', r'38\[0\]\.cam_t_m2c\[1\] is NaN; expected a fin'),
    (b'{"a": {"b": -Infinity}}', r'a\.b is -Infinity'),
    (b'[1e999]', r'\[0\] is 1e999'),
    (b'{"38": [1], "39": [2], "38": [3]}', "the key '38' is given twice"),
    (b'{"a": {"b": 1, "b": 1}}', "the key 'b' is given twice"),
    ('{"a": "é"}'.encode('latin-1'), 'byte 8 is not UTF-8'),
    ('{"a": 1}'.encode('utf-16'), 'not UTF-8'),
    (b'[' * 100000, 'nested too deeply'),
    (b'{"a": 1', 'delimiter'),
])
def test_bad_json_says_where(data, problem):
    """The error names the field, the key or the byte at fault."""
    with pytest.raises(ValueError, match=problem):
        parse_json(data)


@pytest.mark.parametrize('word', [
    'on', 'off', 'yes', 'no', 'y', '1_0', '08', '010', '0x10', '12:30', '2024-01-01', '1.2.3',
    '.nan', '.inf', '=', '1e', 'é'])
def test_words_stay_words_in_yaml(word):
    """YAML 1.1 makes truth values, octal numbers, times and dates of them."""
    assert parse_yaml(f'a: {word}') == {'a': word}
    assert parse_yaml(f'{word}: 1') == {word: 1}


@pytest.mark.parametrize(('text', 'value'), [
    ('true', True), ('False', False), ('null', None), ('~', None), ('', None), ('0', 0),
    ('-12', -12), ('2e-3', 0.002), ('-1.5E+3', -1500.0), ('.5', 0.5), ('3.', 3.0),
    ('"5"', '5'), ('[1, {b: 2}]', [1, {'b': 2}])])
def test_numbers_and_truth_values_of_yaml(text, value):
    """As YAML 1.2 has them."""
    found = parse_yaml(f'a: {text}')['a']
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(('text', 'problem'), [
    ('a: 1\nb: 2\na: 3', r"the key 'a' is given twice(.|\n)*line 3"),
    ('- {id: 1, label: x, id: 2}', "the key 'id' is given twice"),
    ('a: 1e999', 'not a finite number'), ('a: !!float .nan', 'not a finite number'),
    ('a: [', 'line 1'), ('a: 1\n---\nb: 2', 'single document'), ('[' * 5000, 'deeply'),
    ('a: !!python/name:os.system', 'could not determine a constructor'),
])
def test_bad_yaml_says_where(text, problem):
    """The error tells the line."""
    with pytest.raises(ValueError, match=problem):
        parse_yaml(text)


@pytest.mark.parametrize('value', [
    '7E3', '1e3', '12', '1.5', '0x10', '1_000', '08', 'on', 'yes', 'true', 'null', '~', '', '<<',
    '2024-01-01', ' a ', 'a: b', '# a', 'd\u00e9j\u00e0', 7000.0, 1e-5, 3, True, None])
def test_written_yaml_is_read_as_the_same(value):
    """By this project and by readers of YAML 1.1, as the name of a field too."""
    text = yaml_of([{'label': value, str(value): 1}])
    for read in (parse_yaml, yaml.safe_load):
        (found,) = read(text)
        assert found == {'label': value, str(value): 1}
        assert type(found['label']) is type(value)


def test_merged_mappings_may_override():
    """A key beside a merge is no key that is given twice."""
    text = 'a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: *b, y: 4}'
    assert parse_yaml(text) == yaml.safe_load(text)


def test_text_that_is_not_utf8_is_told():
    """YAML has the same door as JSON."""
    with pytest.raises(ValueError, match='byte 4 is not UTF-8'):
        parse_yaml('a: é'.encode('latin-1'))


@pytest.mark.parametrize('value', [True, None, '1', 1.5, -1, float('nan'), float('inf'), [1]])
def test_what_is_no_whole_number(value):
    """Truth values, text and fractions are not rounded to one."""
    with pytest.raises(ValueError, match='id must be a whole number'):
        fields.whole(value, 'id')
    assert fields.whole(3.0, 'id') == 3


@pytest.mark.parametrize('value', [True, None, 'nan', '1', float('inf'), 10 ** 400, 3.0])
def test_what_is_no_number(value):
    """Nor is text that reads like one, or a number out of bounds."""
    with pytest.raises(ValueError, match='x must be a finite number from 0 to 2'):
        fields.number(value, 'x', 0, 2)


@pytest.mark.parametrize('value', [True, None, 1.1, '', ' ', [1]])
def test_what_is_no_label(value):
    """YAML has made something else of it, or there is none."""
    with pytest.raises(ValueError, match=r'label must be text, got .*put it in quotes'):
        fields.label(value)
    assert (fields.label('on'), fields.label(7)) == ('on', '7')


def test_misspelt_fields_come_with_a_proposal():
    """The message lists what there is and what was perhaps meant."""
    with pytest.raises(ValueError, match=r"list: unknown fields \['labl'\]; .*is 'label' meant"):
        fields.only_known({'labl': 1}, ['label', 'mesh'], 'list')


def stored(tmp_path, pixels, suffix, **options):
    """Write RGB or grey pixels with Pillow, whatever OpenCV thinks of them."""
    path = tmp_path / f'picture{suffix}'
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize('suffix', ['.png', '.tif', '.bmp'])
@pytest.mark.parametrize('mode', ['RGB', 'L', 'RGBA', 'LA', 'P', '1'])
def test_photographs_of_every_kind_are_rgb(tmp_path, suffix, mode):
    """Grey is repeated, palettes are looked up, opacity is left out."""
    image = Image.fromarray(PHOTO).convert(mode)
    if suffix == '.bmp' and mode in ('RGBA', 'LA'):
        pytest.skip('Pillow writes none')
    path = tmp_path / f'picture{suffix}'
    image.save(path)
    np.testing.assert_array_equal(picture.read_rgb(path), np.asarray(image.convert('RGB')))
    assert picture.image_size(path) == (80, 60)


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.tif'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_no_mark_of_the_file_turns_a_picture(tmp_path, suffix, orientation):
    """Pixels and size are those of the same file without the mark."""
    options = {'quality': 95} if suffix == '.jpg' else {}
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = picture.read_rgb(stored(tmp_path, PHOTO, suffix, **options))
    marked = stored(tmp_path, PHOTO, suffix, exif=exif.tobytes(), **options)
    np.testing.assert_array_equal(picture.read_rgb(marked), plain)
    assert picture.image_size(marked) == (80, 60)


@pytest.mark.parametrize('suffix', ['.png', '.tiff'])
@pytest.mark.parametrize('kind', [np.uint16, np.float32])
@pytest.mark.parametrize('channels', [1, 3])
def test_more_than_eight_bits_are_refused(tmp_path, suffix, kind, channels):
    """Nothing tells which of the 16 bits a camera has filled."""
    if suffix == '.png' and kind == np.float32:
        pytest.skip('PNG has none')
    path = tmp_path / f'twelve{suffix}'
    pixels = PHOTO if channels == 3 else PHOTO[..., 0]
    cv2.imwrite(str(path), pixels.astype(kind) * 16)
    with pytest.raises(ImageError, match=rf'twelve{suffix}: (has (16|32) bits|cannot)'):
        picture.read_rgb(path)


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.tif', '.bmp'])
@pytest.mark.parametrize('part', [0.0, 0.5, 0.99])
def test_a_picture_that_is_cut_off_is_refused(tmp_path, suffix, part):
    """Older decoders fill the rest with grey."""
    path = stored(tmp_path, PHOTO, suffix)
    data = path.read_bytes()
    path.write_bytes(data[:int(part * len(data))])
    with pytest.raises(ImageError, match=rf'picture{suffix}: cannot be decoded'):
        picture.read_rgb(path)


@pytest.mark.parametrize('compression', ['tiff_lzw', 'tiff_adobe_deflate', 'tiff_deflate'])
@pytest.mark.parametrize('kind', ['rgb', 'grey', 'depth'])
@pytest.mark.parametrize('place', [0.2, 0.5, 0.8])
def test_a_tiff_with_a_hole_in_its_data_is_refused(tmp_path, compression, kind, place):
    """OpenCV goes on with the next strip, and leaves rows as they are."""
    blurred = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 255, (240, 320, 3), np.uint8),
                               (0, 0), 2.0)
    pixels = {'rgb': blurred, 'grey': blurred[..., 0], 'depth': 37 * blurred[..., 0].astype('u2')}
    read = picture.read_depth if kind == 'depth' else picture.read_rgb
    path = stored(tmp_path, pixels[kind], '.tif', compression=compression)
    whole = read(path)
    np.testing.assert_array_equal(
        whole, np.repeat(pixels[kind][..., None], 3, 2) if kind == 'grey' else pixels[kind])
    data = bytearray(path.read_bytes())
    start = int(place * len(data))
    data[start:start + 3000] = bytes(3000)
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r'picture\.tif: cannot be decoded, it is damaged'):
        read(path)


@pytest.mark.parametrize('options', [
    {}, {'compression': 'packbits'}, {'compression': 'tiff_lzw', 'tiffinfo': {317: 2}}])
def test_other_tiffs_are_read_as_before(tmp_path, options):
    """Where nothing tells whether they are whole, or values are differences."""
    np.testing.assert_array_equal(
        picture.read_rgb(stored(tmp_path, PHOTO, '.tif', **options)), PHOTO)


def noisy_jpeg(**options):
    """Return a JPEG of a picture without flat parts, 320x240."""
    blurred = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 255, (240, 320, 3), np.uint8),
                               (0, 0), 2.0)
    file = io.BytesIO()
    Image.fromarray(cv2.normalize(blurred, None, 0, 255, cv2.NORM_MINMAX)).save(
        file, 'jpeg', **options)
    return file.getvalue()


@pytest.mark.parametrize('options', [
    {}, {'optimize': True}, {'subsampling': 0, 'quality': 95}, {'restart_marker_rows': 1},
    {'restart_marker_blocks': 7}, {'progressive': True},
    {'progressive': True, 'restart_marker_rows': 2}])
@pytest.mark.parametrize('hole', ['zeros', 'missing', 'noise', 'ones'])
def test_a_jpeg_with_a_hole_in_its_data_is_refused(tmp_path, options, hole):
    """Decoders fill what is missing with grey, or go on with the rest in another place."""
    data = noisy_jpeg(**options)
    path = tmp_path / 'picture.jpg'
    path.write_bytes(data)
    picture.read_rgb(path)
    at, size = len(data) // 2, 1024
    filling = {'zeros': bytes(size), 'missing': b'', 'ones': b'\xff' * size,
               'noise': np.random.default_rng(2).bytes(size)}[hole]
    path.write_bytes(data[:at] + filling + data[at + size:])
    with pytest.raises(ImageError, match=r'picture\.jpg: cannot be decoded'):
        picture.read_rgb(path)


@pytest.mark.parametrize('size', [(1, 1), (8, 8), (53, 37), (320, 240)])
@pytest.mark.parametrize('mode', ['L', 'RGB', 'CMYK'])
@pytest.mark.parametrize('options', [
    {}, {'optimize': True}, {'restart_marker_blocks': 3}, {'progressive': True},
    {'quality': 100, 'subsampling': 1}])
def test_whole_jpegs_are_read(size, mode, options):
    """No picture of any size and kind is taken for damaged, nor what cameras put at its end."""
    file = io.BytesIO()
    Image.new(mode, size).save(file, 'jpeg', **options)
    data = file.getvalue()
    assert picture.decoded_pixels(data, picture.COLOUR) is not None
    assert picture.decoded_pixels(data[:-2] + bytes(4) + data[-2:], picture.COLOUR) is not None
    assert picture.decoded_pixels(data + data, picture.COLOUR) is not None


@pytest.mark.parametrize('scans', [1, 4, 8])
def test_a_progressive_jpeg_that_ends_early_is_refused(scans):
    """Some programs put an end behind what they got; a coarse picture would be left."""
    data = noisy_jpeg(progressive=True)
    parts = data.split(b'\xff\xda')
    assert len(parts) > 9
    early = b'\xff\xda'.join(parts[:1 + scans]) + b'\xff\xd9'
    for in_time in (False, True):
        assert picture.decoded_pixels(data, picture.COLOUR, in_time=in_time) is not None
        assert picture.decoded_pixels(early, picture.COLOUR, in_time=in_time) is None


def test_the_end_of_a_preview_is_not_that_of_the_picture():
    """A JPEG with a preview that lacks its own end is cut off; bytes behind the end are not."""
    file = io.BytesIO()
    Image.fromarray(PHOTO).save(file, 'jpeg')
    whole = file.getvalue()
    preview = b'\xff\xe1' + (len(whole) + 2).to_bytes(2, 'big') + whole
    assert picture.decoded_pixels(whole[:2] + preview + whole[2:], picture.COLOUR) is not None
    assert picture.decoded_pixels(whole[:2] + preview + whole[2:-2], picture.COLOUR) is None
    assert picture.decoded_pixels(whole + b'\x00' * 9, picture.COLOUR) is not None


@pytest.mark.parametrize('progressive', [False, True])
def test_a_film_behind_a_photograph_does_not_count(progressive):
    """Phones put one there; bytes that look like marks of a JPEG are in it by chance."""
    file = io.BytesIO()
    Image.fromarray(PHOTO).save(file, 'jpeg', progressive=progressive)
    film = b'\x00\x00\x00\x18ftypmp42\xff\xd9' + bytes(99) + b'\xff\xda' + bytes(99)
    assert picture.decoded_pixels(file.getvalue() + film, picture.COLOUR) is not None
    assert picture.decoded_pixels(file.getvalue()[:-40] + film, picture.COLOUR) is None


def test_masks_are_where_any_channel_is_not_black(tmp_path):
    """Whether their white is 1 or 65535, in a palette or dark blue."""
    mask = PHOTO[..., 0] > 120
    for number, pixels in enumerate((
            mask.astype(np.uint8), 255 * mask.astype(np.uint8), mask.astype(np.uint16),
            mask[..., None] * np.array([2, 0, 0], np.uint8))):
        path = tmp_path / f'{number}.png'
        cv2.imwrite(str(path), pixels)
        np.testing.assert_array_equal(picture.read_mask(path), mask, err_msg=str(number))


@pytest.mark.parametrize('pixels', [PHOTO, PHOTO[..., 0], PHOTO.astype(np.uint16)])
def test_what_is_no_depth_image_is_refused(tmp_path, pixels):
    """Eight bits hold no depth, three channels show it in colours."""
    cv2.imwrite(str(tmp_path / 'depth.png'), pixels)
    with pytest.raises(ImageError, match=r'depth\.png: has . channel\(s\) of uint'):
        picture.read_depth(tmp_path / 'depth.png')


def test_depth_keeps_its_sixteen_bits(tmp_path):
    """And is not turned either."""
    depth = RNG.integers(0, 65535, (60, 80), np.uint16)
    for suffix in ('.png', '.tif'):
        cv2.imwrite(str(tmp_path / f'depth{suffix}'), depth)
        np.testing.assert_array_equal(picture.read_depth(tmp_path / f'depth{suffix}'), depth)
