"""libkv as others use it: installed under a prefix, found by pkg-config, the guide's program compiled and run."""

import os
import pathlib
import re
import subprocess

import pytest

from kvd_process import BUILD, Kvd

ROOT = pathlib.Path(os.environ.get("KVD_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
SANITIZE = os.environ.get("KVD_SANITIZE", "")
PROGRAM = re.compile(r"^```c\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Kvd(tmp_path_factory.mktemp("data")) as server:
        yield server


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    prefix = tmp_path_factory.mktemp("prefix")
    # Only what libkv installs: the rest of the tree need not be built for this.
    subprocess.run(["cmake", "-DCMAKE_INSTALL_PREFIX=" + str(prefix), "-P", BUILD / "client" / "cmake_install.cmake"],
                   check=True, capture_output=True)
    return prefix


def compile_program(prefix, folder, source):
    (pc_file,) = prefix.rglob("libkv.pc")
    # The file names the prefix that was configured; this one is another.
    flags = subprocess.run(["pkg-config", f"--define-variable=prefix={prefix}", "--cflags", "--libs", "libkv"],
                           check=True, capture_output=True, text=True,
                           env={**os.environ, "PKG_CONFIG_PATH": str(pc_file.parent)}).stdout.split()
    (folder / "example.c").write_text(source)
    subprocess.run(["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "example.c", "-o", "example", *flags,
                    f"-Wl,-rpath,{pc_file.parent.parent}"], check=True, cwd=folder)
    return folder / "example"


@pytest.mark.skipif(SANITIZE != "", reason="a plain program cannot load a sanitized library")
def test_guide_program(prefix, server, tmp_path):
    (source,) = PROGRAM.findall((ROOT / "docs" / "guide" / "libkv.md").read_text())
    program = compile_program(prefix, tmp_path, source)
    result = subprocess.run([program, f"127.0.0.1:{server.client_port}"], capture_output=True, text=True, timeout=30)
    assert result.returncode == 0, result.stderr
    assert "visits = two\n" in result.stdout


@pytest.mark.skipif(SANITIZE != "", reason="a plain program cannot load a sanitized library")
def test_header_in_cplusplus_and_messages(prefix, tmp_path):
    source = """#include <kv/async.h>
#include <kv/kv.pb-c.h>
int main(void) { Kv__Request request = KV__REQUEST__INIT; return (int)kv__request__get_packed_size(&request); }
"""
    program = compile_program(prefix, tmp_path, source)
    assert subprocess.run([program]).returncode == 0


def test_exports_are_ours():
    (library,) = [path for path in (BUILD / "client").glob("libkv.so.*.*")]
    output = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    names = {line.split()[-1].split("@")[0] for line in output.splitlines()} - {"LIBKV_0"}
    assert {"kv_client_open", "kv_async_call", "kv_range_next", "kv__request__init"} <= names
    assert [name for name in names if not name.startswith(("kv_", "kv__"))] == []
    assert [name for name in names if name.startswith(("kv_session", "kv_buf", "kv_frame", "kv_arena"))] == []
    # Every function that a header declares is there.
    for header in (ROOT / "client" / "include" / "kv").glob("*.h"):
        text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.DOTALL)
        for name in re.findall(r"^(?!typedef)[a-z].*?\b(kv_[a-z_]+)\(", text, re.MULTILINE):
            assert name in names, name


def test_soname():
    output = subprocess.run(["objdump", "-p", BUILD / "client" / "libkv.so"], check=True, capture_output=True,
                            text=True).stdout
    assert re.search(r"SONAME +libkv\.so\.0$", output, re.MULTILINE)


UNREAD = """#include <kv/kv.h>
#include <stdio.h>

static struct kv_watch *open_watch(struct kv_client *client)
{
    struct kv_watch_options options = {.range = {.kind = KV_RANGE_ALL}, .progress_ms = 100};
    struct kv_watch *watch = NULL;

    return kv_watch_open(client, &options, &watch, NULL) == 0 && kv_watch_started(watch, 30000, NULL, NULL) == 0 ? watch
                                                                                                               : NULL;
}

static int take(struct kv_watch *watch, unsigned timeout_ms)
{
    struct kv_event_batch *batch = NULL;
    int status = kv_watch_next(watch, timeout_ms, &batch, NULL);

    kv_event_batch_free(batch);
    return status;
}

int main(int argc, char **argv)
{
    struct kv_client_options options = {.endpoints = argv[argc - 1]};
    struct kv_client *client;
    struct kv_watch *unread;
    struct kv_watch *read;
    int n = 0;

    if (kv_client_open(&options, &client, NULL) < 0 || !(unread = open_watch(client)) || !(read = open_watch(client))) {
        return 1;
    }
    for (int i = 0; i < 10; i++) {
        if (take(read, 30000) != 1) {
            return 2;
        }
    }
    while (take(unread, 0) == 1) {
        n++;
    }
    printf("%d\\n", n);
    kv_watch_close(unread);
    kv_watch_close(read);
    kv_client_close(client);
    return 0;
}
"""


@pytest.mark.skipif(SANITIZE != "", reason="a plain program cannot load a sanitized library")
def test_progress_that_is_not_read_does_not_pile_up(prefix, server, tmp_path):
    program = compile_program(prefix, tmp_path, UNREAD)
    result = subprocess.run([program, f"127.0.0.1:{server.client_port}"], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, "1\n")
