"""Slow, obvious NumPy oracles in float64, one object, cell or sample at a time. Nothing here is fast on purpose."""

import math

import numpy as np

# geometry


def encode_center(box, grid_hw, stride):
    """Return flat cell, (x, y) offset and (w, h) size of one box xyxy in input pixels."""
    x1, y1, x2, y2 = (float(edge) for edge in box)
    x, y = (x1 + x2) / 2 / stride, (y1 + y2) / 2 / stride
    j, i = math.floor(x), math.floor(y)
    return i * grid_hw[1] + j, (x - j, y - i), ((x2 - x1) / stride, (y2 - y1) / stride)


# targets


def gaussian_radius(height, width, min_overlap=0.7):
    """Return the radius of CenterNet's released code: int of the smallest of its three "roots"."""
    height, width = math.ceil(height), math.ceil(width)
    cases = [
        (1, height + width, width * height * (1 - min_overlap) / (1 + min_overlap)),
        (4, 2 * (height + width), (1 - min_overlap) * width * height),
        (4 * min_overlap, -2 * min_overlap * (height + width), (min_overlap - 1) * width * height),
    ]
    return max(0, int(min((b + math.sqrt(b * b - 4 * a * c)) / 2 for a, b, c in cases)))


def heatmap(boxes, classes, valid, grid_hw, stride, num_classes):
    """Return the heatmap [h, w, C] of one image."""
    height, width = grid_hw
    result = np.zeros((height, width, num_classes))
    for box, category, real in zip(boxes, classes, valid, strict=True):
        if not real:
            continue
        cell, _, (w, h) = encode_center(box, grid_hw, stride)
        radius = gaussian_radius(h, w)
        sigma = (2 * radius + 1) / 6
        for i in range(height):
            for j in range(width):
                dy, dx = i - cell // width, j - cell % width
                if abs(dy) <= radius and abs(dx) <= radius:
                    value = math.exp(-(dx * dx + dy * dy) / (2 * sigma * sigma))
                    result[i, j, category] = max(result[i, j, category], value)
    return result


def class_planes_to_map(planes, plane_classes, plane_valid, num_classes):
    """Return the map 0..255 [h, w, C] of the planes [P, h, w] of one image."""
    result = np.zeros((*planes.shape[1:], num_classes))
    for plane, category, real in zip(planes, plane_classes, plane_valid, strict=True):
        if real:
            result[:, :, category] = plane
    return result


# resampling


def sample_shares(position, length):
    """Return the (element, share) pairs of one bilinear sample at a continuous coordinate of a line of elements."""
    index = min(max(position - 0.5, 0.0), length - 1.0)  # the centre of element 0 is at 0.5; the edge is repeated
    low = min(math.floor(index), length - 1)
    high = min(low + 1, length - 1)
    return [(low, 1 - (index - low)), (high, index - low)]


def crop_and_resize(plane, box, size):
    """Return the crop [size, size] of one plane [h, w]."""
    x1, y1, x2, y2 = (float(edge) for edge in box)
    crop = np.zeros((size, size))
    for r in range(size):
        for c in range(size):
            for i, share_y in sample_shares(y1 + (r + 0.5) * (y2 - y1) / size, plane.shape[0]):
                for j, share_x in sample_shares(x1 + (c + 0.5) * (x2 - x1) / size, plane.shape[1]):
                    crop[r, c] += share_y * share_x * float(plane[i, j])
    return crop


def crop_and_resize_gradient(upstream, box, plane_hw):
    """Return the gradient [h, w] of sum(crop * upstream) with respect to the plane."""
    x1, y1, x2, y2 = (float(edge) for edge in box)
    size = upstream.shape[0]
    gradient = np.zeros(plane_hw)
    for r in range(size):
        for c in range(size):
            for i, share_y in sample_shares(y1 + (r + 0.5) * (y2 - y1) / size, plane_hw[0]):
                for j, share_x in sample_shares(x1 + (c + 0.5) * (x2 - x1) / size, plane_hw[1]):
                    gradient[i, j] += share_y * share_x * float(upstream[r, c])
    return gradient


