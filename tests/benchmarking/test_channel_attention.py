import argparse
import json

import numpy as np
import pytest
import torch

import channels as study
import channels_page
import channels_rows
from bedside.export.onnx import export_onnx
from bedside.models import count_parameters
from bedside.runtime import open_graph
from bedside.spec import read_recipe
from bedside.training.checkpoint import read_json
from bedside.training.split import split_cases
from cells import write_json
from channel_attention import ChannelAttention, ChannelStem, create_with_attention, find_present
from channels_rows import OPPONENT, REFERENCE, ROWS, Cell
from layout_makers import write_nifti

PATIENTS = [f"LGG_{number:03d}" for number in range(60)]
SQUARE = np.diag([1.0, 1.0, 3.0, 1.0])
"""Pixels of 1 mm, slices of 3 mm."""
SUBSETS = [[], ["t1"], ["flair"], ["t1ce"], ["t1", "flair"], ["t1", "t1ce"], ["flair", "t1ce"]]


@pytest.fixture(scope="module")
def network():
    """The network with attention, its norms no longer fresh, its weights as at the start."""
    torch.manual_seed(0)
    model = create_with_attention(read_recipe(channels_rows.RECIPE).deployment.model)
    with torch.no_grad():
        model(torch.rand(4, 3, 64, 64))
    return model.eval()


def make_cell(row, fold, dice):
    """A result in which every scan of a fold has these Dice, one a set of missing sequences."""
    cases = {f"LGG_{25 * fold + number:03d}": dice for number in range(25)}
    patients = {"trained": 50, "held_out": 25}
    content = {"epochs": 8, "steps": 900, "patients": patients, "missing": SUBSETS, "cases": cases}
    return {Cell(row, fold): content}


def make_study(differences):
    """All cells; with each set of missing sequences attention is better by one difference."""
    cells = {}
    for fold in range(3):
        cells |= make_cell(REFERENCE, fold, [0.5] * 7)
        cells |= make_cell(OPPONENT, fold, [0.5 + each for each in differences])
    return cells


def test_a_channel_is_there_unless_it_is_0_throughout():
    x = torch.zeros(2, 3, 5, 5)
    x[0, 0, 4, 4], x[1, 1, 0, 0], x[1, 2] = 0.1, -0.1, 1
    assert find_present(x)[:, :, 0, 0].tolist() == [[1, 0, 0], [0, 1, 1]]


def test_features_of_a_channel_that_lacks_change_nothing():
    torch.manual_seed(0)
    attention = ChannelAttention(16, 3)
    channels = [torch.randn(2, 16, 6, 5) for _ in range(3)]
    spoilt = [channels[0], 100 * torch.randn(2, 16, 6, 5), channels[2]]
    without, with_all = (torch.tensor([[1.0, there, 1]] * 2)[..., None, None] for there in (0, 1))
    assert torch.equal(attention(channels, without), attention(spoilt, without))
    assert not torch.allclose(attention(channels, with_all), attention(spoilt, with_all))


def test_one_channel_alone_has_all_the_weight_and_none_is_a_number():
    torch.manual_seed(0)
    attention = ChannelAttention(16, 3)
    channels = [torch.randn(1, 16, 6, 5) for _ in range(3)]
    alone, none = (torch.tensor([[0.0, there, 0]])[..., None, None] for there in (1, 0))
    torch.testing.assert_close(attention(channels, alone), attention.values[1](channels[1]))
    assert attention(channels, none).abs().max() == 0


def test_what_is_known_of_a_missing_channel_does_not_change_the_logits(network):
    x = torch.rand(1, 3, 64, 64)
    lacking = x.clone()
    lacking[:, 1] = 0
    stem = network.stem
    kept = stem.embedding.detach().clone(), stem.attention.values[1].weight.detach().clone()
    with torch.no_grad():
        before = network(x), network(lacking)
        stem.embedding[1] += 1
        stem.attention.values[1].weight.mul_(-2)
        after = network(x), network(lacking)
        stem.embedding.copy_(kept[0])
        stem.attention.values[1].weight.copy_(kept[1])
    assert torch.equal(before[1], after[1])
    assert not torch.allclose(before[0], after[0])
    assert not torch.allclose(*before)


