"""A headless OpenGL context with one framebuffer, owned by the thread that made it."""

from __future__ import annotations

import os
import sys
import threading
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError

PLATFORM_VARIABLE = 'PYOPENGL_PLATFORM'


class GlContext:
    """EGL context, colour buffer and depth buffer, without multisampling.

    Contexts may live side by side, each used only by the thread that made it. Closing one
    destroys just its own context: the EGL display is shared by all and stays open.

    :param width: of the framebuffer [px].
    :param height: of the framebuffer [px].
    :raises BackendError: when there is no headless OpenGL, or it draws no images of this size.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._owner = (os.getpid(), threading.get_ident())
        self._platform: Any = _open_platform(width, height)
        from OpenGL import GL

        self.gl: Any = GL
        try:
            self._make_framebuffer()
        except BackendError:
            self.close()
            raise

    def make_current(self) -> None:
        """Direct OpenGL calls to this context.

        :raises RuntimeError: when it is closed, or when another thread or process made it.
        """
        if self._platform is None:
            raise RuntimeError('this renderer is closed; make a new one')
        caller = (os.getpid(), threading.get_ident())
        if caller != self._owner:
            raise RuntimeError(
                f'this renderer was made by process {self._owner[0]}, thread {self._owner[1]} '
                f'and cannot be used by process {caller[0]}, thread {caller[1]}; '
                'make a renderer of its own in each thread'
            )
        self._platform.make_current()

    def clear(self) -> None:
        """Empty both buffers: black, infinitely far."""
        self.gl.glClear(self.gl.GL_COLOR_BUFFER_BIT | self.gl.GL_DEPTH_BUFFER_BIT)

    def read_rgb(self) -> NDArray[np.uint8]:
        """Return the colour buffer, (height, width, 3) uint8, first OpenGL row first."""
        data = self.gl.glReadPixels(0, 0, self.width, self.height, self.gl.GL_RGB,
                                    self.gl.GL_UNSIGNED_BYTE, outputType=bytes)
        return np.frombuffer(data, np.uint8).reshape(self.height, self.width, 3).copy()

    def read_depth(self) -> NDArray[np.float32]:
        """Return the depth buffer, (height, width) float32 in [0, 1], 1 where empty."""
        data = self.gl.glReadPixels(0, 0, self.width, self.height, self.gl.GL_DEPTH_COMPONENT,
                                    self.gl.GL_FLOAT, outputType=bytes)
        return np.frombuffer(data, np.float32).reshape(self.height, self.width)

    def close(self) -> None:
        """Destroy the context and everything in it; harmless when already closed.

        :raises RuntimeError: when another thread or process made it.
        """
        if self._platform is not None:
            self.make_current()
            self._platform.delete_context()
            self._platform = None

    def _make_framebuffer(self) -> None:
        from OpenGL.error import GLError

        gl = self.gl
        largest = min(int(gl.glGetIntegerv(gl.GL_MAX_RENDERBUFFER_SIZE)),
                      *(int(v) for v in gl.glGetIntegerv(gl.GL_MAX_VIEWPORT_DIMS)))
        if max(self.width, self.height) > largest:
            raise BackendError(f'OpenGL cannot draw into {self.width}x{self.height} pixels here, '
                               f'because a side may have at most {largest}; use smaller images')
        color, depth = gl.glGenRenderbuffers(2)
        gl.glBindFramebuffer(gl.GL_FRAMEBUFFER, gl.glGenFramebuffers(1))
        for buffer, storage, attachment in (
            (color, gl.GL_RGBA8, gl.GL_COLOR_ATTACHMENT0),
            (depth, gl.GL_DEPTH_COMPONENT24, gl.GL_DEPTH_ATTACHMENT),
        ):
            gl.glBindRenderbuffer(gl.GL_RENDERBUFFER, buffer)
            try:
                gl.glRenderbufferStorage(gl.GL_RENDERBUFFER, storage, self.width, self.height)
            except GLError as error:
                raise BackendError(f'OpenGL has no memory for {self.width}x{self.height} pixels; '
                                   'use smaller images') from error
            gl.glFramebufferRenderbuffer(gl.GL_FRAMEBUFFER, attachment, gl.GL_RENDERBUFFER, buffer)
        if gl.glCheckFramebufferStatus(gl.GL_FRAMEBUFFER) != gl.GL_FRAMEBUFFER_COMPLETE:
            raise BackendError(f'OpenGL cannot draw into {self.width}x{self.height} pixels')
        gl.glViewport(0, 0, self.width, self.height)
        gl.glClearColor(0.0, 0.0, 0.0, 1.0)
        gl.glEnable(gl.GL_DEPTH_TEST)
        gl.glPixelStorei(gl.GL_PACK_ALIGNMENT, 1)
        gl.glPixelStorei(gl.GL_UNPACK_ALIGNMENT, 1)


def _leave_out_viewer() -> None:
    """Keep pyrender from loading its window, which needs libGL, libX11 and libXrender.

    A machine without a screen may lack all three. ``pyrender.Viewer`` is then None in the whole
    process, unless pyrender was imported before.
    """
    stand_in = ModuleType('pyrender.viewer')
    vars(stand_in)['Viewer'] = None
    sys.modules.setdefault(stand_in.__name__, stand_in)


def _open_platform(width: int, height: int) -> Any:
    chosen = os.environ.setdefault(PLATFORM_VARIABLE, 'egl')
    if chosen != 'egl':
        raise BackendError(
            f'{PLATFORM_VARIABLE} is {chosen!r}, but rendering without a display needs egl; '
            'unset it or set it to egl'
        )
    _leave_out_viewer()
    try:
        from OpenGL import EGL
        from pyrender.platforms.egl import EGLPlatform

        class SharedDisplayPlatform(EGLPlatform):  # type: ignore[misc,unused-ignore]
            """pyrender's context, closed without terminating the display others draw on."""

            def delete_context(self) -> None:
                EGL.eglMakeCurrent(self._egl_display, EGL.EGL_NO_SURFACE, EGL.EGL_NO_SURFACE,
                                   EGL.EGL_NO_CONTEXT)
                EGL.eglDestroyContext(self._egl_display, self._egl_context)

        platform = SharedDisplayPlatform(width, height)
        platform.init_context()
    except Exception as error:  # PyOpenGL and pyrender raise whatever the driver provokes
        raise BackendError(
            f'no headless OpenGL here ({type(error).__name__}: {error}); install pyrender2 and '
            'the system packages libegl1 libgl1 libgl1-mesa-dri'
        ) from error
    return platform
