"""deploy/deps: where it takes the backports suite from, and what it says to wrong usage."""

import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(os.environ.get("KVD_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
DEPS = ROOT / "deploy" / "deps"


def print_backports(etc):
    return subprocess.run([DEPS, "--print-backports"], env={**os.environ, "KVD_DEPS_ETC": str(etc)},
                          capture_output=True, text=True)


@pytest.fixture
def etc(tmp_path):
    (tmp_path / "apt" / "sources.list.d").mkdir(parents=True)
    (tmp_path / "os-release").write_text('ID=debian\nVERSION_CODENAME=bookworm\n')
    return tmp_path


def stanza(result):
    assert result.returncode == 0, result.stderr
    return [line for line in result.stdout.splitlines() if not line.startswith("#")]


def test_deb822(etc):
    (etc / "apt/sources.list.d/debian.sources").write_text("""\
Types: deb
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main

# the release itself
Types: deb deb-src
URIs: http://mirror.example/debian
# a comment inside
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/a.gpg
""")
    assert stanza(print_backports(etc)) == [
        "Types: deb", "URIs: http://mirror.example/debian", "Suites: bookworm-backports", "Components: main",
        "Signed-By: /usr/share/keyrings/a.gpg"]


def test_deb822_inline_key_and_case(etc):
    (etc / "apt/sources.list.d/debian.sources").write_text("""\
types: deb
uris: https://mirror.example/debian
suites: bookworm
components: main
architectures: amd64
signed-by:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc=
 -----END PGP PUBLIC KEY BLOCK-----
""")
    lines = stanza(print_backports(etc))
    assert lines[-5:] == ["Signed-By:", " -----BEGIN PGP PUBLIC KEY BLOCK-----", " .", " abc=",
                          " -----END PGP PUBLIC KEY BLOCK-----"]
    assert "Architectures: amd64" in lines


def test_one_line(etc):
    (etc / "apt/sources.list").write_text("""\
# deb http://commented.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb http://security.example/debian-security bookworm-security main
deb [ arch=amd64,arm64 signed-by=/usr/share/keyrings/a.gpg ] http://mirror.example/debian bookworm contrib main # x
deb http://later.example/debian bookworm main
""")
    assert stanza(print_backports(etc)) == [
        "Types: deb", "URIs: http://mirror.example/debian", "Suites: bookworm-backports", "Components: main",
        "Architectures: amd64 arm64", "Signed-By: /usr/share/keyrings/a.gpg"]


def test_one_line_without_options_in_a_list_file(etc):
    (etc / "apt/sources.list.d/own.list").write_text("deb\thttp://mirror.example/debian  bookworm\tmain\n")
    assert "URIs: http://mirror.example/debian" in stanza(print_backports(etc))


def test_disabled_cdrom_and_foreign_files_are_passed_over(etc):
    sources = etc / "apt/sources.list.d"
    (etc / "apt/sources.list").write_text("deb cdrom:[Debian 12]/ bookworm main\n")
    (sources / "a.sources").write_text(
        "Enabled: no\nTypes: deb\nURIs: http://off.example/debian\nSuites: bookworm\nComponents: main\n")
    (sources / "b.sources").write_text(
        "Types: deb\nURIs: http://third.example/x\nSuites: bookworm\nComponents: tool\n")
    (sources / "c.sources.disabled").write_text(
        "Types: deb\nURIs: http://off.example/debian\nSuites: bookworm\nComponents: main\n")
    (sources / "d.sources").write_text(
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\n")
    assert "URIs: http://mirror.example/debian" in stanza(print_backports(etc))


def test_own_file_is_not_its_own_source(etc):
    (etc / "apt/sources.list.d/kvd-backports.sources").write_text(
        "Types: deb\nURIs: http://stale.example/debian\nSuites: bookworm\nComponents: main\n")
    (etc / "apt/sources.list").write_text("deb http://mirror.example/debian bookworm main\n")
    assert "URIs: http://mirror.example/debian" in stanza(print_backports(etc))


def test_codename_comes_from_os_release(etc):
    (etc / "os-release").write_text('VERSION_CODENAME="trixie"\n')
    (etc / "apt/sources.list").write_text("deb http://mirror.example/debian trixie main\n")
    assert "Suites: trixie-backports" in stanza(print_backports(etc))


def test_no_mirror_is_an_error(etc):
    result = print_backports(etc)
    assert result.returncode == 1 and "no sources files" in result.stderr
    (etc / "apt/sources.list").write_text("deb http://mirror.example/debian bookworm-security main\n")
    result = print_backports(etc)
    assert result.returncode == 1 and "bookworm" in result.stderr and result.stdout == ""


def test_unknown_option_is_an_error():
    result = subprocess.run([DEPS, "--tset"], capture_output=True, text=True)
    assert result.returncode == 1 and "--tset" in result.stderr


def test_list_names_libraft_and_the_group():
    output = subprocess.run([DEPS, "--list", "--bench"], capture_output=True, text=True, check=True).stdout.split()
    assert "libraft" in output and "cmake" in output and "etcd-server" in output and "docker.io" not in output
