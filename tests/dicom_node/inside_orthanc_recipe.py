"""Runs in a namespace, see test_orthanc_recipe.py: the Orthanc recipe of docs/deploy.md."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node_for_tests import send, wait_for, write_cine
from orthanc_for_tests import DICOM_PORT, Orthanc, is_inside

pytestmark = pytest.mark.skipif(not is_inside(), reason="runs in test_orthanc_recipe.py")
DEPLOY = Path(__file__).parents[2] / "docs" / "deploy.md"


def read_blocks():
    """The blocks of the recipe by their language."""
    recipe = DEPLOY.read_text("utf-8").partition("## Orthanc")[2]
    return dict(re.findall(r"```(\w+)\n(.*?)```", recipe, re.DOTALL)[:3])


def test_a_series_that_orthanc_forwards_comes_back_as_a_seg(tmp_path):
    blocks = read_blocks()
    (tmp_path / "serve.toml").write_text(
        blocks["toml"] + "\n[http]\nport = 0\nhealth_port = 0\n", "utf-8"
    )
    script = tmp_path / "forward.lua"
    script.write_text(blocks["lua"], "utf-8")
    settings = json.loads(blocks["json"]) | {"LuaScripts": [str(script)], "StableAge": 1}
    log = (tmp_path / "serve.log").open("wb")
    server = subprocess.Popen(
        [sys.executable, "-m", "bedside", "serve", "--config", "serve.toml"],
        cwd=tmp_path, stdout=log, stderr=log,
    )  # fmt: skip
    orthanc = Orthanc(tmp_path, **settings)
    try:
        path = write_cine(tmp_path / "cine.dcm")
        wait_for(lambda: b"dicom" in (tmp_path / "serve.log").read_bytes().lower())
        is_sent, text = send(("127.0.0.1", DICOM_PORT), path, title="ORTHANC")
        assert is_sent, text

        def find_seg():
            return [
                each for each in orthanc.get("series?expand")
                if each["MainDicomTags"]["Modality"] == "SEG"
            ]  # fmt: skip

        wait_for(find_seg, timeout_s=60)
        (study,) = orthanc.get("studies?expand")
        assert len(study["Series"]) == 2
        uid = study["MainDicomTags"]["StudyInstanceUID"]
        found = orthanc.get(f"dicom-web/studies/{uid}/series")
        assert {each["00080060"]["Value"][0] for each in found} == {"US", "SEG"}
        assert uid not in (tmp_path / "serve.log").read_text()
    finally:
        for name in ("serve.log", "orthanc.log"):  # which pytest shows if it fails
            sys.stderr.write((tmp_path / name).read_text()[-3000:])
        server.terminate()
        server.wait(60)
        orthanc.close()
        log.close()
