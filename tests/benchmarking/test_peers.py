"""The small networks written after their papers: sizes, parameter counts, graphs."""

import numpy as np
import pytest
import torch

from bedside.export.onnx import trace_onnx
from bedside.export.parity import check_parity, make_inputs
from bedside.models import count_parameters
from peers.cmunext import CMUNeXt
from peers.fast_scnn import FastSCNN
from peers.mk_unet import MKUNet
from peers.mobile_uvit import MobileUViT
from peers.strided import Strided
from peers.tiny_unet import TinyUNet
from peers.ultraseg import UltraSeg
from peers.unext import UNeXt

SIZE = (64, 96)
LARGE_UNEXT = (16, 32, 128, 160, 256)
NETWORKS = {
    "fast-scnn": lambda classes, channels: FastSCNN(classes, channels, SIZE),
    "unext-s": UNeXt,
    "unext": lambda classes, channels: UNeXt(classes, channels, widths=LARGE_UNEXT),
    "cmunext-s": CMUNeXt,
    "tiny-unet": TinyUNet,
    "mk-unet": MKUNet,
    "ultraseg-130k": UltraSeg,
    "mobile-uvit": MobileUViT,
}
# What each paper states, in millions, for 3 channels and its own number of classes.
# UltraSeg's is without its learned tables, which its authors' counter leaves out.
STATED = {
    "fast-scnn": (19, 1.11),
    "unext-s": (1, 0.25),
    "unext": (1, 1.47),
    "cmunext-s": (1, 0.418),
    "tiny-unet": (2, 0.48),
    "mk-unet": (1, 0.316),
    "ultraseg-130k": (1, 0.130),
    "mobile-uvit": (1, 1.39),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_has_as_many_parameters_as_its_paper_states(name):
    classes, stated = STATED[name]
    network = NETWORKS[name](classes, 3)
    counted = count_parameters(network)
    tables = [value.numel() for key, value in network.named_parameters() if ".tables." in key]
    assert (counted - sum(tables)) / 1e6 == pytest.approx(stated, rel=0.03)
    assert bool(tables) is (name == "ultraseg-130k")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_learns_and_its_graph_gives_the_same_logits_at_full_size(name):
    torch.manual_seed(0)
    network = NETWORKS[name](4, 1)
    logits = network(torch.rand(2, 1, *SIZE))
    assert logits.shape == (2, 4, *SIZE)
    logits.square().mean().backward()
    assert all(
        value.grad is not None and value.grad.isfinite().all() for value in network.parameters()
    )
    inputs = make_inputs((1, 1, *SIZE))[2:]
    graph = trace_onnx(network.eval(), torch.from_numpy(inputs[-1])).SerializeToString()
    check_parity(graph, network, inputs=inputs, tolerance=1e-3)


def test_behind_our_stem_a_network_sees_a_quarter_and_gives_half():
    inside = torch.nn.Conv2d(8, 4 * 3, 1)
    network = Strided(inside, in_channels=1, channels=8)
    seen = []
    inside.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    assert network(torch.rand(1, 1, *SIZE)).shape == (1, 3, 32, 48)
    assert seen == [(1, 8, 16, 24)]


@pytest.mark.parametrize("name", ["unet-stride4", "residual-unet-stride4"])
def test_monai_s_networks_behind_our_stem_say_that_their_logits_are_half_as_fine(name):
    for library in ("monai", "segmentation_models_pytorch"):
        pytest.importorskip(library, reason=f"{library} is missing; `make peers` has it")
    from bedside.spec import named_spec
    from peers.networks import find_network

    network = find_network(name, named_spec("tiny", num_classes=4), SIZE)
    logits = network.create().eval()(torch.rand(1, 1, *SIZE))
    assert network.model.logit_stride == 2
    assert logits.shape == (1, 4, *(np.array(SIZE) // 2))
