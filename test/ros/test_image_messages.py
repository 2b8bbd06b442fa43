"""Images of messages: encodings, rows, compressed ones; no node runs."""

import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from ros_process import environment
from sensor_msgs.msg import CompressedImage, Image

from mrcnet_ros.errors import ImageError
from mrcnet_ros.ros import messages
from mrcnet_ros.ros.depth_image import depth_from_compressed


def _image(pixels, encoding, pad=0):
    rows = np.pad(pixels.reshape(len(pixels), -1), ((0, 0), (0, pad)))
    return Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding,
                 step=rows.shape[1], data=rows.tobytes())


@pytest.fixture
def rgb():
    return np.random.default_rng(3).integers(0, 256, (5, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize(('encoding', 'order'), [
    ('rgb8', [0, 1, 2]), ('bgr8', [2, 1, 0]), ('8UC3', [2, 1, 0]),
    ('rgba8', [0, 1, 2, 0]), ('bgra8', [2, 1, 0, 0]),
])
@pytest.mark.parametrize('pad', [0, 5])
def test_an_image_is_rgb_inside_whatever_the_camera_sends(rgb, encoding, order, pad):
    """Convention: 8UC3 is read as BGR; padded rows are no obstacle."""
    got = messages.rgb_from_image(_image(rgb[..., order], encoding, pad))
    assert np.array_equal(got, rgb)
    assert got.flags.c_contiguous


@pytest.mark.parametrize('encoding', messages.RGB_SOURCES)
def test_every_listed_encoding_can_be_read(encoding):
    """A picture of one grey is that grey in all of them."""
    channels = {'mono8': 1, 'rgba8': 4, 'bgra8': 4}.get(encoding, 1 if 'bayer' in encoding else 3)
    grey = np.full((8, 10, channels), 77, np.uint8)
    got = messages.rgb_from_image(_image(grey, encoding))
    assert got.shape == (8, 10, 3) and (got == 77).all()


@pytest.mark.parametrize(('order', 'red'), [
    ('rggb', (0, 0)), ('grbg', (0, 1)), ('gbrg', (1, 0)), ('bggr', (1, 1))])
def test_a_mosaic_is_named_by_its_first_two_rows(order, red):
    """Of a red picture only the pixels under red filters are bright."""
    mosaic = np.zeros((8, 10, 1), np.uint8)
    mosaic[red[0]::2, red[1]::2] = 200
    got = messages.rgb_from_image(_image(mosaic, f'bayer_{order}8', pad=3))
    assert (got[2:-2, 2:-2] == (200, 0, 0)).all()


def test_pixels_do_not_depend_on_the_release_of_cv_bridge():
    """That of ROS shears images with padded rows, and cannot read compressed grey ones."""
    program = '''
import sys
sys.modules['cv_bridge'] = None
from sensor_msgs.msg import Image
from mrcnet_ros.ros import messages
image = Image(height=1, width=2, step=8, encoding='bgr8', data=bytes(range(8)))
assert messages.rgb_from_image(image).tolist() == [[[2, 1, 0], [5, 4, 3]]]
'''
    subprocess.run([sys.executable, '-c', program], env=environment(1), check=True)


@pytest.mark.parametrize('kind', ['.jpg', '.png'])
def test_a_compressed_grey_image_is_read_as_colour(kind):
    """Cameras without colour send such."""
    grey = np.repeat(np.arange(0, 240, 10, dtype=np.uint8)[:, None], 32, axis=1)
    data = cv2.imencode(kind, grey)[1].tobytes()
    got = messages.rgb_from_compressed(CompressedImage(format=kind, data=data))
    assert got.shape == (24, 32, 3) and got.flags.c_contiguous
    assert np.abs(got.astype(int) - grey[..., None]).max() <= 8


def test_a_compressed_image_is_not_turned_by_what_exif_says():
    """The pixels of camera_info are those of the sensor."""
    pillow = pytest.importorskip('PIL.Image')
    import io

    exif, file = pillow.Exif(), io.BytesIO()
    exif[0x0112] = 6
    pillow.new('RGB', (32, 16), (200, 0, 0)).save(file, 'JPEG', exif=exif)
    got = messages.rgb_from_compressed(CompressedImage(data=file.getvalue()))
    assert got.shape == (16, 32, 3)
    assert np.abs(got.astype(int) - (200, 0, 0)).max() <= 8


@pytest.mark.parametrize('name', ['mono16', 'bgr16', 'rgb16', 'rgba16', 'bgra16', '16UC1',
                                  '32FC1'])
def test_compressed_images_of_more_than_eight_bits_are_refused(name):
    """Whatever was made of them by then: 12 bits in 16 are nearly black in 8."""
    for data in (cv2.imencode('.png', np.full((4, 6), 3000, np.uint16))[1].tobytes(),
                 cv2.imencode('.jpg', np.full((4, 6, 3), 12, np.uint8))[1].tobytes()):
        with pytest.raises(ImageError, match=rf'{name}.*encoding of 8 bits'):
            messages.rgb_from_compressed(CompressedImage(format=f'{name}; compressed', data=data))


@pytest.mark.parametrize('name', ['', 'png', 'rgb8; png compressed bgr8'])
def test_sixteen_bits_are_refused_whatever_the_format_says(name):
    """What counts is what the data hold."""
    data = cv2.imencode('.png', np.full((4, 6, 3), 3000, np.uint16))[1].tobytes()
    with pytest.raises(ImageError, match='has 16 bits a channel, expected 8'):
        messages.rgb_from_compressed(CompressedImage(format=name, data=data))


def test_a_compressed_image_that_is_cut_off_is_refused():
    """Its rest would be grey."""
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    for kind in ('.jpg', '.png'):
        data = cv2.imencode(kind, pixels)[1].tobytes()
        with pytest.raises(ImageError, match='no image or a part of one'):
            messages.rgb_from_compressed(CompressedImage(data=data[:len(data) // 2]))


def test_a_compressed_mosaic_is_read_as_colour():
    """Unless it was made colour before; one of 16 bits is refused as the raw one is."""
    mosaic = np.zeros((8, 10), np.uint8)
    mosaic[::2, 1::2] = 200
    data = cv2.imencode('.png', mosaic)[1].tobytes()
    got = messages.rgb_from_compressed(
        CompressedImage(format='bayer_grbg8; png compressed ', data=data))
    assert (got[2:-2, 2:-2] == (200, 0, 0)).all()
    data = cv2.imencode('.png', np.full((8, 10, 3), (0, 0, 200), np.uint8))[1].tobytes()
    got = messages.rgb_from_compressed(
        CompressedImage(format='bayer_grbg8; jpeg compressed bgr8', data=data))
    assert (got == (200, 0, 0)).all()
    with pytest.raises(ImageError, match='bayer_grbg16'):
        messages.rgb_from_compressed(
            CompressedImage(format='bayer_grbg16; png compressed ', data=data))


def test_a_mosaic_that_was_made_grey_is_read_as_grey():
    """As image_transport makes it for JPEG; as a mosaic its edges would be coloured."""
    grey = np.random.default_rng(0).integers(0, 255, (8, 10), np.uint8).repeat(4, 0).repeat(4, 1)
    data = cv2.imencode('.png', grey)[1].tobytes()
    got = messages.rgb_from_compressed(
        CompressedImage(format='bayer_rggb8; jpeg compressed mono8', data=data))
    assert (got == grey[..., None]).all()


@pytest.mark.parametrize(('encoding', 'turned', 'kept'), [
    ('rgb8', '', (200, 100, 0)), ('bgr8', '', (0, 100, 200)),
    ('rgba8', '', (200, 100, 0, 255)), ('bgra8', '', (0, 100, 200, 255)),
    ('rgb8', 'bgr8', (0, 100, 200))])
def test_a_tiff_has_the_channels_in_the_order_of_its_encoding(encoding, turned, kept):
    """image_transport hands a TIFF's pixels to OpenCV as they are, those of other kinds as BGR."""
    pixels = np.full((8, 10, len(kept)), kept, np.uint8)
    data = cv2.imencode('.tiff', pixels)[1].tobytes()
    got = messages.rgb_from_compressed(
        CompressedImage(format=f'{encoding}; tiff compressed {turned}', data=data))
    assert got.flags.c_contiguous and (got == (200, 100, 0)).all()


@pytest.mark.parametrize('data', [b'', b'no image', b'\xff\xd8\xff'])
def test_a_compressed_image_that_cannot_be_read_says_so(data):
    """With the format that it claims."""
    with pytest.raises(ImageError, match='jpeg'):
        messages.rgb_from_compressed(CompressedImage(format='jpeg', data=data))


@pytest.mark.parametrize(('encoding', 'change'), [
    ('rgb16', {}), ('', {}), ('rgb8', {'step': 4}), ('rgb8', {'height': 50}),
    ('rgb8', {'width': 0}), ('mono8', {'height': 0}),
])
def test_an_image_that_cannot_be_read_says_why(rgb, encoding, change):
    """The error names the encoding."""
    message = _image(rgb, encoding)
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ImageError, match=encoding or "''"):
        messages.rgb_from_image(message)


@pytest.mark.parametrize('side', [9_000, 20_000])
def test_a_compressed_image_that_would_fill_the_memory_is_refused(side):
    """Before a pixel of it is decoded: 20 kB of PNG hold hundreds of megapixels of nothing."""
    header = b'IHDR' + struct.pack('>IIBBBBB', side, side, 1, 0, 0, 0, 0)
    body = b'IDAT' + zlib.compress(bytes((1 + side // 8) * side), 9)
    data = b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(part) - 4) + part + struct.pack('>I', zlib.crc32(part))
        for part in (header, body, b'IEND'))
    with pytest.raises(ImageError, match='million pixels, which no camera sends'):
        messages.rgb_from_compressed(CompressedImage(format='png', data=data))
    depth = CompressedImage(format='16UC1; compressedDepth png', data=bytes(12) + data)
    with pytest.raises(ImageError, match='million pixels'):
        depth_from_compressed(depth)