def test_images_of_a_batch_do_not_see_each_other(network):
    x = torch.rand(3, 3, 64, 64)
    x[0, 1] = x[2, 0] = x[2, 2] = 0
    with torch.no_grad():
        apart = torch.cat([network(image[None]) for image in x])
        torch.testing.assert_close(network(x), apart, rtol=1e-4, atol=1e-4)


def test_a_channel_is_told_apart_by_its_embedding():
    torch.manual_seed(0)
    stem = ChannelStem(read_recipe(channels_rows.RECIPE).deployment.model).eval()
    with torch.no_grad():
        for value in stem.attention.values[1:]:
            value.load_state_dict(stem.attention.values[0].state_dict())
        x = torch.rand(1, 3, 32, 32)
        swapped = x[:, [1, 0, 2]]
        assert not torch.allclose(stem(x), stem(swapped))
        stem.embedding.zero_()
        torch.testing.assert_close(stem(x), stem(swapped))


@pytest.mark.parametrize("missing", SUBSETS)
def test_the_exported_graph_knows_what_is_missing(network, missing, graph_of_network):
    x = torch.rand(1, 3, 64, 64)
    for number, name in enumerate(("t1", "flair", "t1ce")):
        x[:, number] *= name not in missing
    session = open_graph(graph_of_network, backend="onnxruntime", threads=1, precision="f32")
    with torch.no_grad():
        expected = network(x).numpy()
    # Weights are stored in 16 bits.
    assert np.abs(session.predict(x.numpy()) - expected).max() < 0.01 * np.abs(expected).max()


@pytest.fixture(scope="module")
def graph_of_network(network):
    return export_onnx(network, input_shape=(1, 3, 64, 64), quickly=True)


def test_networks_differ_in_fusion_and_depth_alone():
    base = read_recipe(channels_rows.RECIPE).deployment.model
    networks = {name: row.change(base) for name, row in ROWS.items()}
    assert networks[OPPONENT] == base
    assert [level.block for level in networks[REFERENCE].levels] == [
        level.block for level in base.levels
    ]
    with torch.device("meta"):
        counts = {name: count_parameters(row.create(networks[name])) for name, row in ROWS.items()}
    # The time that attention takes buys concatenation more weights.
    assert counts[OPPONENT] < counts[REFERENCE] < 1_000_000


def test_rows_of_a_fold_have_one_seed_one_split_and_channel_dropout():
    one, other = (channels_rows.make_recipe(Cell(row, 2)) for row in ROWS)
    assert one.data == other.data
    assert one.augment == other.augment
    assert one.training == other.training
    assert one.training.seed == 2
    assert min(one.augment.channel_dropout) > 0
    held_out = [
        patient
        for fold in range(3)
        for patient in split_cases(PATIENTS, channels_rows.make_recipe(Cell(REFERENCE, fold)).data)[
            "val"
        ]
    ]
    assert sorted(held_out) == PATIENTS
    assert [cell.row for cell in channels_rows.list_cells()] == list(ROWS) * 3


