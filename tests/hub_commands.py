"""Run scripts one after the other in a process whose environment names a hub; their exit codes and words as JSON.

python -m tests.hub_commands '[[{"HF_TOKEN": ""}, "scripts/x.py", "--option", "value"], ...]'
"""

import contextlib
import io
import json
import os
import sys

from tests.run_script import run_script

if __name__ == "__main__":
    told = []
    for environment, *command in json.loads(sys.argv[1]):
        before = dict(os.environ)
        os.environ.update(environment)
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
            code = run_script(*command)
        os.environ.clear()
        os.environ.update(before)
        told.append([code, out.getvalue(), err.getvalue()])
    json.dump(told, sys.stdout)
