#!/usr/bin/env python3
"""Prints "PASSED FAILED" of a JUnit file. A cmocka program's output counts each of its tests; every other test case
counts as one. Skipped ones count as neither and are named on stderr."""
import re
import sys
import xml.etree.ElementTree

passed = failed = 0
for case in xml.etree.ElementTree.parse(sys.argv[1]).iter("testcase"):
    output = "".join(text.text or "" for text in case.findall("system-out"))
    ok = len(re.findall(r"^\[ +OK +\]", output, re.M))
    bad = len(set(re.findall(r"^\[ +FAILED +\] (\w+)$", output, re.M)))
    broken = case.find("failure") is not None or case.find("error") is not None
    for name in re.findall(r"^\[ +SKIPPED +\] (\w+)$", output, re.M):
        print(f"skipped: {name}", file=sys.stderr)
    if case.find("skipped") is not None or case.get("status") == "notrun":
        print(f"skipped: {case.get('name')}", file=sys.stderr)
        continue
    passed += ok if ok else 0 if broken else 1
    failed += max(bad, 1) if broken else 0
print(passed, failed)
