"""``python`` and ``accelerate`` for shell scripts, which start at once: the fork server runs what they are told.

What a launcher is told is read by accelerate itself.
"""

import json
import socketserver
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate.commands.launch import _validate_launch_command, launch_command_parser

from tests.fork_server import ForkServer

STAND_IN = """#!{python} -IS
import json, os, socket, sys
words = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
if words[:3] == ["python", "-m", "accelerate.commands.launch"]:
    words[:3] = ["accelerate", "launch"]
if words[0] == "python" and words[1].startswith("-"):  # no script
    os.execv("{python}", ["{python}", *words[1:]])
with socket.socket(socket.AF_UNIX) as server:
    server.connect("{address}")
    with server.makefile("rw", encoding="utf-8") as file:
        print(json.dumps(words), file=file, flush=True)
        code, output = json.loads(file.readline())
sys.stdout.write(output)
sys.exit(code)
"""


def launched(arguments: list[str]) -> tuple[int, list[str]]:
    """How many processes ``accelerate`` starts when it is told this, and of what."""
    assert arguments[0] == "launch"
    told, *_ = _validate_launch_command(launch_command_parser().parse_args(arguments[1:]))
    assert told.multi_gpu == (told.num_processes > 1) and told.num_machines == 1  # or it would start one process
    return told.num_processes, [told.training_script, *told.training_script_args]


@contextmanager
def quick_programs(fork_server: ForkServer) -> Iterator[Path]:
    """A folder for ``PATH``."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            name, *arguments = json.loads(self.rfile.readline())
            processes, command = launched(arguments) if name == "accelerate" else (1, arguments)
            outcome = fork_server.run(*command, processes=processes)
            code = next((abs(each) for each in outcome.codes if each), 0)
            self.wfile.write(f"{json.dumps([code, outcome.output])}\n".encode())

    with tempfile.TemporaryDirectory() as folder:
        address = f"{folder}/socket"
        for name in ("python", "accelerate"):
            program = Path(folder, name)
            program.write_text(STAND_IN.format(python=sys.executable, address=address))
            program.chmod(0o755)
        with socketserver.UnixStreamServer(address, Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
            thread.start()
            try:
                yield Path(folder)
            finally:
                server.shutdown()
                thread.join()
