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


def moment(step: int, *objects):
    """Return messages of a step of a camera of 20 Hz."""
    found = frame(7, *objects)
    for message in found:
        message.header.stamp.sec += step // 20
        message.header.stamp.nanosec = 50_000_000 * (step % 20)
    return found


def framed(step: int, *objects, white: bool = False):
    """Return a frame of such a step, without detections when no objects are given."""
    from mrcnet_ros.ros.frames import Frame

    image, info, boxes = moment(step, *objects)
    if white:
        image.data = b'\xff' * len(image.data)
    return Frame(image, info, boxes if objects else None)


def _detection(label, x=31.5, y=23.5, height=30.0, score=0.9, name=''):
    from vision_msgs.msg import Detection2D

    detection = Detection2D(id=name, results=[hypothesis(label, score)])
    detection.bbox.center.position.x, detection.bbox.center.position.y = float(x), float(y)
    detection.bbox.size_x = detection.bbox.size_y = float(height)
    return detection


def hypothesis(name, score):
    """Return a hypothesis of a detection."""
    from vision_msgs.msg import ObjectHypothesisWithPose

    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id, result.hypothesis.score = name, float(score)
    return result


def isaac_message(stamp, *boxes):
    """Return what Isaac ROS's YOLOv8 decoder publishes: numbers, and headers without a frame.

    :param stamp: [s].
    :param boxes: (number, centre x, centre y, width, height) in pixels of the network.
    """
    from vision_msgs.msg import Detection2D, Detection2DArray

    message = Detection2DArray()
    for number, x, y, width, height in boxes:
        found = Detection2D(results=[hypothesis(str(number), 0.8)])
        found.bbox.center.position.x, found.bbox.center.position.y = float(x), float(y)
        found.bbox.size_x, found.bbox.size_y = float(width), float(height)
        found.header.stamp.sec = stamp
        message.detections.append(found)
    message.header.stamp.sec = stamp
    return message
