#!/usr/bin/python3
"""Counts what ctest ran: each program is one test, each pytest file as many as it has cases.

    summary.py CTEST_XML:PYTEST_DIR ... [name=passed|failed ...]

Prints what failed and what was skipped (and why), then "N passed, N failed" as the last line. Exits
with 1 when something failed or nothing passed.
"""

import pathlib
import sys
import xml.etree.ElementTree as ElementTree


class Summary:
    def __init__(self):
        self.n_passed = 0
        self.failed = []
        self.skipped = []

    def add_pytest_report(self, name, root):
        for case in root.iter("testcase"):
            full = f"{name}::{case.get('name')}"
            skip = case.find("skipped")
            if case.find("failure") is not None or case.find("error") is not None:
                self.failed.append(full)
            elif skip is not None:
                self.skipped.append(f"{full}: {skip.get('message')}")
            else:
                self.n_passed += 1

    def add_ctest_case(self, case, pytest_dir):
        name = case.get("name")
        ok = case.get("status") == "run"
        n_failed_before = len(self.failed)
        report = pytest_dir / (name.replace("/", ".") + ".xml")
        if report.exists():
            self.add_pytest_report(name, ElementTree.parse(report).getroot())
            if not ok and len(self.failed) == n_failed_before:
                self.failed.append(f"{name}: ended badly after its cases")
        elif ok:
            self.n_passed += 1
        elif case.get("status") == "disabled":
            self.skipped.append(f"{name}: disabled")
        elif (skip := case.find("skipped")) is not None and "SKIP_RETURN_CODE" in skip.get("message", ""):
            # It said so itself; a program that is missing is called skipped, too.
            self.skipped.append(f"{name}: by itself")
        else:
            self.failed.append(name)

    def add_ctest(self, xml_path, pytest_dir):
        if not xml_path.exists():
            self.failed.append(f"{xml_path}: ctest left no report")
            return
        for case in ElementTree.parse(xml_path).getroot().iter("testcase"):
            self.add_ctest_case(case, pytest_dir)


def main(arguments):
    summary = Summary()
    for argument in arguments:
        if "=" in argument:
            name, _, outcome = argument.rpartition("=")
            if outcome == "passed":
                summary.n_passed += 1
            else:
                summary.failed.append(name)
        else:
            xml_path, _, pytest_dir = argument.partition(":")
            summary.add_ctest(pathlib.Path(xml_path), pathlib.Path(pytest_dir))
    for line in summary.skipped:
        print(f"skipped: {line}")
    for line in summary.failed:
        print(f"FAILED: {line}")
    if summary.n_passed + len(summary.failed) == 0:
        print("nothing ran")
    print(f"{summary.n_passed} passed, {len(summary.failed)} failed")
    return 0 if summary.n_passed and not summary.failed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
