"""Messages of one moment: image, camera_info and detections."""

from __future__ import annotations


def frame(number: int, *objects, encoding='rgb8', focal=600.0, size=(64, 48)):
    """Return image, camera_info and detections of one moment.

    :param number: stamp [s].
    :param focal: [px]; 0 leaves camera_info all zero, as an uncalibrated driver does.
    :param objects: (label, centre x, centre y, height, score, id) from the left, rest default.
    """
    from sensor_msgs.msg import CameraInfo, Image
    from vision_msgs.msg import Detection2DArray

    width, height = size
    image = Image(width=width, height=height, encoding=encoding, step=3 * width)
    image.data = bytes(3 * width * height)
    info = CameraInfo(width=width, height=height, distortion_model='plumb_bob', d=[0.0] * 5)
    if focal:
        info.k = [focal, 0.0, (width - 1) / 2, 0.0, focal, (height - 1) / 2, 0.0, 0.0, 1.0]
    boxes = Detection2DArray(detections=[_detection(*values) for values in objects])
    for message in (image, info, boxes):
        message.header.stamp.sec, message.header.frame_id = number, 'camera_optical'
    return image, info, boxes


def _detection(label, x=31.5, y=23.5, height=30.0, score=0.9, name=''):
    from vision_msgs.msg import Detection2D, ObjectHypothesisWithPose

    detection = Detection2D(id=name)
    detection.bbox.center.position.x, detection.bbox.center.position.y = float(x), float(y)
    detection.bbox.size_x = detection.bbox.size_y = float(height)
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = label, float(score)
    detection.results = [hypothesis]
    return detection
