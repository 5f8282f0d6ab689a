import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bedside.errors import SpecError
from training_queue import Queue, choose_next, read_jobs

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "training_queue.py"


def write_list(folder, *jobs):
    text = "".join(
        f'[[jobs]]\nname = "{name}"\nminutes = {minutes}\nresult = "{folder / name}.json"\n'
        f"command = '''{sys.executable} -c \"{code}\"'''\n"
        for name, minutes, code in jobs
    )
    path = folder / "list.toml"
    path.write_text(text)
    return path


def touch(folder, name):
    return f"open('{folder / name}.json', 'w'); print('{name} ran')"


def test_the_smallest_job_that_is_not_done_comes_first(tmp_path):
    path = write_list(tmp_path, ("large", 9, "1"), ("small", 1, "1"), ("middle", 3, "1"))
    jobs = read_jobs(path)
    assert choose_next(jobs, taken=set()).name == "small"
    jobs[0].result.write_text("{}")
    assert choose_next(jobs, taken=set()).name == "middle"
    assert choose_next(jobs, taken={"middle", "large"}) is None


def test_a_queue_does_what_is_not_done_and_goes_on_after_a_failure(tmp_path, capsys):
    path = write_list(
        tmp_path,
        ("bad", 1, "raise SystemExit(3)"),
        ("empty", 2, "1"),
        ("good", 3, touch(tmp_path, "good")),
        ("before", 4, "raise SystemExit(4)"),
    )
    (tmp_path / "before.json").write_text("{}")
    logs = tmp_path / "logs"
    logs.mkdir()
    Queue(path, logs, places=2).run(pause_s=0.05)
    status = dict(line.split(maxsplit=1) for line in (logs / "status.txt").read_text().splitlines())
    assert status["good"] == "done"
    assert status["before"] == "done"
    assert "exit code 3" in status["bad"]
    assert "no " in status["empty"]
    assert (logs / "good.log").read_text() == "good ran\n"
    assert not (logs / "before.log").exists()
    assert "good: done" in capsys.readouterr().out


def test_a_job_with_an_unknown_setting_is_refused(tmp_path):
    path = write_list(tmp_path, ("a", 1, "1"))
    path.write_text(path.read_text() + "threads = 2\n")
    with pytest.raises(SpecError, match="threads"):
        read_jobs(path)


def test_a_killed_queue_takes_its_jobs_and_their_children_with_it(tmp_path):
    child = "import time; time.sleep(60)"
    code = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', '" + child + "']); "
        f"open('{tmp_path}/pids', 'w').write(str(p.pid)); p.wait()"
    )
    path = write_list(tmp_path, ("long", 1, code))
    command = [sys.executable, str(SCRIPT), str(path), "--logs", str(tmp_path / "logs")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as queue:
        pid = wait_for(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text())
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "another queue works" in second.stderr
        queue.send_signal(signal.SIGTERM)
        assert queue.wait(20) == 143
    assert wait_for(lambda: not is_alive(int(pid)))


def wait_for(condition, *, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    return None


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # An orphan that nobody has waited for yet is dead all the same.
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
