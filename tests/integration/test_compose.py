"""The image and the compose file, with a docker daemon that this test starts and ends itself."""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time

import pytest

import examplecase

ROOT = pathlib.Path(os.environ.get("KVD_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
IMAGE = "debian:bookworm-slim"


def wait_for(what, condition, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"no {what} after {timeout_s} s"
        time.sleep(0.1)


def own_mirror():
    """The mirror that this machine's packages come from, as deploy/deps finds it."""
    output = subprocess.run([ROOT / "deploy" / "deps", "--print-backports"], capture_output=True, text=True).stdout
    match = re.search(r"^URIs:\s*(\S+)", output, re.MULTILINE)
    return match.group(1) if match else None


class FirewallSaved:
    """What a daemon adds to the packet filter stays after it ends: this takes out what was not there."""

    def __init__(self):
        self.before = {table: self.rules(table) for table in ("filter", "nat")}
        self.had_bridge = pathlib.Path("/sys/class/net/docker0").exists()
        self.forward = pathlib.Path("/proc/sys/net/ipv4/ip_forward").read_text()

    @staticmethod
    def rules(table):
        return subprocess.run(["iptables-save", "-t", table], env={"PATH": PATH}, capture_output=True,
                              text=True).stdout.splitlines()

    @staticmethod
    def iptables(table, *arguments):
        subprocess.run(["iptables", "-t", table, *arguments], env={"PATH": PATH}, check=True)

    def restore(self):
        for table, before in self.before.items():
            after = self.rules(table)
            added = [line for line in after if line.startswith("-A ") and line not in before]
            chains = {line.split()[0][1:] for line in after if line.startswith(":")}
            chains -= {line.split()[0][1:] for line in before if line.startswith(":")}
            chains = {chain for chain in chains if chain.startswith("DOCKER")}
            for line in added:
                words = line.split()
                if words[1] not in chains and re.search(r"DOCKER|docker0|br-[0-9a-f]{12}|172\.\d+\.0\.0/16", line):
                    self.iptables(table, "-D", *words[1:])
            for chain in chains:
                self.iptables(table, "-F", chain)
            for chain in chains:
                self.iptables(table, "-X", chain)
        if not any(line.startswith(":FORWARD DROP") for line in self.before["filter"]):
            self.iptables("filter", "-P", "FORWARD", "ACCEPT")
        if not self.had_bridge and pathlib.Path("/sys/class/net/docker0").exists():
            subprocess.run(["ip", "link", "delete", "docker0"], env={"PATH": PATH}, check=True)
        pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text(self.forward)


def other_daemon_runs():
    for comm in pathlib.Path("/proc").glob("[0-9]*/comm"):
        try:
            if comm.read_text().strip() == "dockerd":
                return True
        except OSError:
            continue
    return False


@pytest.fixture(scope="module")
def docker():
    """Runs a command against the daemon: docker("ps"). Skips where there can be no daemon."""
    for program in ("dockerd", "docker", "docker-compose", "mmdebstrap", "iptables-save", "ip"):
        if not shutil.which(program, path=PATH):
            pytest.skip(f"{program} is not installed: deploy/deps --docker")
    if os.geteuid() != 0:
        pytest.skip("starting a docker daemon needs root")
    if other_daemon_runs():
        pytest.skip("another docker daemon runs here, and two would share one bridge")
    firewall = FirewallSaved()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="kvd-docker-"))
    address = f"unix://{directory}/docker.sock"
    environment = {"PATH": PATH, "HOME": str(directory), "DOCKER_HOST": address, "DOCKER_BUILDKIT": "1",
                   "COMPOSE_DOCKER_CLI_BUILD": "1"}
    log = open(directory / "log", "w")
    daemon = subprocess.Popen(
        ["/usr/sbin/dockerd", "-H", address, "--data-root", directory / "data", "--exec-root", directory / "exec",
         "--pidfile", directory / "dockerd.pid", "--mtu", "1400"],
        stdout=log, stderr=log, env={**os.environ, "PATH": PATH})

    def run(*command, check=True, **keywords):
        keywords.setdefault("env", environment)
        result = subprocess.run(command, capture_output=True, text=True, **keywords)
        assert not check or result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
        return result

    try:
        deadline = time.monotonic() + 30
        while run("docker", "info", check=False).returncode != 0:
            if daemon.poll() is not None or time.monotonic() > deadline:
                pytest.skip("dockerd does not start here: " + (directory / "log").read_text()[-500:])
            time.sleep(0.1)
        run.environment = environment
        yield run
    finally:
        daemon.terminate()
        try:
            daemon.wait(timeout=60)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
        log.close()
        firewall.restore()
        shutil.rmtree(directory, ignore_errors=True)


def make_base_image(docker):
    mirror = own_mirror()
    if not mirror:
        pytest.skip("this machine has no Debian mirror to make the base image from")
    make = subprocess.run(
        f"set -o pipefail; mmdebstrap --quiet --variant=minbase bookworm - {mirror} |"
        f" docker import -c 'CMD [\"bash\"]' - {IMAGE}",
        shell=True, executable="/bin/bash", env=docker.environment, capture_output=True, text=True)
    if make.returncode != 0:
        pytest.skip("the base image cannot be made: " + make.stderr[-500:])


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Compose:
    NODES = ("node1", "node2", "node3")

    def __init__(self, docker):
        self.docker = docker
        self.ports = free_ports(3)
        self.environment = {**docker.environment, "DEBIAN_MIRROR": own_mirror() or ""}
        for i, port in enumerate(self.ports, 1):
            self.environment[f"KVD_PORT_{i}"] = str(port)

    def __call__(self, *arguments, check=True):
        return self.docker("docker-compose", "-p", "kvdtest", "-f", str(ROOT / "deploy" / "docker-compose.yml"),
                           *arguments, env=self.environment, check=check)

    def kvctl(self, node, *arguments, check=True):
        return self("exec", "-T", node, "kvctl", *arguments, check=check)

    def container(self, node):
        return self("ps", "-q", "-a", node).stdout.strip()

    def inspect(self, node):
        return json.loads(self.docker("docker", "inspect", self.container(node)).stdout)[0]

    def address(self, node):
        return next(iter(self.inspect(node)["NetworkSettings"]["Networks"].values()))["IPAddress"]

    def healthy(self, *nodes):
        return all(self.inspect(node)["State"]["Health"]["Status"] == "healthy" for node in nodes)

    def endpoints(self, first):
        """For programs of this machine."""
        ports = dict(zip(self.NODES, self.ports))
        return ",".join(f"127.0.0.1:{port}" for port in [ports.pop(first), *ports.values()])

    def kill(self, node):
        """It stays dead until it is started."""
        self.docker("docker", "update", "--restart=no", self.container(node))
        self("kill", "-s", "SIGKILL", node)

    def leader(self, through):
        """The host name of the leader as one node sees it, or None."""
        result = self.kvctl(through, "--output", "json", "status", check=False)
        if result.returncode != 0:
            return None
        match = re.search(r"node([123]):4700", json.dumps(json.loads(result.stdout)))
        return match and f"node{match.group(1)}"


@pytest.fixture(scope="module")
def compose(docker):
    make_base_image(docker)
    compose = Compose(docker)
    compose("build", "node1")
    try:
        compose("up", "-d", "--no-build")
        wait_for("healthy nodes", lambda: compose.healthy(*compose.NODES), 90)
        yield compose
    finally:
        compose("down", "-v", "--remove-orphans", check=False)


def test_image_runs_as_an_ordinary_user(compose):
    config = compose.inspect("node1")["Config"]
    assert config["User"] == "kvd"
    assert config["StopSignal"] == "SIGTERM"
    assert compose("exec", "-T", "node1", "id", "-u").stdout.strip() == "10001"


def test_write_through_one_read_through_another(compose):
    compose.kvctl("node1", "put", "color", "blue")
    for node in compose.NODES:
        assert "blue" in compose.kvctl(node, "get", "color").stdout


def test_published_port_reaches_a_node(compose):
    kvctl = os.environ.get("KVCTL_BIN", ROOT / "build" / "dev" / "client" / "kvctl")
    for port in compose.ports:
        result = subprocess.run([kvctl, "--endpoints", f"127.0.0.1:{port}", "get", "color"], capture_output=True,
                                text=True)
        assert result.returncode == 0 and "blue" in result.stdout, result.stderr


def test_leader_is_killed_and_comes_back(compose):
    leader = wait_for("leader", lambda: compose.leader("node1"))
    others = [node for node in compose.NODES if node != leader]
    compose.kill(leader)
    wait_for("write without the former leader",
             lambda: compose.kvctl(others[0], "put", "color", "green", check=False).returncode == 0)
    assert "green" in compose.kvctl(others[1], "get", "color").stdout
    compose("start", leader)
    wait_for(f"healthy {leader}", lambda: compose.healthy(leader))
    assert "green" in compose.kvctl(leader, "get", "color").stdout


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    if os.environ.get("KVD_SANITIZE"):
        pytest.skip("a plain program cannot load a sanitized library")
    return examplecase.Programs(tmp_path_factory.mktemp("programs"))


@pytest.mark.parametrize("act", [examplecase.share_configuration, examplecase.chat, examplecase.elect],
                         ids=lambda act: act.__name__)
def test_examples_while_the_leader_is_killed(compose, programs, act):
    """The programs know the nodes by published ports; the names that the nodes have for each other lead nowhere here."""
    killed = []

    def kill_leader():
        killed.append(wait_for("leader", lambda: compose.leader("node1")))
        compose.kill(killed[0])

    try:
        # The leader first: who takes the first endpoint loses it.
        act(programs, compose.endpoints(wait_for("leader", lambda: compose.leader("node1"))), kill_leader)
        assert len(killed) == 1
    finally:
        for node in killed:
            compose("start", node)
            wait_for("healthy nodes", lambda: compose.healthy(*compose.NODES))


def test_container_with_another_address_rejoins(compose):
    node = "node2"
    before = compose.address(node)
    network = next(iter(compose.inspect(node)["NetworkSettings"]["Networks"]))
    compose("rm", "-s", "-f", node)
    # somebody else takes the address that became free
    squatter = compose.docker("docker", "run", "-d", "--network", network, "--ip", before, IMAGE, "sleep", "600",
                              check=False)
    if squatter.returncode != 0:  # only networks with a subnet of their own take --ip
        squatter = compose.docker("docker", "run", "-d", "--network", network, IMAGE, "sleep", "600")
    try:
        compose.kvctl("node1", "put", "color", "red")
        compose("up", "-d", "--no-build", "--no-deps", node)
        assert compose.address(node) != before
        wait_for(f"healthy {node}", lambda: compose.healthy(node))
        assert "red" in compose.kvctl(node, "get", "color").stdout
        # and the others reach it at its new address: with node3 gone it is needed for a majority
        compose("stop", "node3")
        wait_for("write with two nodes", lambda: compose.kvctl("node1", "put", "color", "white", check=False).returncode == 0)
        assert "white" in compose.kvctl(node, "get", "color").stdout
    finally:
        compose.docker("docker", "rm", "-f", squatter.stdout.strip())
        compose("start", "node3", check=False)


def test_stop_is_clean(compose):
    compose("stop", "node1")
    assert compose.inspect("node1")["State"]["ExitCode"] == 0
