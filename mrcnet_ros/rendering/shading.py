"""The shader programs: how a drawn triangle gets its colour."""

from __future__ import annotations

from typing import Any, Literal, get_args

from numpy.typing import NDArray

Shading = Literal['flat', 'normals', 'template']
SHADINGS: tuple[Shading, ...] = get_args(Shading)

AMBIENT = 0.4  # brightness of a surface seen edge-on; facing the camera it is 1

_VERTEX = '''#version 330 core
layout(location = 0) in vec3 position;
layout(location = 1) in vec3 normal;
layout(location = 2) in vec2 uv;
layout(location = 3) in vec4 color;
uniform mat4 clip_from_object;
uniform vec3 headlight;
uniform float ambient;
uniform int shading;
out vec3 surface;

void main() {
    gl_Position = clip_from_object * vec4(position, 1.0);
    float light = shading == 2 ? ambient + (1.0 - ambient) * abs(dot(normal, headlight)) : 1.0;
    if (TEXTURED == 1) surface = vec3(uv, light);
    else if (shading == 1) surface = 0.5 * normal + 0.5;
    else surface = light * color.rgb;
}
'''

_FRAGMENT_COLOR = '''#version 330 core
in vec3 surface;
out vec4 pixel;
void main() { pixel = vec4(surface, 1.0); }
'''

_FRAGMENT_TEXTURE = '''#version 330 core
in vec3 surface;
uniform sampler2D image;
out vec4 pixel;
void main() { pixel = vec4(surface.z * texture(image, surface.xy).rgb, 1.0); }
'''


class SurfaceProgram:
    """A compiled shader program; attributes are position, normal, uv, colour.

    :param gl: the OpenGL module; a context must be current.
    :param textured: take colours from the bound texture, else from the vertices.
    """

    def __init__(self, gl: Any, *, textured: bool) -> None:
        from OpenGL.GL import shaders

        self._gl = gl
        vertex = _VERTEX.replace('TEXTURED', str(int(textured)))
        fragment = _FRAGMENT_TEXTURE if textured else _FRAGMENT_COLOR
        gl.glBindVertexArray(gl.glGenVertexArrays(1))  # core profiles validate against one
        self._program = shaders.compileProgram(
            shaders.compileShader(vertex, gl.GL_VERTEX_SHADER),
            shaders.compileShader(fragment, gl.GL_FRAGMENT_SHADER),
        )
        gl.glBindVertexArray(0)
        self._location = {
            name: gl.glGetUniformLocation(self._program, name)
            for name in ('clip_from_object', 'headlight', 'ambient', 'shading')
        }

    def use(self, clip_from_object: NDArray[Any], headlight: NDArray[Any],
            shading: Shading) -> None:
        """Select the program for the next draw.

        :param clip_from_object: (4, 4) float32, object frame [m] to OpenGL clip coordinates.
        :param headlight: (3,) direction of the light, object frame, unit length.
        """
        gl, location = self._gl, self._location
        gl.glUseProgram(self._program)
        gl.glUniformMatrix4fv(location['clip_from_object'], 1, gl.GL_TRUE, clip_from_object)
        gl.glUniform3f(location['headlight'], *(float(value) for value in headlight))
        gl.glUniform1f(location['ambient'], AMBIENT)
        gl.glUniform1i(location['shading'], SHADINGS.index(shading))
