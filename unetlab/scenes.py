"""Four synthetic scenes: pictures with exact masks, made in a moment, without a download.

`cells` (fluorescence microscopy), `animals` (pets), `roads` (aerial views) and `defects` (brushed metal) stand for the four
areas of application in chapter 0. Chapter 2 (`02a_data`, `02b_losses`) turns their knobs; most notebooks train on them.
The idea, pictures drawn with random looks and labels that are exact for free, is domain randomisation (Tremblay et al.
2018, arXiv:1804.06516).

Every scene is painted in the same four steps:

1. bend the coordinates with smooth noise, so that no outline is a perfect ellipse or line;
2. measure in them the signed distance to the nearest outline, negative inside;
3. shift that distance until the asked share of the pixels is inside (`_at_share`);
4. colour the picture from the distance: soft edges, light and shade, texture.

Lengths are fractions of the picture's width, x and y run from -0.5 to 0.5 and colours from 0 to 1. So a scene of another
size is the same scene with more or fewer pixels. Arrays are float32 and have one picture per row.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import torch

_FAR = np.float32(9)  # a distance from an outline that is never reached: added where an object is absent
_CHUNK = 16  # pictures painted together: few enough for the processor's cache, enough to keep numpy busy


class Scene(NamedTuple):
    """Pictures with their truth, as `make_scene` returns them."""

    images: torch.Tensor  # uint8 (n, C, size, size); C is 1 for cells and defects, 3 for animals and roads
    masks: torch.Tensor  # uint8 (n, size, size): 0 background, 1 object
    groups: torch.Tensor  # int64 (n,): the patient or scanner that each picture comes from
    instances: torch.Tensor | None  # cells only: int32 (n, size, size): 0 background, else the number of the cell


def _uniform(rng, low, high, *shape):
    return low + (high - low) * rng.random(shape, dtype=np.float32)


def _normal(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


def _each(rng, n, low, high):
    """One uniform number for each picture: (n, 1, 1)."""
    return _uniform(rng, low, high, n, 1, 1)


def _some(rng, n, share):
    """1 for a share of the pictures, 0 for the others: (n, 1, 1)."""
    return np.float32(rng.random((n, 1, 1)) < share)


def _pick(rng, n, *colours):
    """One of the colours for each picture, a little lighter or darker: (n, 3, 1, 1)."""
    chosen = np.array(colours, np.float32)[rng.integers(0, len(colours), n)]
    return (chosen * _uniform(rng, 0.85, 1.15, n, 1))[:, :, None, None]


def _pixels(size):
    """Coordinates (x, y) of the pixel centres, each (size, size)."""
    line = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    return np.broadcast_to(line, (size, size)), np.broadcast_to(line[:, None], (size, size))


@lru_cache(maxsize=256)
def _spread(size, waves):
    """Weights (size, waves + 3) that spread random numbers over a line of pixels; rows of unit length keep variance 1."""
    pixel = (np.arange(size) + 0.5) / size * waves
    weights = np.exp(-((pixel[:, None] - np.arange(-1, waves + 2)) ** 2))
    return (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)


def _noise(rng, n, size, rows, columns=None):
    """Smooth noise (n, size, size), mean 0, variance 1: about `rows` waves down and `columns` waves across."""
    down, across = _spread(size, rows), _spread(size, columns or rows)
    return down @ _normal(rng, n, down.shape[1], across.shape[1]) @ across.T


def _clouds(rng, n, size, rows):
    """Noise (n, size, size) of variance about 1 with large and ever finer detail."""
    return sum(0.8 * 0.6**octave * _noise(rng, n, size, rows << octave) for octave in range(4))


def _tiles(rng, u, v, channels):
    """Tile the plane (u, v): where in its tile a pixel lies, -0.5 to 0.5, and `channels` random numbers of that tile."""
    column, row = np.floor(u), np.floor(v)
    table = rng.random((channels, len(u) * 256), dtype=np.float32)  # 16 x 16 tiles a picture, then they repeat
    first = np.arange(len(u), dtype=np.int32)[:, None, None] * 256
    tile = first + (row.astype(np.int32) & 15) * 16 + (column.astype(np.int32) & 15)
    return u - column - 0.5, v - row - 0.5, table.take(tile, axis=1)


def _at_share(distance, share):
    """Grow or shrink every outline by the same width until `share` of the pixels lies inside."""
    sample = distance[:, ::2, ::2].ravel()
    rank = int(share * sample.size)
    return distance - np.partition(sample, rank)[rank]


def _cover(distance, soft=None):
    """How much of a pixel is inside, 0 to 1: an anti-aliased edge, or one that is blurred over the width `soft`."""
    return np.clip(0.5 - distance / (soft or 1 / distance.shape[-1]), 0, 1)


def _mix(below, above, cover):
    return below + cover * (above - below)


def _rgb(plane):
    """Let a plane (n, size, size) act on the colours of a picture (n, 3, size, size)."""
    return plane[:, None]


def _cells(rng, n, size, share, touching):
    """Nuclei under a fluorescence microscope: uneven light, haze, and cells that are out of focus and not labelled."""
    # A smaller share means fewer and smaller cells; at 1 % more than a quarter of the pictures is empty.
    mean_radius = 0.105 * share**0.17
    mean_count = share / (3.5 * mean_radius**2) * (1 + 2 * mean_radius) ** 2
    count = rng.poisson(mean_count * _uniform(rng, 0.5, 1.5, n))
    radius = mean_radius * _uniform(rng, 0.8, 1.2, n, 1) * np.exp(0.2 * _normal(rng, n, count.max() + 1))
    centre = _place(rng, radius, touching)

    # Each cell has a frame of its own (along, across) in which it is the unit circle of a bent plane.
    plane = np.ones((n, 3, size, size), np.float32)  # x, y, 1
    for i, line in enumerate(_pixels(size)):
        plane[:, i] = line + 0.012 * _noise(rng, n, size, 7)
    plane = plane.reshape(n, 3, -1)
    stretch, turn = np.exp(0.16 * _normal(rng, *radius.shape)), _uniform(rng, 0, np.pi, *radius.shape)
    cos, sin, back = np.cos(turn), np.sin(turn), centre * np.exp(-1j * turn)
    along = np.stack([cos, sin, -back.real], -1) / (radius * stretch)[..., None]
    across = np.stack([-sin, cos, -back.imag], -1) / (radius / stretch)[..., None]
    glow = np.exp(0.3 * _normal(rng, *radius.shape))
    facts, owned = np.stack([radius, glow], 1), np.empty((n, 2, size * size), np.float32)
    nearest, number = np.empty((n, size * size), np.float32), np.empty((n, size * size), np.uint8)
    for i, k in enumerate(count + 1):
        level = (along[i, :k] @ plane[i]) ** 2 + (across[i, :k] @ plane[i]) ** 2  # (cells, pixels), 1 on the outline
        nearest[i] = least = level.min(0)
        number[i] = ((level == least) * np.arange(k, dtype=np.uint8)[:, None]).max(0)  # a fast argmin
        owned[i] = facts[i].take(number[i], axis=1)
    (radius, glow), number = owned.reshape(n, 2, size, size).swapaxes(0, 1), number.reshape(n, size, size)
    distance = _at_share((np.sqrt(nearest) - 1).reshape(n, size, size) * radius, share)

    depth = np.clip(-distance / radius, 0, 1)  # 0 on the outline, 1 in the middle
    chromatin = 1 + 0.19 * _noise(rng, n, size, 14) + 0.14 * _noise(rng, n, size, 28)
    light = _each(rng, n, 0.17, 0.50) * glow * (0.4 + 0.6 * np.sqrt(depth)) * chromatin
    haze = 0.07 * glow * np.exp(-np.maximum(distance, 0) / 0.05)
    lamp = np.maximum(_each(rng, n, 0.10, 0.30) * (1 + 0.45 * _noise(rng, n, size, 1)), 0.03)
    background = lamp + 0.12 * np.maximum(_noise(rng, n, size, 5) - 0.7, 0)  # the second term is out of focus
    painted = background + haze + _cover(distance, 0.03) * light
    painted = painted / np.sqrt(1 + 0.5 * painted**2)  # a camera bends before it saturates
    return background[:, None], painted[:, None], distance, number


def _place(rng, radius, touching):
    """Centres (n, cells) as complex numbers: a cell keeps clear of the earlier ones or, by chance, leans on one of them."""
    n, cells = radius.shape
    rows, edge = np.arange(n), 0.5 + radius.mean()
    tries = _uniform(rng, -edge, edge, cells, n, 8, 2).view(np.complex64)[..., 0]
    leans = rng.random((cells, n)) < touching
    friend = (rng.random((cells, n)) * np.arange(cells)[:, None]).astype(int)
    direction = np.exp(1j * _uniform(rng, 0, 2 * np.pi, cells, n))
    centre = np.empty((n, cells), np.complex64)
    centre[:, 0] = _FAR  # number 0 is the background: so far away that it owns only what no cell owns
    for k in range(1, cells):
        gap = (np.abs(tries[k, :, :, None] - centre[:, None, :k]) - radius[:, None, :k]).min(-1)
        choice = np.minimum(gap, 1.3 * radius[:, k, None]).argmax(1)  # the first try that is clear, or the clearest
        beside = centre[rows, friend[k]] + 0.95 * (radius[rows, friend[k]] + radius[:, k]) * direction[k]
        centre[:, k] = np.where(leans[k] & (friend[k] > 0), beside, tries[k, rows, choice])
    return centre


# A pet is made of tapered limbs: x, y, radius at one end; x, y, radius at the other; nearness to the viewer; paleness.
# It is about one unit high. Seen from the front it is symmetric: half is listed, and the plane is folded on its axis.
_LIMBS = """
front body tail      0.160  0.410  0.050    0.330  0.400  0.045   -0.10  0.00
front body tail      0.330  0.400  0.045    0.400  0.240  0.025   -0.10  0.10
front body haunch    0.120  0.320  0.120    0.160  0.350  0.120    0.00  0.00
front body chest     0.000  0.000  0.130    0.000  0.270  0.170    0.04  0.20
front body foreleg   0.070  0.100  0.060    0.080  0.420  0.045    0.10  0.00
front body forepaw   0.085  0.445  0.045    0.090  0.455  0.045    0.13  0.60
front body hindpaw   0.190  0.440  0.050    0.250  0.445  0.045    0.10  0.30
front body neck      0.000 -0.160  0.110    0.000 -0.040  0.120    0.02  0.20
side  body tail      0.300 -0.050  0.045    0.420 -0.140  0.035   -0.10  0.00
side  body tail      0.420 -0.140  0.035    0.460 -0.290  0.022   -0.10  0.10
side  body farleg    0.170  0.100  0.080    0.180  0.420  0.038   -0.15 -0.50
side  body farleg   -0.110  0.100  0.060   -0.090  0.420  0.038   -0.15 -0.50
side  body trunk    -0.170  0.010  0.150    0.210 -0.010  0.125    0.00  0.00
side  body hindleg   0.230  0.040  0.110    0.270  0.440  0.042    0.04  0.00
side  body foreleg  -0.190  0.060  0.090   -0.210  0.440  0.042    0.04  0.00
side  body neck     -0.290 -0.160  0.100   -0.160 -0.020  0.130    0.02  0.00
front cat  skull     0.000  0.000  0.130    0.040  0.000  0.130    0.12  0.00
front cat  cheek     0.050  0.050  0.070    0.090  0.050  0.050    0.14  0.10
front cat  ear       0.085 -0.080  0.060    0.130 -0.210  0.008    0.08  0.00
front cat  muzzle    0.000  0.070  0.045    0.030  0.075  0.045    0.22  0.70
front dog  skull     0.000 -0.030  0.130    0.000  0.050  0.110    0.12  0.00
front dog  jowl      0.020  0.080  0.055    0.040  0.110  0.050    0.20  0.50
front dog  ear       0.100 -0.080  0.050    0.160  0.100  0.055    0.16 -0.50
front dog  muzzle    0.000  0.020  0.060    0.000  0.090  0.060    0.22  0.60
side  cat  skull    -0.010  0.000  0.125    0.030  0.010  0.120    0.10  0.00
side  cat  farear   -0.060 -0.070  0.050   -0.085 -0.190  0.008    0.06 -0.20
side  cat  ear       0.050 -0.070  0.060    0.065 -0.200  0.008    0.14  0.00
side  cat  muzzle   -0.080  0.045  0.055   -0.100  0.050  0.050    0.14  0.60
side  dog  skull    -0.010 -0.010  0.125    0.020  0.010  0.120    0.10  0.00
side  dog  stop     -0.040  0.040  0.085   -0.100  0.045  0.070    0.10  0.20
side  dog  ear       0.050 -0.070  0.050    0.090  0.100  0.055    0.20 -0.50
side  dog  muzzle   -0.080  0.030  0.070   -0.175  0.055  0.050    0.12  0.50
"""
_LIMBS = np.array([line.split()[3:] for line in _LIMBS.strip().splitlines()], np.float32)
_FRONT, _SIDE, _HEADS = _LIMBS[:8], _LIMBS[8:16], _LIMBS[16:].reshape(4, 4, 8)
_PETS = np.stack([np.concatenate(parts) for parts in zip((_FRONT, _FRONT, _SIDE, _SIDE), _HEADS, strict=True)])
# One entry for each of the four pets; eye and nose are x, y, radius in the frame of the head.
_AREA = np.array([0.37, 0.38, 0.42, 0.42], np.float32)  # square units, measured
_HEAD = np.array([(0, -0.24), (0, -0.24), (-0.33, -0.21), (-0.33, -0.21)], np.float32)
_EYE = np.array([(0.06, -0.01, 0.03), (0.055, -0.025, 0.025), (-0.06, -0.02, 0.025), (-0.06, -0.03, 0.023)], np.float32)
_NOSE = np.array([(0, 0.05, 0.02), (0, 0.055, 0.032), (-0.15, 0.035, 0.02), (-0.215, 0.04, 0.03)], np.float32)
_IRIS = np.array([(0.58, 0.56, 0.22), (0.20, 0.12, 0.07), (0.58, 0.56, 0.22), (0.20, 0.12, 0.07)], np.float32)
_COATS = [(0.7, 0.42, 0.2), (0.4, 0.4, 0.4), (0.15, 0.14, 0.14), (0.8, 0.77, 0.72), (0.4, 0.27, 0.17), (0.7, 0.6, 0.4)]


def _animals(rng, n, size, share):
    """A cat or a dog, sitting or standing, on a lawn, on a sofa or in a room."""
    pet = rng.integers(0, 4, n)
    scale = _each(rng, n, 0.85, 1.15) * np.sqrt(share / _AREA[pet])[:, None, None]
    spare = np.maximum(0.5 - 0.48 * scale, 0)
    x, y = _pixels(size)
    u = (x - spare * _each(rng, n, -1, 1)) / scale * (1 - 2 * _some(rng, n, 0.5))
    v = (y - spare * _each(rng, n, -0.5, 1)) / scale
    u = u + _each(rng, n, -0.08, 0.08) * v
    head_u, head_v = u - _HEAD[pet, 0, None, None], v - _HEAD[pet, 1, None, None]
    nod, big = _each(rng, n, -0.3, 0.3), _each(rng, n, 0.95, 1.2)
    cos, sin = np.cos(nod) / big, np.sin(nod) / big
    head_u, head_v = head_u * cos + head_v * sin, head_v * cos - head_u * sin
    fold = (pet < 2)[:, None, None]
    folded, head_u = _mix(u, np.abs(u), fold), _mix(head_u, np.abs(head_u), fold)

    stout = _each(rng, n, 0.95, 1.15)
    distance = np.full((n, size, size), _FAR)
    height, pale = np.full((n, size, size), -0.2, np.float32), 0
    for k, limb in enumerate(_PETS[pet].swapaxes(0, 1)):
        a, b = (u, v) if k < 2 else (folded, v) if k < 8 else (head_u, head_v)
        x0, y0, r0, x1, y1, r1, near, paleness = limb.T[:, :, None, None]
        a, b, dx, dy = a - x0, b - y0, x1 - x0, y1 - y0
        t = np.clip((a * dx + b * dy) / (dx**2 + dy**2), 0, 1)  # 0 at one end, 1 at the other
        radius = stout * (r0 + t * (r1 - r0))
        away = (a - t * dx) ** 2 + (b - t * dy) ** 2
        top = near + radius - away / radius
        pale = _mix(pale, paleness, top > height)  # what is highest is seen
        height = np.maximum(height, top)
        distance = np.minimum(distance, np.sqrt(away) - radius)
    fur = _noise(rng, n, size, 26, 60)
    distance = _at_share(scale * (distance + 0.004 * fur), share)

    # Light falls from the upper left on the rounded limbs; the coat has stripes or white patches.
    slope_y, slope_x = (np.clip(slope * scale, -1.5, 1.5) for slope in np.gradient(height, 1 / size, axis=(1, 2)))
    light = np.maximum(0.4 * slope_x + 0.5 * slope_y + 0.77, 0) / np.sqrt(1 + slope_x**2 + slope_y**2)
    light = (0.5 + 0.65 * light) * (1 + 0.12 * fur)
    stripes = 0.2 * _some(rng, n, 0.4) * np.sin(38 * u + 14 * v + 1.5 * _noise(rng, n, size, 5))
    patches = _some(rng, n, 0.4) * _cover(0.5 - _noise(rng, n, size, 4), 0.3)
    white, dark = np.clip(np.maximum(pale, patches), 0, 0.8), 1 + 0.7 * np.minimum(pale, 0)
    pelt = _pick(rng, n, *_COATS) * _rgb(light * (1 + stripes) * dark * (1 - white)) + _rgb(0.78 * light * white)
    (eye_u, eye_v, eye), (nose_u, nose_v, nose) = _EYE[pet].T[..., None, None], _NOSE[pet].T[..., None, None]
    to_eye = np.sqrt((head_u - eye_u) ** 2 + (head_v - eye_v) ** 2)
    to_nose = np.sqrt((head_u - nose_u) ** 2 + (head_v - nose_v) ** 2)
    pelt = _mix(pelt, _IRIS[pet][..., None, None], _rgb(_cover(scale * (to_eye - eye))))
    pelt = _mix(pelt, 0.07, _rgb(_cover(scale * np.minimum(to_eye - 0.65 * eye, to_nose - nose))))

    background = np.empty((n, 3, size, size), np.float32)
    place = rng.integers(0, 3, n)
    for k, paint in enumerate((_lawn, _sofa, _room)):
        background[place == k] = paint(rng, np.count_nonzero(place == k), size)
    background *= _rgb(1 - 0.55 * np.exp(-((u / 0.36) ** 2) - ((v - 0.46) / 0.06) ** 2))  # the pet's shadow
    return background, _mix(background, pelt, _rgb(_cover(distance))), distance, None


def _lawn(rng, n, size):
    below = _pixels(size)[1] - _each(rng, n, -0.25, 0)  # distance below the horizon
    blades = _noise(rng, n, size, 24, 60)
    sky = _pick(rng, n, (0.20, 0.29, 0.16), (0.28, 0.33, 0.22), (0.62, 0.68, 0.74), (0.45, 0.42, 0.36))
    grass = _pick(rng, n, (0.33, 0.46, 0.18), (0.40, 0.45, 0.22), (0.28, 0.40, 0.17), (0.47, 0.47, 0.27))
    sky = sky * _rgb(1 + 0.18 * _clouds(rng, n, size, 5))
    grass = grass * _rgb(1 + (0.12 + 0.25 * np.maximum(below, 0)) * blades + 0.09 * _noise(rng, n, size, 6))
    return _mix(sky, grass, _rgb(_cover(0.012 * blades - below, 0.02)))


def _sofa(rng, n, size):
    x, y = _pixels(size)
    below = y - _each(rng, n, -0.1, 0.1)  # distance below the crease between back and seat
    wall = _pick(rng, n, (0.72, 0.70, 0.66), (0.60, 0.66, 0.68), (0.66, 0.60, 0.52))
    cloth = _pick(rng, n, (0.46, 0.33, 0.25), (0.42, 0.44, 0.47), (0.60, 0.54, 0.44), (0.28, 0.35, 0.42))
    creases = np.exp(-np.abs(below) / 0.05) + np.exp(-np.abs(x - _each(rng, n, -0.5, 0.5)) / 0.025)
    front = _cover(0.25 - below, 0.03)
    weave = 0.05 * _noise(rng, n, size, 40) + 0.08 * _noise(rng, n, size, 2)
    light = 1 + weave - _mix(0.4 * creases, 0.3, front)
    return _mix(cloth * _rgb(light), wall, _rgb(_cover(below + 0.33)))


def _room(rng, n, size):
    x, y = _pixels(size)
    below = y - _each(rng, n, -0.15, 0.1)  # distance below the edge between wall and floor
    wall = _pick(rng, n, (0.74, 0.70, 0.62), (0.60, 0.66, 0.68), (0.70, 0.61, 0.54), (0.55, 0.60, 0.52))
    wood = _pick(rng, n, (0.50, 0.35, 0.22), (0.58, 0.45, 0.31), (0.38, 0.27, 0.19), (0.55, 0.52, 0.48))
    plank = 5 * x / (np.maximum(below, 0) + 0.35)  # planks run away from the viewer and grow narrower
    joints = np.float32(np.abs(np.sin(plank)) < 0.06)
    floor = wood * _rgb(1 + 0.06 * _noise(rng, n, size, 30, 3) - 0.25 * joints)
    picture = _mix(_mix(wall, floor, _rgb(_cover(-below, 0.02))), 0.85, _rgb(_cover(np.abs(below + 0.03) - 0.025)))
    return picture * _rgb(1 + 0.10 * _noise(rng, n, size, 1))


def _roads(rng, n, size, share):
    """A town from above: a main road and side streets between fields, woods and roofs."""
    x, y = _pixels(size)
    turn, block, built = _each(rng, n, 0, 2 * np.pi), _each(rng, n, 0.30, 0.45), _each(rng, n, 0.15, 0.8)
    cos, sin = np.cos(turn), np.sin(turn)
    along = x * cos + y * sin + 0.02 * _noise(rng, n, size, 3)
    across = y * cos - x * sin + 0.05 * _noise(rng, n, size, 2) + _each(rng, n, -0.25, 0.25)
    u, v = along / block + _each(rng, n, 0, 16), across / block

    # The main road is the line across = 0; between two blocks there may be a piece of side street.
    off_u, _, (empty_u,) = _tiles(rng, u + 0.5, v, 1)
    _, off_v, (empty_v,) = _tiles(rng, u, v + 0.5, 1)
    streets, wide = built * min(share / 0.2, 1), (share / 0.2) ** 0.5
    to_u, to_v = np.abs(off_u) * block + _FAR * (empty_u > streets), np.abs(off_v) * block + _FAR * (empty_v > streets)
    distance = _at_share(np.minimum(np.minimum(to_u, to_v) - 0.02 * wide, np.abs(across) - 0.045 * wide), share)
    off_road = _FAR * (distance < 0.01)  # added to the distance of roofs and trees, it keeps them off the road

    # A block is town, wood or a field with furrows; the ground runs from green to ochre.
    _, _, (use, dry, bright) = _tiles(rng, u, v, 3)
    town, field = np.float32(use < built), np.float32(use > 0.8)
    rough, fine = _clouds(rng, n, size, 5), 1 + 0.09 * _noise(rng, n, size, 40)
    dry = np.clip(dry + _each(rng, n, -0.5, 0.5) + 0.15 * rough, 0, 1)
    light = (0.8 + 0.35 * bright + 0.12 * field * np.sin(50 * u) + 0.06 * rough) * fine
    land = _mix(_pick(rng, n, (0.25, 0.36, 0.18)), _pick(rng, n, (0.56, 0.47, 0.33)), _rgb(dry)) * _rgb(light)

    # Roofs stand on lots, nine to a block; trees have tiles of their own. Both throw a shadow, `sun` away.
    u, v, (length, width, empty, slate) = _tiles(rng, 3 * u, 3 * v, 4)
    length, width = 0.2 + 0.15 * length, 0.2 + 0.15 * width
    sun_u, sun_v = 0.08 * (cos + sin), 0.08 * (cos - sin)
    gone = off_road + _FAR * (1 - town * (empty < 0.85))
    roof = np.maximum(np.abs(u) - length, np.abs(v) - width) * block / 3 + gone
    shadow = np.maximum(np.abs(u - sun_u) - length, np.abs(v - sun_v) - width) * block / 3 + gone
    slopes = 1 + 0.18 * np.sign(_mix(u, v, length > width))  # one side of the ridge lies in the sun
    slate = np.clip(3 * slate - 1, 0, 1)
    roofs = _mix(_pick(rng, n, (0.62, 0.36, 0.27)), _pick(rng, n, (0.66, 0.65, 0.66)), _rgb(slate))
    roofs = roofs * _rgb(slopes * fine * (0.7 + 0.5 * empty))

    bend = 0.2 * _noise(rng, n, size, 9)
    u, v, (radius, gap, left, up) = _tiles(rng, 11 * x + bend, 11 * y - bend, 4)
    u, v, radius = u + 0.3 * left - 0.15, v + 0.3 * up - 0.15, 0.2 + 0.2 * radius
    gone = off_road + _FAR * (gap > 0.9 - 0.7 * np.maximum(town, field))
    tree = (np.sqrt(u**2 + v**2) - radius) / 11 + gone
    shadow = np.minimum(shadow, (np.sqrt((u - 0.14) ** 2 + (v - 0.14) ** 2) - radius) / 11 + gone)
    leaves = _pick(rng, n, (0.15, 0.25, 0.11)) * _rgb((1 - u - v) * fine * (0.8 + 0.6 * left))

    background = land * _rgb(1 - 0.5 * _cover(shadow))
    background = _mix(_mix(background, roofs, _rgb(_cover(roof))), leaves, _rgb(_cover(tree)))
    dashes = _cover(np.abs(across) - 0.004) * (np.sin(60 * along) > 0)
    grey = _pick(rng, n, (0.40, 0.40, 0.40), (0.52, 0.51, 0.49), (0.58, 0.55, 0.50))
    street = _mix(grey * _rgb((1 + 0.05 * rough) * fine), 0.85, _rgb(0.7 * dashes))
    pavement = _mix(background, 0.6, _rgb(0.5 * _cover(distance - 0.01)))
    return background, _mix(pavement, street, _rgb(_cover(distance))), distance, None


def _defects(rng, n, size, share):
    """Brushed metal with scratches, cracks and pits; a quarter of the pieces is sound."""
    x, y = _pixels(size)
    grow = (share / 0.02) ** 0.5
    count = rng.integers(1, 4, (n, 1, 1)) * _some(rng, n, 0.75)
    bend = 0.04 * _noise(rng, n, size, 2)
    jag_u, jag_v = (0.02 * _noise(rng, n, size, 9) + 0.01 * _noise(rng, n, size, 26) for _ in "uv")
    distance = np.full((n, size, size), _FAR)
    scratch, pit, strength = np.zeros((3, n, size, size), np.float32)  # of the nearest defect
    for slot in range(3):
        kind, turn = rng.integers(0, 3, (n, 1, 1)), _each(rng, n, 0, 2 * np.pi)
        is_scratch, is_crack, is_pit = (np.float32(kind == k) for k in range(3))
        u = x - _each(rng, n, -0.4, 0.4) + is_scratch * bend + (is_crack + 0.5 * is_pit) * jag_u
        v = y - _each(rng, n, -0.4, 0.4) + is_scratch * bend + (is_crack + 0.5 * is_pit) * jag_v
        along, across = u * np.cos(turn) + v * np.sin(turn), v * np.cos(turn) - u * np.sin(turn)
        fork = 0.6 * is_crack * _some(rng, n, 0.5)
        across = np.abs(np.abs(across) - fork * np.maximum(along, 0))  # folding the plane makes two branches of one
        along = np.abs(along)
        length = _mix(_each(rng, n, 0.15, 0.50) * min(grow, 1), _each(rng, n, 0.002, 0.03), is_pit)
        width = _mix(_each(rng, n, 0.009, 0.016), _each(rng, n, 0.025, 0.065), is_pit) * grow
        taper = 1 - 0.7 * (1 - is_pit) * np.minimum(along / length, 1) ** 2
        reach = np.sqrt(np.maximum(along - length, 0) ** 2 + across**2) - width * taper + _FAR * (slot >= count)
        nearer = reach < distance
        scratch, pit = _mix(scratch, is_scratch, nearer), _mix(pit, is_pit, nearer)
        strength = _mix(strength, _each(rng, n, 0.45, 1), nearer)
        distance = np.minimum(distance, reach)
    distance = _at_share(distance, share)

    # Brushing leaves streaks of many widths, a lamp a bright band, handling a dull stain. Half of the pieces lie turned.
    streaks = sum(a * _noise(rng, n, size, *waves) for a, waves in ((0.6, (2, 70)), (0.5, (5, 40)), (0.35, (14, 60))))
    band = np.exp(-(((x - _each(rng, n, -0.5, 0.5)) / _each(rng, n, 0.15, 0.5)) ** 2))
    metal = _each(rng, n, 0.25, 0.5) * (0.8 + 0.13 * streaks + 0.12 * _noise(rng, n, size, 1) + 0.5 * band)
    turned = rng.random(n) < 0.5
    metal[turned] = metal[turned].swapaxes(1, 2)
    metal *= 1 + 0.04 * _clouds(rng, n, size, 6) - 0.15 * np.clip(_noise(rng, n, size, 3) - 0.9, 0, 1)

    # A scratch is bare bright metal, a crack is dark, a pit is a hollow in the light from the upper left.
    depth = np.clip(-distance / 0.02, 0, 1)
    bare = metal + (0.12 + 0.25 * depth) * (1 + 0.5 * _noise(rng, n, size, 20))
    inside = _mix(metal * _mix(0.2, 0.5 - 0.2 * depth, pit), bare, scratch)
    slope_y, slope_x = np.gradient(_cover(distance + 0.01, 0.04), 1 / size, axis=(1, 2))
    relief = 0.003 * metal * (slope_x + slope_y) * (2 - scratch)
    painted = metal + strength * (_cover(distance) * (inside - metal) - relief)
    return metal[:, None], painted[:, None], distance, None


class _Recipe(NamedTuple):
    paint: Callable  # (rng, n, size, share) -> background, finished picture (both n, C, ...), distance, cell number
    channels: int
    share: float  # usual share of object pixels
    limits: tuple[float, float]  # shares that still look like the subject
    noise: float  # usual noise, grey levels


_RECIPES = {
    "cells": _Recipe(_cells, 1, 0.20, (0.005, 0.5), 12),
    "animals": _Recipe(_animals, 3, 0.25, (0.05, 0.4), 5),
    "roads": _Recipe(_roads, 3, 0.20, (0.05, 0.4), 6),
    "defects": _Recipe(_defects, 1, 0.02, (0.005, 0.1), 5),
}
SCENES = tuple(_RECIPES)


def make_scene(
    name: str,
    n: int,
    size: int = 64,
    seed: int = 0,
    *,
    foreground: float | None = None,
    noise: float | None = None,
    contrast: float = 1.0,
    touching: float | None = None,
    label_error: float = 0.0,
    group_shift: float = 0.0,
    groups: int = 1,
) -> Scene:
    """Make `n` pictures of `size` x `size` pixels with their masks.

    The same seed gives the same pictures, and the first k of n pictures are those of `make_scene(name, k, ...)`. Noise,
    labels and groups have random numbers of their own: turning one of their knobs leaves the scene itself as it is.

    name: one of `SCENES`.
    foreground: share of object pixels, on average over the pictures. None takes the scene's usual share.
    noise: standard deviation of the camera's noise in grey levels, 0 to 100. None takes the scene's usual noise.
    contrast: 1 shows the objects as painted, 0 hides them in the background; up to 2.
    touching: cells only: the chance, 0 to 1, that a cell leans on another one; None takes 0.3.
    label_error: in pixels, 0 to 10: how far (standard deviation) the outline in the mask strays from the true one. The
        outline wanders in and out along an object, and a whole picture may be drawn too wide or too tight.
    group_shift: 0 to 1: how much the groups (patients, scanners) differ in contrast, brightness and a faint pattern of
        their own. Above 0.5 the grey scenes differ in polarity too: at 1 half of the groups show negatives.
    groups: number of groups; the pictures take turns: 0, 1, ..., 0, 1, ...

    Returns a `Scene` of CPU tensors. Raises ValueError for an unknown name and for a knob out of its range.
    """
    if name not in _RECIPES:
        raise ValueError(f"There is no scene {name!r}: choose one of {', '.join(SCENES)}.")
    paint, channels, usual_share, limits, usual_noise = _RECIPES[name]
    share = usual_share if foreground is None else foreground
    grain = usual_noise if noise is None else noise
    for knob, value, low, high in (
        ("n", n, 1, np.inf),
        ("size", size, 16, np.inf),
        ("seed", seed, 0, np.inf),
        ("foreground", share, *limits),
        ("noise", grain, 0, 100),
        ("contrast", contrast, 0, 2),
        ("touching", 0 if touching is None else touching, 0, 1),
        ("label_error", label_error, 0, 10),
        ("group_shift", group_shift, 0, 1),
        ("groups", groups, 1, np.inf),
    ):
        if not low <= value <= high:
            wanted = f"at least {low}" if high == np.inf else f"from {low} to {high}"
            raise ValueError(f"{knob}={value} does not work for the scene {name!r}: choose a number {wanted}.")
    if name == "cells":
        paint = partial(paint, touching=0.3 if touching is None else touching)
    elif touching is not None:
        raise ValueError(f"Only cells can touch: leave touching out for the scene {name!r}.")

    images = np.empty((n, channels, size, size), np.uint8)
    masks = np.empty((n, size, size), np.uint8)
    instances = np.empty((n, size, size), np.int32) if name == "cells" else None
    group = np.arange(n) % groups
    gain, offset, pattern = _scanners(seed, groups, channels, size, group_shift)
    for start in range(0, n, _CHUNK):
        # A whole chunk is always painted, and its random numbers depend on nothing before it.
        rng, grain_rng, label_rng = (np.random.default_rng([seed, stream, start]) for stream in range(3))
        background, painted, distance, number = paint(rng, _CHUNK, size, share)
        picture = _mix(background, painted, contrast)
        if group_shift:
            which = np.arange(start, start + _CHUNK) % groups
            picture = 0.5 + offset[which] + gain[which] * (picture - 0.5 + pattern[which])
        picture = 255 * picture + grain * _normal(grain_rng, *picture.shape)
        stray = (_noise(label_rng, _CHUNK, size, 6) + _normal(label_rng, _CHUNK, 1, 1)) / np.float32(2**0.5)
        mask = distance < label_error / size * stray
        part = slice(start, min(start + _CHUNK, n))
        keep = part.stop - start
        images[part] = np.clip(picture[:keep] + 0.5, 0, 255)
        masks[part] = mask[:keep]
        if instances is not None:
            instances[part] = (number * mask)[:keep]
    images, masks, group = (torch.from_numpy(array) for array in (images, masks, group))
    return Scene(images, masks, group, None if instances is None else torch.from_numpy(instances))


def _scanners(seed, groups, channels, size, shift):
    """What each group's device does to a picture: gain and offset (groups, C, 1, 1), pattern (groups, 1, size, size)."""
    gain, offset, pattern = [], [], []
    for group in range(groups):
        rng = np.random.default_rng([seed, 3, group])
        negative = channels == 1 and rng.random() < shift - 0.5
        gain.append(np.exp(shift * _uniform(rng, -0.8, 0.2, 1, 1, 1)) * (-1 if negative else 1))
        offset.append(shift * (_uniform(rng, -0.12, 0.12, 1, 1, 1) + _uniform(rng, -0.08, 0.08, channels, 1, 1)))
        pattern.append(0.08 * shift * _noise(rng, 1, size, *rng.integers(2, 40, 2).tolist()))
    return np.stack(gain), np.stack(offset), np.stack(pattern)