def assemble_mask(local_shape_logits, saliency_logits, box, category, mask_size, stride):
    """Return both logit grids [M, M] of one object from its vector [S * S] and the map [h, w, C]."""
    side = math.isqrt(len(local_shape_logits))
    shape = np.asarray(local_shape_logits).reshape(side, side)
    plane = saliency_logits[:, :, category if saliency_logits.shape[2] > 1 else 0]
    local = crop_and_resize(shape, (0, 0, side, side), mask_size)
    return local, crop_and_resize(plane, np.asarray(box, "float64") / stride, mask_size)


# decoding


def find_peaks(logits, count):
    """Return scores, classes, cells of one image [h, w, C]: lists of at most `count`, the highest first."""
    height, width, num_classes = logits.shape
    peaks = []
    for i in range(height):
        for j in range(width):
            for category in range(num_classes):
                window = logits[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2, category]
                if logits[i, j, category] == window.max():
                    peaks.append((-float(logits[i, j, category]), (i * width + j) * num_classes + category))
    peaks = sorted(peaks)[:count]
    scores = [float(sigmoid(-negative)) for negative, _ in peaks]
    return scores, [index % num_classes for _, index in peaks], [index // num_classes for _, index in peaks]


# losses: element by element, so that a test can compare and differentiate each


def sigmoid(x):
    """Return 1 / (1 + exp(-x))."""
    return np.exp(-np.logaddexp(0.0, -np.asarray(x, "float64")))


def heatmap_loss(logits, target, negative_weight):
    """Return Eq. 3 per element, not divided by N."""
    logits = np.asarray(logits, "float64")
    p = sigmoid(logits)
    log_p, log_not_p = -np.logaddexp(0.0, -logits), -np.logaddexp(0.0, logits)
    positive = -((sigmoid(-logits)) ** 2) * log_p
    negative = -negative_weight * (1 - target) ** 4 * p**2 * log_not_p
    return np.where(target == 1, positive, negative)


def mask_loss(l, g, target):
    """Return Eq. 2 of the mask of Eq. 1 per element."""
    l, g = np.asarray(l, "float64"), np.asarray(g, "float64")
    log_m = -np.logaddexp(0.0, -l) - np.logaddexp(0.0, -g)
    # 1 - sigmoid(l) sigmoid(g) = sigmoid(-l) + sigmoid(l) sigmoid(-g), a sum of positive numbers
    log_not_m = np.logaddexp(-np.logaddexp(0.0, l), -np.logaddexp(0.0, -l) - np.logaddexp(0.0, g))
    return -target * log_m - (1 - target) * log_not_m


def binary_cross_entropy(logits, target):
    """Return the cross entropy per element."""
    logits = np.asarray(logits, "float64")
    return target * np.logaddexp(0.0, -logits) + (1 - target) * np.logaddexp(0.0, logits)


def derivative(function, x, step=1e-5):
    """Return the central difference of a function that works element by element (error below 1e-8 here)."""
    x = np.asarray(x, "float64")
    return (function(x + step) - function(x - step)) / (2 * step)


# evaluation

OVERLAPS = tuple(np.linspace(0.5, 0.95, 10))


def inner_boundary(mask, distance):
    """Return the pixels of a mask [h, w] that have one outside of it, or of the image, within a distance (king's)."""
    height, width = mask.shape
    result = np.zeros((height, width), bool)
    for i in range(height):
        for j in range(width):
            rows = range(i - distance, i + distance + 1)
            columns = range(j - distance, j + distance + 1)
            inside = all(0 <= u < height and 0 <= v < width and mask[u, v] for u in rows for v in columns)
            result[i, j] = mask[i, j] and not inside
    return result


def mask_overlap(found, true, crowd):
    """Return the share of the common pixels of two masks in their union, or in the found one if the true is a crowd."""
    common, whole = np.sum(found & true), np.sum(found if crowd else found | true)
    return common / whole if whole else 0.0


def boundary_overlap(found, true, crowd, distance):
    """Return the smaller one of the overlaps of two masks and of their boundaries; a crowd has no boundary."""
    overlap = mask_overlap(found, true, crowd)
    if crowd:
        return overlap
    return min(overlap, mask_overlap(inner_boundary(found, distance), inner_boundary(true, distance), False))


def match(overlaps, ignored, threshold):
    """Match the detections of an image, the best first, with its objects; an ignored object takes any number.

    Returns:
        For each detection True (an object found), False (none) or None (it does not count).
    """
    taken, verdicts = set(), []
    for row in overlaps:
        free = [j for j in range(len(ignored)) if not ignored[j] and j not in taken and row[j] >= threshold]
        if free:
            taken.add(max(free, key=lambda j: row[j]))
            verdicts.append(True)
        else:
            verdicts.append(None if any(row[j] >= threshold for j in range(len(ignored)) if ignored[j]) else False)
    return verdicts


def average_precision(images, thresholds=OVERLAPS):
    """Return the AP of one class.

    Images are triples: scores, falling; overlaps [detections, objects]; whether each object is ignored.
    """
    objects = sum(len(ignored) - sum(ignored) for _, _, ignored in images)
    if objects == 0:
        return -1.0
    total = 0.0
    for threshold in thresholds:
        counted = [
            (-score, verdict)
            for scores, overlaps, ignored in images
            for score, verdict in zip(scores, match(overlaps, ignored, threshold), strict=True)
            if verdict is not None
        ]
        counted.sort(key=lambda pair: pair[0])
        hits, points = 0, []
        for place, (_, verdict) in enumerate(counted, 1):
            hits += verdict
            points.append((hits / objects, hits / place))
        for recall in np.linspace(0, 1, 101):
            total += max((precision for reached, precision in points if reached >= recall), default=0.0)
    return total / (101 * len(thresholds))


# FCOS


def fcos_targets(boxes, classes, valid, levels_hw):
    """Return, for every location of one image, (object, class, (l, t, r, b) in strides, centerness) or None."""
    rows = []
    ranges = [(-1, 64), (64, 128), (128, 256), (256, 512), (512, math.inf)]
    for (height, width), stride, (least, most) in zip(levels_hw, (8, 16, 32, 64, 128), ranges, strict=True):
        for i in range(height):
            for j in range(width):
                x, y = j * stride + stride // 2, i * stride + stride // 2
                best, smallest = None, math.inf
                for n, (x1, y1, x2, y2) in enumerate(np.asarray(boxes, "float64")):
                    if not valid[n]:
                        continue
                    sides = (x - x1, y - y1, x2 - x, y2 - y)
                    # The sampling square, cut where the box ends.
                    cx, cy, reach = (x1 + x2) / 2, (y1 + y2) / 2, 1.5 * stride
                    left, top = max(cx - reach, x1), max(cy - reach, y1)
                    right, bottom = min(cx + reach, x2), min(cy + reach, y2)
                    inside = left < x < right and top < y < bottom
                    area = (x2 - x1) * (y2 - y1)
                    if inside and least <= max(sides) <= most and area < smallest:
                        l, t, r, b = sides
                        centerness = math.sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b))
                        best = (n, classes[n], tuple(side / stride for side in sides), centerness)
                        smallest = area
                rows.append(best)
    return rows


def iou(a, b):
    """Return intersection over union of two boxes xyxy."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else 0.0


def suppress_overlaps(boxes, scores, classes, count, iou_threshold):
    """Return the rows that class-wise greedy suppression keeps, the highest scores first, at most `count`.

    Of equal scores the lower row goes first, within a class and among the kept ones of all classes.
    """
    kept = []
    for category in sorted(set(classes)):
        left = sorted(
            (n for n in range(len(boxes)) if classes[n] == category and scores[n] > 0), key=lambda n: -scores[n]
        )
        while left:
            best = left.pop(0)
            kept.append(best)
            left = [n for n in left if iou(boxes[best], boxes[n]) <= iou_threshold]
    return sorted(kept, key=lambda n: (-scores[n], n))[:count]
