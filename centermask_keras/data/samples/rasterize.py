"""Masks of the ground truth onto grids: the M x M grid of each object's box, and planes at the stride.

Stage: data. Polygons and run-length masks are transformed and drawn straight into the grid; no mask ever exists at full
size. Every value is the covered area of a cell: exact for run-length masks, exact along x and sampled on
`SCANLINES` lines per cell along y for polygons. As in COCO, the parts of an object are united, and a part that
crosses itself is filled by the even-odd rule.
"""

from __future__ import annotations

import numpy as np

from centermask_keras.data.files.segmentations import Segmentation, rle_runs
from centermask_keras.geometry.transform import apply_to_points, compose

SCANLINES = 4  # per cell: a horizontal edge is off by at most 1/8 cell, by 0 on average


def rasterize_masks(
    segmentations: list[Segmentation],
    boxes: np.ndarray,
    transform: np.ndarray,
    image_hw: tuple[int, int],
    mask_size: int,
) -> np.ndarray:
    """Draw each object's mask into the grid of its own box.

    Args:
        segmentations: n objects, original pixels.
        boxes: float [n, 4], xyxy, input pixels, with an area.
        transform: float64 [4], from original to input pixels.
        image_hw: original size; what lies outside of it is cut off.
        mask_size: M, cells per side.

    Returns:
        uint8 [n, M, M], coverage of each cell, 0..255.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    scale = mask_size / (boxes[:, 2:] - boxes[:, :2])
    to_grids = compose(transform, np.concatenate([scale, -boxes[:, :2] * scale], axis=1))  # [n, 4]
    return _draw(segmentations, np.arange(len(boxes)), to_grids, image_hw, (mask_size, mask_size))


def rasterize_planes(
    segmentations: list[Segmentation],
    planes: np.ndarray,
    transform: np.ndarray,
    image_hw: tuple[int, int],
    *,
    count: int,
    grid_hw: tuple[int, int],
    stride: int,
) -> np.ndarray:
    """Draw the union of the masks of each plane at the stride.

    Polygons are united on every scan line. The coverages of run-length masks, and of these and the polygons, are added
    and clipped at the full cell. That is exact where masks do not overlap, also where they touch within a cell, and in
    cells that one of them fills. In partly covered cells in which masks overlap it is too high, at most by the area of
    their overlap; coverages alone do not tell whether two halves of a cell are the same half.

    Args:
        segmentations: n objects, original pixels.
        planes: int [n], the plane of each object.
        transform: float64 [4], from original to input pixels.
        image_hw: original size; what lies outside of it is cut off.
        count: number of planes, P.
        grid_hw: height and width of the planes, cells.
        stride: input pixels per cell.

    Returns:
        uint8 [P, h, w], coverage of each cell, 0..255.
    """
    to_grid = compose(transform, np.array([1.0 / stride, 1.0 / stride, 0.0, 0.0]))
    return _draw(segmentations, np.asarray(planes), np.tile(to_grid, (count, 1)), image_hw, grid_hw)


def _draw(
    segmentations: list[Segmentation],
    owners: np.ndarray,
    to_grids: np.ndarray,
    image_hw: tuple[int, int],
    grid_hw: tuple[int, int],
) -> np.ndarray:
    """Draw segmentation i into grid owners[i], whose cells `to_grids[owners[i]]` leads to: uint8 [grids, h, w]."""
    height, width = grid_hw
    corners = np.array([[0.0, 0.0], [image_hw[1], image_hw[0]]])
    borders = apply_to_points(to_grids[:, None], corners)  # [grids, 2, 2], the image's corners in cells
    borders.sort(axis=1)
    borders = np.clip(borders, 0.0, [width, height])
    # Slopes of the coverage along x, in one row per grid row; two columns more for what ends at the right border.
    slopes = np.zeros((len(to_grids), height, width + 2))
    is_rle = np.array([isinstance(segmentation, dict) for segmentation in segmentations], bool)
    polygons = [
        (np.asarray(part).reshape(-1, 2), owners[i]) for i in np.flatnonzero(~is_rle) for part in segmentations[i]
    ]
    if polygons:
        _add_polygons(slopes, [part for part, _ in polygons], np.array([o for _, o in polygons]), to_grids, borders)
    if is_rle.any():
        counts = [segmentations[i]["counts"] for i in np.flatnonzero(is_rle)]
        _add_rles(slopes, counts, image_hw[0], owners[is_rle], to_grids, borders)
    levels = np.cumsum(slopes, axis=2, out=slopes)[:, :, :width]
    levels *= 255.0
    # A little more than one half: a mirrored mask must round the same way when its coverage lies between two levels.
    levels += 0.500001
    return np.clip(levels, 0.0, 255.0, out=levels).astype(np.uint8)


def _add_polygons(
    slopes: np.ndarray, polygons: list[np.ndarray], owners: np.ndarray, to_grids: np.ndarray, borders: np.ndarray
) -> None:
    """Add the union of the polygons of each grid."""
    grids, height, columns = slopes.shape
    pitch = columns - 1  # distance between lines in a key: more than the largest x, so that lines stay apart
    lines = height * SCANLINES
    line, x, polygon = _cross_scanlines(polygons, owners, to_grids, borders)
    # Sorted by polygon, line and x, crossings are entries and exits in turn.
    keys = np.sort((polygon * lines + line) * pitch + x, kind="stable")  # stable: fast on what is almost in order
    row = np.floor(keys / pitch)
    x = keys - row * pitch
    polygon, line = np.divmod(row.astype(np.int64), lines)
    keys = (owners[polygon] * lines + line) * pitch + x
    # Sorted by grid, line and x, the union begins where the depth rises from 0 and ends where it falls to 0.
    order = np.argsort(keys, kind="stable")
    sign = np.where(order % 2 == 0, 1, -1)
    depth = np.cumsum(sign)
    edge = np.where(sign > 0, depth == 1, depth == 0)
    keys = keys[order][edge]
    row = np.floor(keys / pitch)
    x = keys - row * pitch
    cell = np.floor(x).astype(np.int64)
    part = x - cell
    weight = sign[edge] / SCANLINES
    start = row.astype(np.int64) // SCANLINES * columns + cell
    flat = slopes.reshape(-1)
    cells = np.concatenate([start, start + 1])
    flat += np.bincount(cells, np.concatenate([weight * (1 - part), weight * part]), minlength=flat.size)


def _cross_scanlines(
    polygons: list[np.ndarray], owners: np.ndarray, to_grids: np.ndarray, borders: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return line (int), x (cells) and polygon of every crossing of a polygon's edge with a scanline of its grid."""
    sizes = np.array([len(polygon) for polygon in polygons])
    ends = np.cumsum(sizes)
    polygon = np.repeat(np.arange(len(polygons)), sizes)
    points = apply_to_points(to_grids[owners[polygon]], np.concatenate(polygons))
    x = points[:, 0]
    y = points[:, 1] * SCANLINES - 0.5  # line k runs through the middle of its strip, at y = k
    following = np.arange(1, len(points) + 1)
    following[ends - 1] = ends - sizes
    first, last = np.ceil(borders[owners, :, 1] * SCANLINES - 0.5).T  # [polygons], lines inside of the image
    lower = np.clip(np.ceil(np.minimum(y, y[following])), first[polygon], last[polygon]).astype(np.int64)
    upper = np.clip(np.ceil(np.maximum(y, y[following])), first[polygon], last[polygon]).astype(np.int64)
    counts = upper - lower
    edge = np.repeat(np.arange(len(points)), counts)
    line = np.arange(len(edge)) + np.repeat(lower - (np.cumsum(counts) - counts), counts)
    run, rise = x[following] - x, y[following] - y
    crossing = x[edge] + (line - y[edge]) * (run[edge] / rise[edge])
    polygon = polygon[edge]
    left, right = borders[owners, :, 0].T
    return line, np.clip(crossing, left[polygon], right[polygon]), polygon


