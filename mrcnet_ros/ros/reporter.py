"""Publishes /diagnostics; used by the executor's thread."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence

from diagnostic_msgs.msg import DiagnosticArray
from vision_msgs.msg import Detection3DArray

from .connections import full_name, subscribers_text
from .diagnostics import Level, Problem, RecentCounts, Status, diagnostic_array
from .drop_counters import DropCounters
from .input_watch import InputWatch
from .params import NodeParameters
from .rclpy_types import NodeHandle, PublisherHandle
from .statuses import (
    Account,
    depth_status,
    idle_pose_status,
    idle_status,
    model_status,
    pose_status,
    support_status,
)
from .timings import Timings

TOPIC = '/diagnostics'
# Texts about the camera in the log: those of a zoom lens change with each image.
MOST_WARNINGS = 20


class Reporter:
    """Collects what the statuses are made of.

    :param node: that publishes, and asks the graph who is at the other end of its topics.
    :param publishers: those of rclpy whose subscribers are told.

    ``facts`` are about the estimator, ``error`` is why there is none, ``loading`` is what is being
    done for another one, '' for nothing, ``busy_s`` is for how long a frame has been worked on,
    ``doubts`` are what looks wrong of recent boxes and poses, ``sent_by_others`` the frames of
    objects that others send to /tf as well, ``optical_frame`` the one that is fixed to the frame
    of the images, '' for none.
    """

    def __init__(self, node: NodeHandle, counters: DropCounters, timings: Timings,
                 publishers: Sequence[PublisherHandle]) -> None:
        self._publishers = publishers
        self._node, self._drops, self._timings = node, counters, timings
        self._recent = RecentCounts(time.monotonic())
        self._publisher = node.create_publisher(DiagnosticArray, TOPIC, 10)
        self._logged: set[str] = set()
        self.facts: Mapping[str, str] = {}
        self.error = self.loading = ''
        self.busy_s = 0.0
        self.doubts: Sequence[Problem] = ()
        self.sent_by_others: Sequence[str] = ()
        self.optical_frame = ''

    def report(self, state: str, limits: NodeParameters, watch: InputWatch | None) -> None:
        """Publish how the node is doing.

        :param watch: of the inputs, None while the node does not listen.
        """
        total = self._drops.counts()
        span_s, recent = self._recent.update(time.monotonic(), total)
        account = Account(span_s, recent, total, self._drops.reasons(),
                          self._timings.percentiles(), self.busy_s, self.doubts,
                          self._drops.followed_now if limits.track else None,
                          watch.depth_came(limits.sync_slop_s) if watch is not None else (0, 0),
                          watch is not None and watch.held)
        statuses = [model_status(state, self.error, self.loading, self.facts, total)]
        if watch is None:
            statuses += [idle_status('inputs', state), idle_pose_status(state, account, limits),
                         idle_status('depth', state)]
            if limits.support_plane or limits.find_plane:
                statuses.append(idle_status('support_plane', state))
        else:
            why_unpaired = watch.why_unpaired(
                limits.sync_slop_s, answered=recent.get('frames', 0) / (
                    recent.get('frames', 0) + recent['unpaired'])
            ) if recent.get('unpaired', 0) else None
            poses = pose_status(account, limits, why_unpaired)
            statuses += [self._inputs(limits, watch), dataclasses.replace(
                poses, problems=[*poses.problems, *self._doubles()],
                values={**poses.values, **self._subscribers()}),
                         depth_status(account, limits.depth, self._drops.depth_residual_m())]
            if limits.support_plane or limits.find_plane:
                statuses.append(support_status(account, limits.support_plane,
                                               finds=self.facts.get('finds plane') == 'yes'))
        self._publisher.publish(diagnostic_array(
            self._node.get_clock().now().to_msg(), self._node.get_fully_qualified_name()[1:],
            self.facts.get('model', ''), statuses))

    def _inputs(self, limits: NodeParameters, watch: InputWatch) -> Status:
        ends = self._node.get_publishers_info_by_topic
        problems = watch.problems(limits.input_timeout_s, limits.stale_stamp_s, ends)
        problems += watch.doubtful_inputs(limits.sync_slop_s)
        doubts = watch.doubtful_camera(rectified=limits.image_rectified)
        if self.optical_frame:
            doubts.append(Problem(
                Level.WARN, f'images have the frame {watch.camera_frame!r}, but /tf has its '
                f'optical frame {self.optical_frame!r}; poses have z forward, so that in '
                f'{watch.camera_frame!r} they are turned: let the driver write '
                f'{self.optical_frame!r} into the headers of image and camera_info'))
        for doubt in doubts:
            self._warn_once(doubt.text)
        summary = 'all inputs come'
        if remark := watch.camera_remark(rectified=limits.image_rectified):
            self._warn_once(remark)
            summary += f'; {remark}'
        return Status('inputs', [*problems, *doubts], summary,
                      {**watch.values(), **watch.publishers(ends)})

    def _warn_once(self, text: str) -> None:
        """Log a text, but each only once; rclpy's ``once`` is for one line of code."""
        if text not in self._logged and len(self._logged) < MOST_WARNINGS:
            self._logged.add(text)
            self._node.get_logger().warning(text)

    def _doubles(self) -> list[Problem]:
        """Return that others publish poses where the node does, as when it was started twice."""
        own, found = self._node.get_fully_qualified_name(), []
        for topic in (p.topic_name for p in self._publishers if p.msg_type is Detection3DArray):
            names = [full_name(e.node_namespace, e.node_name)
                     for e in self._node.get_publishers_info_by_topic(topic)]
            if own in names:
                names.remove(own)
            if names:
                found.append(Problem(Level.WARN, f'{", ".join(names)} publishes on {topic}, too; '
                                     'was the node started twice, or is a bag with poses '
                                     'played?'))
        if self.sent_by_others:
            found.append(Problem(
                Level.WARN, f'another node sends {", ".join(self.sent_by_others)} to /tf too, '
                'and listeners may take either pose: leave /tf of the objects out of the bag, or '
                'set frame_prefix'))
        return found

    def _subscribers(self) -> dict[str, str]:
        return {f'{publisher.topic_name} subscribers': subscribers_text(
                    publisher, self._node.get_subscriptions_info_by_topic(publisher.topic_name))
                for publisher in self._publishers}
