"""An endpoint of as many levels as the API server takes is one endpoint's trouble, not the operator's."""

import subprocess
import sys

PROGRAM = """
import json
from mce_operator.__main__ import let_deep_json_in

let_deep_json_in()
deep = json.loads('{"a":' * 9_990 + "1" + "}" * 9_990)
assert json.loads(json.dumps(deep)) == deep
"""


def test_the_operator_reads_what_the_api_server_stores() -> None:
    """In a process of its own: the limit is one of the whole interpreter."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr[-2000:]) == (0, "")
