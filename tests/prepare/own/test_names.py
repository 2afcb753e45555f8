"""Data of one's own never bears the name of a published data set."""

import pytest

from vl_absvit.errors import ConfigError
from vl_absvit.prepare.own.names import check_name


@pytest.mark.parametrize(
    "name", ["vqav2", "VQA-v2", "COCO", "Flickr_30k", "vizwiz", "visual genome", "../x", "", "a\nb"]
)
def test_published_and_impossible_names_are_refused(name):
    with pytest.raises(ConfigError, match="--name"):
        check_name(name, "--name")


def test_other_names_are_taken():
    for name in ("shop", "coco-shop", "Werkstatt_2.1"):
        check_name(name, "--name")
