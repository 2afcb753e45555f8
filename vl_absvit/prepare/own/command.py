"""Options of the command line that all preparations of one's own tables share."""

from vl_absvit.cli import OptionParser


def add_table_options(parser: OptionParser, roles: str) -> None:
    """Add the options of ``TableOptions`` that say how tables are read and divided.

    Args:
        roles: what columns can be for, in words.
    """
    parser.add_argument(
        "--columns", nargs="+", default=(), metavar="ROLE=COLUMN", help=f"columns without usual names, for {roles}"
    )
    parser.add_argument("--no-header", action="store_true", help="the first row is none; columns are called 1, 2 ...")
    parser.add_argument("--val-share", type=float, help="pictures to draw for val (default 0.1, if none has a split)")
    parser.add_argument("--test-share", type=float, help="pictures to draw for test (default 0)")
    parser.add_argument("--seed", type=int, default=0, help="draws them (default 0)")
    parser.add_argument("--embed-images", action="store_true", help="write the images' bytes into the tables")
