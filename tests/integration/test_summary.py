"""How tests/run counts: nothing that failed, crashed or did not run may look like a pass."""

import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(os.environ.get("KVD_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
SUMMARY = ROOT / "tests" / "support" / "summary.py"

CTEST = '<testsuite>{}</testsuite>'
CASE = '<testcase name="{}" status="{}"/>'
PYTEST = '<testsuites><testsuite>{}</testsuite></testsuites>'


def summarize(tmp_path, ctest=None, pytest_reports=(), outcomes=()):
    (tmp_path / "pytest").mkdir()
    if ctest is not None:
        (tmp_path / "ctest.xml").write_text(CTEST.format("".join(CASE.format(*case) for case in ctest)))
    for name, content in pytest_reports:
        (tmp_path / "pytest" / f"{name}.xml").write_text(PYTEST.format(content))
    result = subprocess.run(["/usr/bin/python3", SUMMARY, f"{tmp_path}/ctest.xml:{tmp_path}/pytest", *outcomes],
                            capture_output=True, text=True)
    return result.returncode, result.stdout.splitlines()


def test_programs_are_counted(tmp_path):
    code, lines = summarize(tmp_path, [("unit/a", "run"), ("unit/b", "run")], outcomes=["format=passed"])
    assert code == 0 and lines[-1] == "3 passed, 0 failed"


@pytest.mark.parametrize("status", ["fail", "notrun"])
def test_failed_and_missing_programs_fail(tmp_path, status):
    code, lines = summarize(tmp_path, [("unit/a", "run"), ("unit/b", status)])
    assert code == 1 and lines[-1] == "1 passed, 1 failed" and "FAILED: unit/b" in lines


@pytest.mark.parametrize("message, failed", [("SKIP_RETURN_CODE=77", 0), ("Unable to find executable", 1)])
def test_a_program_that_skips_itself_is_told(tmp_path, message, failed):
    skipped = f'<testcase name="sim/b" status="notrun"><skipped message="{message}"/></testcase>'
    (tmp_path / "pytest").mkdir()
    (tmp_path / "ctest.xml").write_text(CTEST.format(CASE.format("unit/a", "run") + skipped))
    result = subprocess.run(["/usr/bin/python3", SUMMARY, f"{tmp_path}/ctest.xml:{tmp_path}/pytest"], capture_output=True,
                            text=True)
    assert f"1 passed, {failed} failed" in result.stdout and ("skipped: sim/b" in result.stdout) == (failed == 0)


def test_pytest_cases_are_counted_one_by_one(tmp_path):
    report = '<testcase name="x"/><testcase name="y"><failure/></testcase><testcase name="z"><skipped message="why"/></testcase>'
    code, lines = summarize(tmp_path, [("integration/a", "fail")], [("integration.a", report)])
    assert code == 1 and lines[-1] == "1 passed, 1 failed"
    assert "FAILED: integration/a::y" in lines and "skipped: integration/a::z: why" in lines


def test_pytest_that_dies_after_its_cases_fails(tmp_path):
    code, lines = summarize(tmp_path, [("integration/a", "fail")], [("integration.a", '<testcase name="x"/>')])
    assert code == 1 and lines[-1] == "1 passed, 1 failed"


def test_nothing_ran_is_a_failure(tmp_path):
    code, lines = summarize(tmp_path, [])
    assert code == 1 and lines[-1] == "0 passed, 0 failed"


def test_no_report_is_a_failure(tmp_path):
    code, lines = summarize(tmp_path)
    assert code == 1 and lines[-1] == "0 passed, 1 failed"


@pytest.mark.parametrize("arguments", [["--frob"], ["--label", "nonsense"], ["--preset", "fast"]])
def test_wrong_usage_of_tests_run(arguments):
    result = subprocess.run([ROOT / "tests" / "run", *arguments], capture_output=True, text=True)
    assert result.returncode == 2 and arguments[-1] in result.stderr
