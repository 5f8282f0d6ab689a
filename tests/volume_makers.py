"""Scans with a lopsided phantom, in every order and direction of axes, oblique or not."""

import dataclasses
import itertools

import numpy as np

from bedside.spec import Code, DeploymentSpec, InputSpec, Label, named_spec
from bedside.volume import Geometry, ImageSequence

ORIENTATIONS = [
    (order, signs)
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
"""The 48 ways in which the axes of an array can run along those of the patient."""


def make_geometry(shape, spacing_mm, order, signs, *, tilt=0.0):
    """An LPS affine whose array axis `a` runs along the patient's axis `order[a]`."""
    directions = np.zeros((3, 3))
    for axis, (row, sign) in enumerate(zip(order, signs, strict=True)):
        directions[row, axis] = sign
    turn = np.array(
        [[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1.0]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ directions * np.asarray(spacing_mm)
    affine[:3, 3] = (-31.0, 17.0, 5.0)
    return Geometry(tuple(shape), affine, space="LPS")


def centroid_mm(mask, geometry):
    """The middle of a mask in LPS mm."""
    index = np.argwhere(mask).mean(axis=0)
    return (geometry.affine @ [*index, 1.0])[:3]


def draw_phantom(geometry, centre_mm, radius_mm):
    """A ball in the patient, drawn on a grid."""
    index = np.indices(geometry.shape).reshape(3, -1)
    places = geometry.affine[:3, :3] @ index + geometry.affine[:3, 3:]
    distance = np.linalg.norm(places - np.asarray(centre_mm)[:, None], axis=0)
    return (distance <= radius_mm).reshape(geometry.shape)


def make_scan(array, geometry=None, spacing_mm=None):
    """A cine of slices out of (D, H, W)."""
    spacing_mm = spacing_mm or (geometry.spacing_mm if geometry else None)
    depth, height, width = array.shape
    return ImageSequence(
        shape=(depth, 1, height, width),
        decode=lambda index: array[index][None],
        spacing_mm=tuple(spacing_mm[1:]) if spacing_mm else None,
        slice_spacing_mm=spacing_mm[0] if spacing_mm else None,
        geometry=geometry,
    )


def make_channels(array):
    """A cine of slices out of (C, D, H, W), with no place and no scale."""
    channels, depth, height, width = array.shape
    return ImageSequence(
        shape=(depth, channels, height, width), decode=lambda index: np.array(array[:, index])
    )


def make_spec(*preprocess, size=(8, 16, 16), stride=1, postprocess=()):
    """A deployment over scans that finds what is bright."""
    code = Code("1", "99TEST", "thing")
    model = dataclasses.replace(
        named_spec("nano", spatial_dims=3), logit_stride=stride, stem_stride=2
    )
    return DeploymentSpec(
        name="phantom",
        version="1",
        task="finds what is bright",
        input=InputSpec("CT", 1, size),
        labels=(Label(1, "ball", (255, 0, 0), code, code),),
        preprocess=preprocess,
        model=model,
        postprocess=postprocess,
    )


class Threshold:
    """A network that calls bright what is above one half; logits at some stride."""

    backend, precision, threads = "test", "f32", 1

    def __init__(self, stride=1):
        self.stride = stride
        self.seen = []

    def predict(self, tensor):
        self.seen.append(tensor)
        picked = tensor[(slice(None), slice(None), *[slice(None, None, self.stride)] * 3)]
        if self.stride > 1:
            batch, channels, *sizes = tensor.shape
            cut = [n for size in sizes for n in (size // self.stride, self.stride)]
            picked = tensor.reshape(batch, channels, *cut).mean(axis=(3, 5, 7))
        return np.concatenate([np.full_like(picked, 0.5), picked], axis=1)