def _add_rles(
    slopes: np.ndarray,
    counts: list[bytes],
    image_height: int,
    owners: np.ndarray,
    to_grids: np.ndarray,
    borders: np.ndarray,
) -> None:
    """Add the area of every run-length mask; masks that share a grid add up."""
    grids, height, columns = slopes.shape
    strips, rle = _column_strips(counts, image_height)
    owner = owners[rle]
    corners = apply_to_points(to_grids[owner][:, None], strips.reshape(-1, 2, 2))
    corners.sort(axis=1)
    corners = np.clip(corners, borders[owner, :1], borders[owner, 1:])  # [strips, 2, 2]
    cell = np.floor(corners).astype(np.int64)
    part = corners - cell
    sign = np.array([[1.0], [-1.0]])
    # The area of a rectangle is the double sum of 4 x 4 point weights: two cells for each of its two edges, per axis.
    cells = np.stack([cell, cell + 1], axis=-1)  # [strips, edge, axis, 2]
    weights = np.stack([1 - part, part], axis=-1) * sign[:, :, None]
    cells, weights = (values.swapaxes(1, 2).reshape(-1, 2, 4) for values in (cells, weights))  # [strips, axis, 4]
    index = (owner[:, None, None] * (height + 2) + cells[:, 1, :, None]) * columns + cells[:, 0, None, :]
    weight = weights[:, 1, :, None] * weights[:, 0, None, :]
    total = np.bincount(index.reshape(-1), weight.reshape(-1), minlength=grids * (height + 2) * columns)
    slopes += np.cumsum(total.reshape(grids, height + 2, columns), axis=1)[:, :height]


def _column_strips(counts: list[bytes], height: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rectangles one pixel wide that make up run-length masks of one height.

    Returns:
        float64 [n, 4], xyxy, and the mask that each belongs to, int64 [n].
    """
    runs, starts = rle_runs(counts)
    rle = np.repeat(np.arange(len(counts)), np.diff(starts))
    ends = np.cumsum(runs)
    ends -= np.concatenate(([0], ends))[starts[rle]]
    covered = np.flatnonzero(((np.arange(len(runs)) - starts[rle]) % 2 == 1) & (runs > 0))
    end = ends[covered]
    begin = end - runs[covered]
    first, last = begin // height, (end - 1) // height
    lengths = last - first + 1
    run = np.repeat(np.arange(len(covered)), lengths)
    column = np.arange(len(run)) + np.repeat(first - (np.cumsum(lengths) - lengths), lengths)
    top = np.maximum(begin[run] - column * height, 0)
    bottom = np.minimum(end[run] - column * height, height)
    return np.stack([column, top, column + 1, bottom], axis=1).astype(np.float64), rle[covered][run]
