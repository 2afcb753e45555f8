"""Upload a whole checkpoint folder to the hub: weights, configuration, tokenizer, answers, preprocessing, and a card.

vl-absvit push-to-hub --checkpoint runs/vqa/checkpoints/best --repo lab/absvit-vqa [--private] [--license mit]
The folder is opened first, as its evaluation opens it, and refused if something is missing. The card (README.md) is
filled in from the checkpoint and from the run folder around it. ``--output FOLDER`` writes all of it into a folder
instead. The login is that of ``hf auth login`` or HF_TOKEN. Everyone may then say --checkpoint lab/absvit-vqa.
"""

import argparse
from pathlib import Path

from vl_absvit.cli import OptionParser, run_main


def main() -> None:
    arguments = parse_arguments()
    from vl_absvit.hub import upload
    from vl_absvit.tasks.publication import published, unpublished, write_folder

    name = arguments.repo or arguments.output.name
    if arguments.repo and arguments.revision:
        name = f"{arguments.repo}@{arguments.revision}"
    files = published(arguments.checkpoint, name, license_id=arguments.license, with_state=arguments.training_state)
    if rest := unpublished(arguments.checkpoint, files):
        print(f"left out: {', '.join(rest)}")
    if arguments.output:
        write_folder(files, arguments.output)
        print(f"{len(files)} files in {arguments.output}, nothing uploaded")
        return
    found = upload(
        files, arguments.repo, private=arguments.private, revision=arguments.revision, message=arguments.message
    )
    print(f"{len(files)} files uploaded: {found}")


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="DIR", help="checkpoint folder of a run")
    parser.add_argument("--repo", metavar="NAME", help="repository on the hub, such as lab/absvit-vqa; made if new")
    parser.add_argument("--private", action="store_true", help="make a new repository that only its owners see")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to upload to; made if new (default: main)")
    parser.add_argument("--message", default="Upload a vl_absvit checkpoint", metavar="TEXT", help="of the commit")
    parser.add_argument("--license", metavar="ID", help="licence of the weights, such as mit (default: none stated)")
    parser.add_argument("--training-state", action="store_true", help="upload what a run needs to go on, too")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write the files there instead of uploading them")
    arguments = parser.parse_args()
    if arguments.repo is None and arguments.output is None:
        parser.error("--repo NAME uploads, --output FOLDER writes; expected one of them")
    return arguments


if __name__ == "__main__":
    run_main(main)
