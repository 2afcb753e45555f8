"""A checkout's door to vl_absvit/commands/prepare_pairs.py."""

from vl_absvit.cli import run_main
from vl_absvit.commands.prepare_pairs import main

if __name__ == "__main__":
    run_main(main)
