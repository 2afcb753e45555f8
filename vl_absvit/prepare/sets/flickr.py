"""Flickr30K and Flickr8k: splits of their captions, and the folders of their images."""

from vl_absvit.prepare.caption_source import CaptionSet

SETS = {
    "flickr30k": CaptionSet({"train": 29_000, "val": 1_014, "test": 1_000}, "flickr30k-images"),
    "flickr8k": CaptionSet({"train": 6_000, "val": 1_000, "test": 1_000}, "Flicker8k_Dataset", images_of="flickr30k"),
}
