# Shared by deploy/up and deploy/down: where the local nodes live and which process is whose.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
HOST=127.0.0.1
# Nodes are ten ports apart: client, peer and http port of a node follow one another.
PORT_STEP=10

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# The absolute path of a directory that may not exist yet.
absolute() {
    realpath -m -- "$1"
}

node_dir() {
    printf '%s/node%d\n' "$DIR" "$1"
}

client_port() {
    echo $((PORT + ($1 - 1) * PORT_STEP))
}

# Prints the pid of node $1 if it runs. A pid file may be stale and its number may be another
# process's by now: only a kvd that was started with this node's data directory counts.
running_pid() {
    local dir pid argument
    dir=$(node_dir "$1")
    pid=$(cat "$dir/pid" 2>/dev/null) || return 1
    case $pid in '' | *[!0-9]*) return 1 ;; esac
    [ -r "/proc/$pid/cmdline" ] || return 1
    while IFS= read -r -d '' argument; do
        if [ "$argument" = "--data-dir=$dir/data" ]; then
            # A zombie has ended; its command line is empty, so it does not come here.
            echo "$pid"
            return 0
        fi
    done <"/proc/$pid/cmdline"
    return 1
} 2>/dev/null
