"""kvd as a service: what an installation puts where, the unit that starts it, and what it tells systemd."""

import os
import re
import shutil
import signal
import socket
import subprocess

import pytest

from kvcluster import HOST, KVD, PATIENCE_S, ROOT
from kvd_process import BUILD

SANITIZE = os.environ.get("KVD_SANITIZE", "")


class Installed:
    """What cmake --install put under a folder that stands for the root of the system."""

    def __init__(self, root):
        self.root = root
        environment = {**os.environ, "DESTDIR": str(root)}
        result = subprocess.run(["cmake", "--install", BUILD], capture_output=True, text=True, env=environment)
        assert result.returncode == 0, result.stderr
        cache = (BUILD / "CMakeCache.txt").read_text()
        self.prefix = re.search(r"^CMAKE_INSTALL_PREFIX:PATH=(.*)$", cache, re.MULTILINE).group(1)

    def at(self, path):
        return self.root / str(path).lstrip("/")

    def one(self, pattern):
        (path,) = self.at(self.prefix).glob(pattern)
        return path


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return Installed(tmp_path_factory.mktemp("root"))


def exec_start(unit):
    return re.search(r"^ExecStart=(\S+) (.*)$", unit.read_text(), re.MULTILINE).groups()


def test_all_parts_are_there(installed):
    for program in ("kvd", "kvctl", "kvbench"):
        assert os.access(installed.one(f"bin/{program}"), os.X_OK)
        assert subprocess.run([installed.one(f"bin/{program}"), "--help"], capture_output=True).returncode == 0
    # Every public header, and those that are made.
    headers = {path.name for path in (ROOT / "client/include/kv").glob("*.h")} | {"status.h", "kv.pb-c.h"}
    assert headers == {path.name for path in installed.one("include/kv").iterdir()}
    assert installed.one("share/kvd/kv.proto").exists()
    assert "complete " in installed.one("share/bash-completion/completions/kvctl").read_text()
    assert installed.one("lib*/**/libkv.so").exists()
    sample = installed.one("share/doc/kvd/examples/kvd.yaml")
    result = subprocess.run([installed.one("bin/kvd"), f"--config={sample}", "--check-config"], capture_output=True)
    assert result.returncode == 0


def test_the_unit_starts_what_is_installed(installed):
    unit = installed.one("lib/systemd/system/kvd.service")
    program, arguments = exec_start(unit)
    assert installed.at(program) == installed.one("bin/kvd")
    assert arguments == "--config /etc/kvd/kvd.yaml"
    assert "@" not in unit.read_text()


def test_systemd_takes_the_unit(installed, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    unit = installed.one("lib/systemd/system/kvd.service")

    def verify(text):
        """With the program where it is now: systemd looks for it."""
        copy = tmp_path / "kvd.service"
        copy.write_text(text)
        return subprocess.run(["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True)

    program, _ = exec_start(unit)
    text = unit.read_text().replace(program, str(installed.at(program)))
    result = verify(text)
    assert result.returncode == 0 and str(tmp_path) not in result.stderr, result.stderr
    assert verify(text.replace("/bin/kvd", "/bin/nothing")).returncode != 0
    assert str(tmp_path) in verify(text.replace("RestartSec", "RestartSeconds")).stderr


@pytest.mark.skipif(SANITIZE != "", reason="a plain program cannot load a sanitized library")
def test_a_program_finds_libkv_by_pkg_config(installed, tmp_path):
    pc_file = installed.one("lib*/**/pkgconfig/libkv.pc")
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "libkv"], check=True, capture_output=True, text=True,
                           env={**os.environ, "PKG_CONFIG_PATH": str(pc_file.parent),
                                "PKG_CONFIG_SYSROOT_DIR": str(installed.root)}).stdout.split()
    (tmp_path / "tiny.c").write_text("""#include <kv/client.h>
#include <stdio.h>
int main(void) { return puts(kv_status_name(KV_OK)) < 0; }
""")
    subprocess.run(["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "tiny.c", "-o", "tiny", *flags,
                    f"-Wl,-rpath,{pc_file.parent.parent}"], check=True, cwd=tmp_path)
    result = subprocess.run([tmp_path / "tiny"], check=True, capture_output=True, text=True)
    assert result.stdout == "OK\n"
    assert f"{installed.root}" in " ".join(flags)


def test_systemd_is_told(tmp_path):
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(PATIENCE_S)
        process = subprocess.Popen([KVD, f"--data-dir={tmp_path / 'data'}", f"--client-listen={HOST}:0",
                                    f"--peer-listen={HOST}:0", "--http-listen="], stdin=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, env={**os.environ, "NOTIFY_SOCKET": address})
        try:
            assert manager.recv(4096) == b"READY=1"
            process.send_signal(signal.SIGTERM)
            assert manager.recv(4096) == b"STOPPING=1"
            assert process.wait(PATIENCE_S) == 0
            # Each once: nothing more lies in the socket.
            manager.setblocking(False)
            with pytest.raises(BlockingIOError):
                manager.recv(4096)
        finally:
            process.kill()
            process.wait()


def test_systemd_hears_nothing_of_a_start_that_fails(tmp_path):
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.setblocking(False)
        result = subprocess.run([KVD, "--data-dir=/dev/null", f"--client-listen={HOST}:0",
                                 f"--peer-listen={HOST}:0", "--http-listen="], stdin=subprocess.DEVNULL,
                                capture_output=True, env={**os.environ, "NOTIFY_SOCKET": address})
        assert result.returncode == 2
        with pytest.raises(BlockingIOError):
            manager.recv(4096)
