"""`bedside serve` as a process: it opens, answers, and ends in order."""

import os
import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from bedside.cli.main import main
from servers_for_tests import PATIENCE_S, make_png

CONFIG = """
drain_s = 100.0
[[model]]
name = "heart"
bundle = "camus-4ch"
pinned = true
[http]
port = 0
health_port = 0
"""


@pytest.fixture
def process(tmp_path):
    (tmp_path / "serve.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "bedside", "serve", "--config", "serve.toml"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env={**os.environ, "HOME": "/"}
    )
    yield process
    process.kill()
    process.wait()
    process.stderr.close()


def read_address(process):
    return re.search(r"http://\S+?(?=/health|$)", process.stderr.readline().strip())[0]


def test_it_serves_until_a_signal_and_answers_what_it_has_begun_to_take(process):
    address, health = read_address(process), read_address(process)
    assert httpx.get(health + "/health/live", timeout=PATIENCE_S).status_code == 200
    answer = httpx.post(f"{address}/segment?model=heart", content=make_png(), timeout=PATIENCE_S)
    assert answer.status_code == 200
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), PATIENCE_S) as connection:
        body = make_png()
        connection.sendall(
            b"POST /segment?model=heart HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 100")
        process.send_signal(signal.SIGTERM)
        assert any("Stopping" in line for line in iter(process.stderr.readline, ""))
        connection.sendall(body)
        # Its image was not there at the signal, so it is refused, but in words.
        assert connection.recv(4096).startswith(b"HTTP/1.1 503")
    assert process.wait(PATIENCE_S) == 0


def test_check_says_what_is_served_and_what_is_missing(tmp_path, capsys):
    path = tmp_path / "serve.toml"
    path.write_text(CONFIG)
    assert main(["serve", "--config", str(path), "--check"]) == 0
    said = capsys.readouterr().out
    assert "for this machine, no key, without TLS" in said
    assert "model  heart: " in said
    path.write_text(CONFIG.replace("camus-4ch", "gone.bedside"))
    assert main(["serve", "--config", str(path), "--check"]) == 3
    assert 'MISSING no bundle "gone.bedside"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[http]\nhost = "0.0.0.0"', "tables [[key]]"),
        ('[http]\nhots = ["a"]', 'Did you mean "hosts"?'),
        ("[http]\nport = 70000", "expected 0 to 65535"),
        ('[[key]]\nname = "a"\nsha256 = "abc"', "64 hexadecimal digits"),
        ('[[model]]\nname = "a b"', "expected letters"),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_refused(tmp_path, capsys, text, said):
    path = tmp_path / "serve.toml"
    path.write_text(text)
    assert main(["serve", "--config", str(path)]) == 3
    assert said in capsys.readouterr().err


def test_a_new_key_is_shown_once_and_fits_its_table(tmp_path, capsys):
    assert main(["serve", "--new-key", "gateway"]) == 0
    printed = capsys.readouterr().out
    path = tmp_path / "serve.toml"
    path.write_text(printed + '\n[http]\nhost = "0.0.0.0"')
    assert main(["serve", "--config", str(path), "--check"]) == 0
    assert "WARNING images and keys travel unencrypted" in capsys.readouterr().out
