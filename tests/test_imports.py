"""What a process loads: an edge box has numpy and one runtime, and no time to lose."""

import os
import subprocess
import sys

import pytest

HEAVY = ("torch", "onnx", "nncf", "monai", "highdicom", "matplotlib")


def modules_after(statement):
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import bedside.segment",
        "import bedside.evaluation.cases, bedside.io.source, bedside.bundle",
        "import bedside.cli.segment, bedside.cli.demo, bedside.cli.evaluate",
        "import bedside.cli.recipe, bedside.planning",
        "import bedside.batch.run, bedside.batch.worker, bedside.batch.worker_pool, "
        "bedside.batch.ray",
    ],
)
def test_the_data_way_leaves_the_model_way_out(statement):
    assert not modules_after(statement) & set(HEAVY)


def test_asking_for_help_loads_no_arrays():
    statement = "from bedside.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    assert not modules_after(statement) & {"numpy", "cv2", "openvino", "pydicom", *HEAVY}


def test_reading_dicom_leaves_requests_out_and_to_others(tmp_path):
    (tmp_path / "requests.py").write_text("NAME = 'ours'\n")
    code = (
        "import sys, bedside.io.dicom.files, pydicom.data\n"
        "assert 'requests' not in sys.modules\n"
        "import requests\n"
        "assert requests.NAME == 'ours' and pydicom.data.get_testdata_file('CT_small.dcm')\n"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": path})