def test_the_page_decides_on_all_sequences_and_on_missing_ones_apart(tmp_path):
    cells = make_study([0.0, 0.05, 0.01, 0.02, 0.02, 0.02, 0.0])
    for cell, content in cells.items():
        write_json(tmp_path / f"{cell.name}.json", content)
    assert channels_page.read_cells(tmp_path) == cells
    page = channels_page.format_page(cells, None)
    lines = {line.split("|")[1].strip(): line for line in page.splitlines() if "|" in line}
    decided = page.partition("## What decides")[2].partition("## Each")[0]
    assert "equal within the margin" in decided.partition("mean over")[0]
    # A mean of six: 0.05, 0.01, 0.02, 0.02, 0.02 and 0.
    assert "+0.0200 (+0.0200 to +0.0200)" in lines["mean over 6 sets of missing ones"]
    assert "better by more than the margin" in lines["mean over 6 sets of missing ones"]
    assert "+0.0500 (+0.0500 to +0.0500)" in lines["t1"]
    assert lines["flair"].split("|")[-2].strip() == "0 and 0"
    assert "75 patients" in page
    assert "not trained" not in page


def test_the_page_says_what_is_not_trained():
    assert "No pair" in channels_page.format_page({}, None)
    cells = make_cell(REFERENCE, 0, [0.5] * 7) | make_cell(OPPONENT, 0, [0.75] * 7)
    page = channels_page.format_page(cells, None)
    assert "4 of 6 cells are not trained" in page
    assert "not decided" in page
    assert "better" not in page.partition("## What decides")[2]


def make_scans(folder, patients):
    """Made-up scans of three sequences; a block is bright in FLAIR."""
    random = np.random.default_rng(0)
    for number in range(patients):
        truth = np.zeros((48, 48, 3), np.uint8)
        truth[10 + number : 30, 12:30, 1:] = 1
        for channel in range(3):
            image = random.integers(40, 90, truth.shape) + 100 * truth * (channel == 1)
            path = folder / "imagesTr" / f"LGG_{number:03d}_{channel:04d}.nii.gz"
            write_nifti(path, image.astype(np.uint8), SQUARE)
        write_nifti(folder / "labelsTr" / f"LGG_{number:03d}.nii.gz", truth, SQUARE)
    index = {
        "channel_names": {"0": "T1", "1": "FLAIR", "2": "T1Gd"},
        "labels": {"background": 0, "tumour": 1},
        "numTraining": patients,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(index))
    return folder


def test_a_cell_is_trained_scored_and_kept_once(tmp_path, monkeypatch):
    data = make_scans(tmp_path / "lgg", patients=6)
    monkeypatch.setattr(channels_rows, "EPOCHS", 1)
    monkeypatch.setattr(channels_rows, "SIZE_PX", (48, 48))
    cell = Cell(OPPONENT, 1)
    arguments = argparse.Namespace(data=data, runs=tmp_path / "runs", cache=None)
    study.train_cell(cell, tmp_path, arguments)
    path = tmp_path / f"{cell.name}.json"
    kept = read_json(path)
    assert kept["patients"] == {"trained": 4, "held_out": 2}
    assert kept["missing"] == SUBSETS
    assert len(kept["cases"]) == 2
    for scores in kept["cases"].values():
        assert len(scores) == len(SUBSETS)
        assert all(0 <= dice <= 1 for dice in scores)
    before = path.stat().st_mtime_ns
    study.train_cell(cell, tmp_path, arguments)
    assert path.stat().st_mtime_ns == before


def test_scores_are_of_what_a_segmenter_finds_without_each_sequence(tmp_path):
    """A segmenter that thresholds FLAIR finds the block, and nothing where FLAIR is missing."""
    data = make_scans(tmp_path / "lgg", patients=1)
    recipe = channels_rows.make_recipe(Cell(REFERENCE, 0))
    case = study.list_recipe_cases(recipe, data)[0]

    class Bright(torch.nn.Module):
        def forward(self, x):
            # The median of what is bright becomes 0.35, so that of the block is above 0.7.
            flair = x[:, 1:2, ::2, ::2]
            return torch.cat([0.6 + 0 * flair, flair], 1)

    segmenter = study.open_network(Bright(), recipe)
    whole, without_t1, without_flair, *_ = study.score_subsets(segmenter, case, SUBSETS)
    assert whole == without_t1 > 0.9
    assert without_flair == 0
