#!/usr/bin/python3
"""Checks that hold the structure of docs/internals.md: who may include whom, what the pure parts may
call, how long files and functions may be. Each function returns a list of complaints, one a line.

    layers.py includes|lengths ROOT
    layers.py symbols machine|raft|node ARCHIVE
"""

import pathlib
import re
import subprocess
import sys

# Layer -> what it may include besides itself.
LAYERS = {
    "common": [],
    "proto": ["common"],
    "server/machine": ["common", "proto"],
    "raft": ["common", "proto"],
    "server/node": ["common", "proto", "server/machine", "raft"],
    "server/net": ["common", "proto", "server/machine", "raft", "server/node"],
    "server/main.c": ["common", "proto", "server/machine", "raft", "server/node", "server/net"],
    "client": ["common", "proto"],
}
# The replica carries opaque bytes: the public API is none of its business.
FORBIDDEN_INCLUDES = {"raft": ["proto/kv.pb-c.h"]}

MAX_FILE_LINES = 800
MAX_FUNCTION_LINES = 70

INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)

# What a pure part must not call, and the kind that a complaint names.
IMPURE = {
    "clock": "time clock clock_.* gettimeofday nanosleep sleep usleep alarm timer_.* timerfd_.* ftime "
             "localtime localtime_r gmtime",
    "random": "rand rand_r srand random srandom random_r .*rand48.* getrandom getentropy arc4random.*",
    "file": "open openat creat fopen freopen fdopen fclose fread fwrite fgets fputs fputc putc puts putchar "
            "printf vprintf fprintf vfprintf dprintf read write readv writev pread pwrite preadv pwritev "
            "lseek close fsync fdatasync sync_file_range ftruncate truncate rename renameat unlink "
            "unlinkat remove mkdir mkdirat rmdir opendir readdir scandir stat fstat lstat fstatat statvfs "
            "fstatvfs fallocate posix_fallocate flock lockf fcntl mmap munmap msync ioctl dup dup2 pipe "
            "getenv secure_getenv syslog",
    "socket": "socket socketpair connect bind listen accept accept4 send sendto sendmsg sendmmsg recv "
              "recvfrom recvmsg recvmmsg shutdown setsockopt getsockopt getaddrinfo gethostby.* poll ppoll "
              "select pselect epoll_.* eventfd",
    "thread": "pthread_.* thrd_.* mtx_.* cnd_.* sem_.* fork vfork exec.* posix_spawn.* system signal "
              "sigaction kill raise getpid",
    "libuv": "uv_.* raft_uv_.*",
}
IMPURE = {kind: re.compile("(?:%s)" % "|".join(names.split())) for kind, names in IMPURE.items()}

# Archive members that are adapters to the outside world and may call what they wrap.
ADAPTERS = {
    "machine": None,
    "raft": re.compile(r"(transport|disk_posix|worker|wakeup)"),
    # Of server/node the core is node*.c; the rest (configuration) runs before it.
    "node": re.compile(r"(?!node)"),
}


def layer_of(path):
    """The layer that a path from the root belongs to, or None."""
    for layer in LAYERS:
        if path == layer or path.startswith(layer + "/"):
            return layer
    return None


def sources(root):
    for top in ("common", "proto", "raft", "server", "client"):
        for path in sorted((root / top).rglob("*.[ch]")):
            yield path, path.relative_to(root).as_posix()


def check_includes(root):
    complaints = []
    for path, name in sources(root):
        layer = layer_of(name)
        if layer is None:
            complaints.append(f"{name}: belongs to no layer")
            continue
        for included in INCLUDE.findall(path.read_text()):
            target = layer_of(included)
            if target is None and not (root / included).exists():
                continue  # beside the file itself
            if target is None or (target != layer and target not in LAYERS[layer]):
                complaints.append(f"{name}: {layer} may not include {included}")
            if included in FORBIDDEN_INCLUDES.get(layer, []):
                complaints.append(f"{name}: {layer} may not include {included}")
    return complaints


def check_lengths(root):
    """Function ends are found by clang-format's layout: braces in the first column."""
    complaints = []
    for path, name in sources(root):
        lines = path.read_text().splitlines()
        if len(lines) > MAX_FILE_LINES:
            complaints.append(f"{name}: {len(lines)} lines, at most {MAX_FILE_LINES}")
        start = None
        for number, line in enumerate(lines, 1):
            if line == "{":
                start = number
            elif line == "}" and start is not None:
                if number - start - 1 > MAX_FUNCTION_LINES:
                    complaints.append(f"{name}:{start}: a function of {number - start - 1} lines, "
                                      f"at most {MAX_FUNCTION_LINES}")
                start = None
    return complaints


def plain_symbol(symbol):
    """Without version, large-file suffix and the prefix of a checking wrapper."""
    symbol = symbol.split("@")[0]
    symbol = re.sub(r"^__(.*)_chk$", r"\1", symbol)
    symbol = re.sub(r"^__isoc99_", "", symbol)
    return re.sub(r"64(_2)?$", "", symbol)


def undefined_symbols(archive):
    """(member, symbol) of everything that the members of an archive take from elsewhere."""
    output = subprocess.run(["nm", "-u", "-A", str(archive)], check=True, capture_output=True, text=True).stdout
    for line in output.splitlines():
        where, _, symbol = line.rpartition(" ")
        if symbol:
            yield where.split(":")[1], symbol


def check_symbols(part, archive):
    if not pathlib.Path(archive).exists():
        return [f"{part}: {archive} is not there: build first"]
    adapters = ADAPTERS[part]
    complaints = []
    n_symbols = 0
    for member, symbol in undefined_symbols(archive):
        if adapters is not None and adapters.match(member):
            continue
        n_symbols += 1
        for kind, pattern in IMPURE.items():
            if pattern.fullmatch(plain_symbol(symbol)):
                complaints.append(f"{part}: {member} uses {symbol} ({kind})")
    if n_symbols == 0:
        complaints.append(f"{part}: {archive} has no symbols to check")
    return complaints


def main(arguments):
    match arguments:
        case ["includes", root]:
            complaints = check_includes(pathlib.Path(root))
        case ["lengths", root]:
            complaints = check_lengths(pathlib.Path(root))
        case ["symbols", part, archive] if part in ADAPTERS:
            complaints = check_symbols(part, archive)
        case _:
            sys.exit(__doc__)
    for complaint in complaints:
        print(complaint)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
