"""The layers of this project, and for each check a negative control that shows that it can fail."""

import os
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import layers  # noqa: E402

ROOT = pathlib.Path(os.environ.get("KVD_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
BUILD = pathlib.Path(os.environ.get("KVD_BUILD_DIR", ROOT / "build" / "dev"))

ARCHIVES = {
    "machine": BUILD / "server" / "libkvmachine.a",
    "raft": BUILD / "raft" / "libkvraft.a",
    "node": BUILD / "server" / "libkvnode.a",
}


def test_includes_point_one_way():
    assert layers.check_includes(ROOT) == []


def test_files_and_functions_are_short():
    assert layers.check_lengths(ROOT) == []


@pytest.mark.parametrize("part", sorted(ARCHIVES))
def test_core_calls_nothing_outside(part):
    assert layers.check_symbols(part, ARCHIVES[part]) == []


@pytest.mark.parametrize("path, included", [
    ("common/arena.c", "proto/frame.h"),
    ("proto/frame.c", "server/machine/machine.h"),
    ("server/machine/tree.c", "raft/wal.h"),
    ("raft/replica.c", "server/machine/machine.h"),
    ("raft/replica.c", "server/node/node.h"),
    ("raft/replica.c", "proto/kv.pb-c.h"),
    ("server/node/node.c", "server/net/listener.h"),
    ("client/session.c", "raft/env.h"),
    ("client/kvctl/main.c", "server/node/config.h"),
])
def test_wrong_arrow_is_found(tmp_path, path, included):
    source = tmp_path / path
    source.parent.mkdir(parents=True)
    source.write_text(f'#include <stdint.h>\n#  include "{included}"\n')
    assert [c for c in layers.check_includes(tmp_path) if included in c and path in c]


def test_right_arrows_pass(tmp_path):
    source = tmp_path / "server" / "node" / "node.c"
    source.parent.mkdir(parents=True)
    source.write_text('#include "server/node/node.h"\n#include "raft/wal.h"\n#include "common/bytes.h"\n')
    assert layers.check_includes(tmp_path) == []


def test_long_function_and_file_are_found(tmp_path):
    (tmp_path / "common").mkdir()
    body = "    call();\n"
    (tmp_path / "common" / "a.c").write_text("int f(void)\n{\n" + body * 71 + "}\n")
    (tmp_path / "common" / "b.c").write_text("int f(void)\n{\n" + body * 70 + "}\n")
    (tmp_path / "common" / "c.c").write_text("// one more\n" * 801)
    complaints = layers.check_lengths(tmp_path)
    assert [c.split(":")[0] for c in complaints] == ["common/a.c", "common/c.c"]


def make_archive(folder, member, code):
    source = folder / f"{member}.c"
    source.write_text(code)
    subprocess.run(["gcc", "-O2", "-c", source, "-o", folder / f"{member}.c.o"], check=True)
    archive = folder / "libx.a"
    subprocess.run(["ar", "rc", archive, folder / f"{member}.c.o"], check=True)
    return archive


@pytest.mark.parametrize("kind, code", [
    ("clock", "#include <time.h>\nint f(void) { struct timespec t; return clock_gettime(CLOCK_REALTIME, &t); }"),
    ("clock", "#include <time.h>\nlong f(void) { return time(0); }"),
    ("random", "#include <stdlib.h>\nint f(void) { return rand(); }"),
    ("file", "#define _FILE_OFFSET_BITS 64\n#include <fcntl.h>\nint f(void) { return open(\"x\", O_RDONLY); }"),
    ("file", "#include <stdio.h>\nint f(int x) { return fprintf(stderr, \"%d\", x); }"),
    ("socket", "#include <sys/socket.h>\nint f(void) { return socket(1, 2, 3); }"),
    ("thread", "#include <pthread.h>\npthread_t f(void) { return pthread_self(); }"),
    ("libuv", "int uv_run(void *, int);\nint f(void) { return uv_run(0, 0); }"),
])
def test_impure_call_is_found(tmp_path, kind, code):
    archive = make_archive(tmp_path, "tree", code)
    complaints = layers.check_symbols("machine", archive)
    assert len(complaints) == 1 and f"({kind})" in complaints[0]


def test_pure_code_passes(tmp_path):
    archive = make_archive(tmp_path, "tree", "#include <stdlib.h>\nvoid *f(void) { return malloc(7); }")
    assert layers.check_symbols("machine", archive) == []


def test_adapters_are_exempt_and_the_core_is_not(tmp_path):
    code = "int uv_run(void *, int);\nint f(void) { return uv_run(0, 0); }\nvoid *malloc(unsigned long);\n" \
           "void *g(void) { return malloc(1); }"
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert "no symbols" in layers.check_symbols("raft", make_archive(tmp_path / "a", "transport_uv", code))[0]
    assert "libuv" in layers.check_symbols("raft", make_archive(tmp_path / "b", "replica", code))[0]


def test_empty_archive_is_not_a_pass(tmp_path):
    archive = make_archive(tmp_path, "tree", "int x;")
    assert layers.check_symbols("machine", archive) != []
