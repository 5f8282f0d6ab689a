"""The table of formats that a bundle can be exported to.

A new format is a row here and a module with a function from `Options` to `Converter`.
"""

from bedside.errors import UsageError
from bedside.export.formats.format import Format

FORMATS = (
    Format(
        name="openvino",
        kind="graph",
        package="openvino",
        maker="bedside.export.formats.openvino:make_converter",
        precisions=("f32", "bf16", "int8"),
    ),
    Format(
        name="onnx",
        kind="graph",
        package="onnxruntime",
        maker="bedside.export.formats.onnx:make_converter",
        precisions=("f32", "int8"),
    ),
    Format(
        name="stablehlo",
        kind="graph",
        package="jax",
        maker="bedside.export.formats.stablehlo:make_converter",
        precisions=("f32", "bf16"),
    ),
    Format(
        name="torch",
        kind="torch",
        package="torch",
        maker="bedside.export.formats.torch:make_converter",
        precisions=("f32", "bf16"),
    ),
    Format(
        name="litert",
        kind="torch",
        package=None,
        elsewhere="python -m venv litert && litert/bin/pip install torch==2.13.0 "
        "litert-torch==0.10.0 ai-edge-litert==2.3.0",
        maker="bedside.export.formats.litert:make_converter",
        spatial_dims=(2,),
        precisions=("f32", "int8"),
        flat="its depthwise conv3d is illegal and its conv3d of stride 2 crashes",
    ),
    Format(
        name="vela",
        kind="torch",
        package=None,
        elsewhere="python -m venv litert && litert/bin/pip install torch==2.13.0 "
        "litert-torch==0.10.0 ai-edge-litert==2.3.0 ethos-u-vela==5.2.0",
        maker="bedside.export.formats.vela:make_converter",
        spatial_dims=(2,),
        precisions=("int8",),
        flat="LiteRT's depthwise conv3d is illegal and its conv3d of stride 2 crashes",
    ),
    Format(
        name="rknn",
        kind="graph",
        package=None,
        elsewhere="python3.11 -m venv rknn && rknn/bin/pip install rknn-toolkit2==2.5.0",
        maker="bedside.export.formats.rknn:make_converter",
        spatial_dims=(2,),
        precisions=("f16",),
        flat="its table of operations has two-dimensional ones only",
    ),
    Format(
        name="executorch",
        kind="torch",
        package="executorch",
        maker="bedside.export.formats.executorch:make_converter",
        spatial_dims=(2,),
        flat="its XNNPACK has no conv3d",
    ),
    Format(
        name="coreml",
        kind="torch",
        package="coremltools",
        maker="bedside.export.formats.coreml:make_converter",
        spatial_dims=(2,),
        flat="it has no upsampling over three axes",
    ),
)


def find_format(name: str) -> Format:
    """Find a format by its name.

    Raises:
        UsageError: If there is none.

    Example:
        >>> find_format("openvino").precisions
        ('f32', 'bf16', 'int8')
    """
    for each in FORMATS:
        if each.name == name:
            return each
    known = ", ".join(each.name for each in FORMATS)
    raise UsageError(f'no format "{name}"; choose one of {known}.')
