"""Where an object is expected next: a Kalman filter of steady motion."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..geometry.se3 import Array, displaced, displacement

# How suddenly speeds change, as standard deviations of accelerations: of a hand or a conveyor.
ACCELERATION_M_S2, ACCELERATION_RAD_S2 = 1.5, 10.0
# How fast an object may be when it is first seen.
SPEED_M_S, SPEED_RAD_S = 0.3, 1.0


@dataclass(frozen=True, eq=False)
class _State:
    """Three numbers and their speeds.

    :param speed: (3,) per second.
    :param P: (6, 6) covariance of the numbers, then of their speeds.
    """

    speed: Array
    P: Array

    def ahead(self, seconds: float, acceleration: float) -> _State:
        """Return the state after a time in which speeds changed at random."""
        F = np.eye(6)
        F[:3, 3:] = seconds * np.eye(3)
        G = np.concatenate([0.5 * seconds**2 * np.eye(3), seconds * np.eye(3)])
        return _State(self.speed, F @ self.P @ F.T + acceleration**2 * G @ G.T)

    def corrected(self, innovation: Array, R: Array) -> tuple[Array, _State]:
        """Return how far to move the numbers for a measurement, and the state after it.

        :param innovation: (3,) measured minus expected.
        :param R: (3, 3) covariance of the measurement.
        """
        gain = self.P[:, :3] @ np.linalg.inv(self.P[:3, :3] + R)
        change = gain @ innovation
        P = self.P - gain @ self.P[:3]
        return change[:3], _State(self.speed + change[3:], (P + P.T) / 2.0)


@dataclass(frozen=True, eq=False)
class Motion:
    """Pose and velocity of one object in a fixed frame.

    Errors of one camera repeat from image to image, so that the filter is surer than it should be;
    its covariance says where the next answer is expected, not how far the truth is away.

    :param T_fixed_object: (4, 4) [m].
    """

    time_s: float
    T_fixed_object: Array
    position: _State
    rotation: _State

    @classmethod
    def begin(cls, time_s: float, T_fixed_object: Array, covariance: Array) -> Motion:
        """Return the motion of an object that is seen for the first time.

        :param covariance: (6, 6) of the pose: x, y, z [m], rotation vector [rad], fixed frame's
            axes.
        """
        def state(R: Array, speed: float) -> _State:
            P = np.zeros((6, 6))
            P[:3, :3], P[3:, 3:] = R, speed**2 * np.eye(3)
            return _State(np.zeros(3), P)

        return cls(time_s, T_fixed_object, state(covariance[:3, :3], SPEED_M_S),
                   state(covariance[3:, 3:], SPEED_RAD_S))

    def ahead(self, time_s: float) -> Motion:
        """Return where the object is expected at another time, also an earlier one."""
        seconds = time_s - self.time_s
        speed = np.concatenate([self.position.speed, self.rotation.speed])
        return Motion(time_s, displaced(self.T_fixed_object, seconds * speed),
                      self.position.ahead(seconds, ACCELERATION_M_S2),
                      self.rotation.ahead(seconds, ACCELERATION_RAD_S2))

    def innovation(self, T_fixed_object: Array) -> Array:
        """Return how far a measured pose of the same time is from the expected one.

        :return: (6,) x, y, z [m], rotation vector [rad], fixed frame's axes.
        """
        return displacement(self.T_fixed_object, T_fixed_object)

    def moved(self, change: Array) -> Motion:
        """Return the same motion of an object that is elsewhere.

        :param change: (6,) as :meth:`innovation` returns it.
        """
        return replace(self, T_fixed_object=displaced(self.T_fixed_object, change))

    def surprises(self, T_fixed_object: Array, covariance: Array) -> tuple[float, float]:
        """Return how far position and rotation are from the expected ones, in deviations."""
        r = self.innovation(T_fixed_object)
        S = (self.position.P[:3, :3] + covariance[:3, :3],
             self.rotation.P[:3, :3] + covariance[3:, 3:])
        near, turned = (float(np.sqrt(x @ np.linalg.solve(C, x)))
                        for x, C in zip((r[:3], r[3:]), S, strict=True))
        return near, turned

    def corrected(self, T_fixed_object: Array, covariance: Array) -> Motion:
        """Return the motion after a measurement of the same time.

        :param covariance: (6, 6) of the measured pose, as for :meth:`begin`.
        """
        r = self.innovation(T_fixed_object)
        shift, position = self.position.corrected(r[:3], covariance[:3, :3])
        turn, rotation = self.rotation.corrected(r[3:], covariance[3:, 3:])
        T = displaced(self.T_fixed_object, np.concatenate([shift, turn]))
        return Motion(self.time_s, T, position, rotation)
