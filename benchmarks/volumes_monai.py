"""The same scan through MONAI, as its bundles do it: transforms, sliding window, argmax, saved."""

import argparse
import time
from pathlib import Path

import torch
from monai import transforms
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer

from bedside.models import create
from bedside.spec import DeploymentSpec, Resample, WindowLevel, read_recipe
from bedside.training.checkpoint import load_tensors


def main() -> None:
    """Segment one scan and print the seconds it took in the network and in all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scan", type=Path)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="of a finished run; random ones if none")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    spec = read_recipe(arguments.recipe).deployment
    torch.manual_seed(0)
    network = create(spec.model).eval()
    if arguments.weights:
        network.load_state_dict(load_tensors(arguments.weights)[0], strict=True)
    stride = spec.model.logit_stride
    spent = 0.0

    def predict(window: torch.Tensor) -> torch.Tensor:
        nonlocal spent
        begin = time.perf_counter()
        # MONAI blends at the input's size; its networks give logits of that size.
        logits = torch.nn.functional.interpolate(network(window), scale_factor=stride)
        spent += time.perf_counter() - begin
        return logits

    begin = time.perf_counter()
    before = _transforms(spec)
    post = transforms.Compose(
        [
            transforms.Invertd("pred", before, orig_keys="image", nearest_interp=False),
            transforms.AsDiscreted("pred", argmax=True),
            transforms.SaveImaged(
                "pred", output_dir=arguments.output, output_dtype="uint8", print_log=False
            ),
        ]
    )
    inferer = SlidingWindowInferer(
        spec.input.size_px, sw_batch_size=1, overlap=spec.windows.overlap, mode="gaussian"
    )
    with torch.inference_mode():
        data = before({"image": str(arguments.scan)})
        pred = inferer(data["image"][None].as_tensor(), predict)[0]
        data["pred"] = MetaTensor(pred, meta=data["image"].meta)
        del pred
        post(data)
    print(f"network_s {spent:.3f}")
    print(f"total_s {time.perf_counter() - begin:.3f}")


def _resize(step: Resample) -> transforms.MapTransform:
    """Resampling to a spacing, or to a number of voxels of which MONAI keeps those of -1."""
    if step.size_vox is None:
        assert step.spacing_mm is not None  # the step has one of them
        return transforms.Spacingd("image", pixdim=step.spacing_mm[::-1], mode="bilinear")
    size = [voxels or -1 for voxels in step.size_vox[::-1]]
    return transforms.Resized("image", spatial_size=size, mode="trilinear", anti_aliasing=True)


def _transforms(spec: DeploymentSpec) -> transforms.Compose:
    """Say the steps of the deployment in MONAI's words."""
    resample = next(step for step in spec.preprocess if isinstance(step, Resample))
    window = next(step for step in spec.preprocess if isinstance(step, WindowLevel))
    return transforms.Compose(
        [
            transforms.LoadImaged("image", ensure_channel_first=True),
            transforms.Orientationd("image", axcodes="LPS", labels=None),
            _resize(resample),
            transforms.ScaleIntensityRanged(
                "image",
                a_min=window.level - window.width / 2,
                a_max=window.level + window.width / 2,
                b_min=0.0,
                b_max=1.0,
                clip=True,
            ),
        ]
    )


if __name__ == "__main__":
    main()
