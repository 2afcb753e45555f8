"""A checkout's door to vl_absvit/commands/finetune_snli_ve.py."""

from vl_absvit.cli import run_main
from vl_absvit.commands.finetune_snli_ve import main

if __name__ == "__main__":
    run_main(main)
