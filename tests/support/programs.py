"""Programs of tests/fault that use libkv's public headers alone: compiled when they are wanted, with the sanitizer of the
build."""

import os
import pathlib
import subprocess

from kvcluster import ROOT

BUILD = pathlib.Path(os.environ.get("KVD_BUILD_DIR", ROOT / "build" / "dev"))
SANITIZE = os.environ.get("KVD_SANITIZE", "")
FLAGS = {"": [], "address": ["-fsanitize=address,undefined"], "thread": ["-fsanitize=thread"]}


def compile_program(name, directory):
    """The path of tests/fault/NAME.c as a program."""
    program = directory / name
    subprocess.run(["cc", "-O2", "-std=c11", "-Wall", "-Wextra", "-Werror", "-D_POSIX_C_SOURCE=200809L", "-D_DEFAULT_SOURCE",
                    *FLAGS[SANITIZE], ROOT / "tests" / "fault" / f"{name}.c", "-o", program, f"-I{ROOT}/client/include",
                    f"-I{BUILD}/client/include", f"-L{BUILD}/client", f"-Wl,-rpath,{BUILD}/client", "-lkv", "-lpthread"],
                   check=True)
    return program
