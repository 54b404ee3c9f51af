"""Write what rays hit into the buffers of a view; separate because Numba imports slowly."""

import numpy as np

from spyropose_ros.core.kernels.numba_kernels import compiled


@compiled()
def fill(
    face: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    distance: np.ndarray,
    rays: np.ndarray,
    rotation: np.ndarray,
    faces: np.ndarray,
    normals: np.ndarray,
    colours: np.ndarray,
    handle: np.ndarray,
    unit: np.float32,
    *buffers: np.ndarray,
) -> None:  # pragma: no cover
    """Write what rays hit, line by line, into a rectangle of the buffers.

    Args:
        face: [h w], the face that a ray hits, or negative.
        u: [h w], weight of its second corner.
        v: [h w], weight of its third corner.
        distance: [h w], depth in metres.
        rays: [h w, 3], in the camera frame.
        rotation: [3, 3] float32, object to camera.
        faces: [F, 3].
        normals: [V, 3], object frame.
        colours: [V, 3] in [0, 1].
        handle: [F] bool.
        unit: length of the normals in the buffer, float32.
        *buffers: depth [h, w], normals [3, h, w], albedo [3, h, w] and part [h, w].
    """
    depth, normal_map, albedo, part = buffers
    height, width = depth.shape
    for row in range(height):
        for column in range(width):
            ray = row * width + column
            hit = face[ray]
            if hit < 0:
                continue
            a, b, c = faces[hit]
            wb, wc = u[ray], v[ray]
            wa = np.float32(1) - wb - wc
            depth[row, column] = distance[ray]
            part[row, column] = handle[hit]
            x = wa * normals[a, 0] + wb * normals[b, 0] + wc * normals[c, 0]
            y = wa * normals[a, 1] + wb * normals[b, 1] + wc * normals[c, 1]
            z = wa * normals[a, 2] + wb * normals[b, 2] + wc * normals[c, 2]
            length = np.float32(0)
            towards = np.float32(0)
            for axis in range(3):
                n = rotation[axis, 0] * x + rotation[axis, 1] * y + rotation[axis, 2] * z
                length += n * n
                towards += n * rays[ray, axis]
            scale = unit / max(np.sqrt(length), np.float32(1e-9))
            if towards > 0:
                scale = -scale
            for axis in range(3):
                n = rotation[axis, 0] * x + rotation[axis, 1] * y + rotation[axis, 2] * z
                normal_map[axis, row, column] = np.int16(n * scale)
                colour = wa * colours[a, axis] + wb * colours[b, axis] + wc * colours[c, axis]
                albedo[axis, row, column] = np.uint8(min(255 * colour, np.float32(255)) + 0.5)
