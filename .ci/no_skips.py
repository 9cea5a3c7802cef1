"""Fail if a test was skipped, or if none ran:  python no_skips.py results.xml [module prefixes that
may skip ...]"""

import sys
import xml.etree.ElementTree as ET

results, allowed = sys.argv[1], tuple(sys.argv[2:])
cases = ET.parse(results).getroot().findall(".//testcase")
skipped = [
    f"{c.get('classname')}.{c.get('name')}: {c.find('skipped').get('message')}"
    for c in cases
    if c.find("skipped") is not None
    and not (c.get("classname") or c.get("name") or "").startswith(allowed)
]
print(f"{len(cases)} tests, {len(skipped)} skipped where none may be")
if skipped or not cases:
    sys.exit("skipped:\n  " + "\n  ".join(skipped) if skipped else "no test ran")
