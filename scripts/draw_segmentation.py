"""A checkout's door to vl_absvit/commands/draw_segmentation.py."""

from vl_absvit.cli import run_main
from vl_absvit.commands.draw_segmentation import main

if __name__ == "__main__":
    run_main(main)
