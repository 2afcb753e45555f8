"""A fourth demo world: captioned pictures to pretrain on, and statements about others, in the forms of real data sets.

``make_pretraining_world`` writes ``conceptual_captions`` as METER and ViLT keep them, ``nlvr2`` and ``snli_ve`` in the
official form. The captioned pictures have a look of their own and only combinations of colours and shapes that belong
to training, so that neither they nor their scenes are in another world or in any part that is judged.
"""

from concurrent.futures import Executor
from functools import partial
from pathlib import Path

from vl_absvit.data.json_files import write_json
from vl_absvit.demo.captions import describe
from vl_absvit.demo.made_whole import Track, make_whole, workers_of
from vl_absvit.demo.nlvr2 import write_nlvr2
from vl_absvit.demo.scene import Style, draw, generator, sample_scene, save_jpeg
from vl_absvit.demo.snli_ve import write_snli_ve

FORMAT = 1
DUSK = Style(ground=(10, 34), tint=12, noise=8.0, brightness=0.75, outline=0, gap=0.55)
_FOLDER = 1_000  # pictures in a folder


def make_pretraining_world(output: Path, *, seed: int, pictures: int, workers: int, track: Track) -> bool:
    """Write the world to ``output``, or leave it alone where the same world is there already.

    Args:
        pictures: captioned ones; all other parts scale with it.
        workers: processes that draw.

    Returns:
        True if the world was written, False if it was there.

    Raises:
        InputError: ``output`` holds something else.
    """

    def write(folder: Path) -> dict[str, int]:
        with workers_of(workers) as pool:
            counts = write_captioned(folder / "conceptual_captions", seed, pictures, pool, track)
            counts |= write_nlvr2(folder / "nlvr2", seed, pictures, pool, track)
            counts |= write_snli_ve(folder / "snli_ve", seed, pictures, pool, track)
        return counts

    return make_whole(output, {"format": FORMAT, "seed": seed, "pretraining": pictures}, write)


def write_captioned(folder: Path, seed: int, pictures: int, pool: Executor, track: Track) -> dict[str, int]:
    """Pictures with one caption each, and ``train_annot.json``, a list of [path, caption]. Returns counts."""
    for number in range(0, pictures, _FOLDER):
        (folder / _file(number)).parent.mkdir(parents=True)
    work = pool.map(partial(_make_captioned, folder, seed), range(pictures), chunksize=32)
    write_json(folder / "train_annot.json", list(track(work, pictures, "conceptual_captions")))
    return {"conceptual_captions/images": pictures}


def _make_captioned(folder: Path, seed: int, number: int) -> list[str]:
    rng = generator(seed, "captioned", number)
    scene, file = sample_scene(rng, "train"), _file(number)
    save_jpeg(draw(scene, DUSK, rng), folder / file)
    return [file, *describe(scene, rng, count=1)]


def _file(number: int) -> str:
    """Names without an ending, as ViLT's."""
    return f"images_train/{number // _FOLDER:04d}/{number:07d}"
