"""Names on the hub become folders, of what a run reads alone."""

from dataclasses import replace

import pytest

from tests.tiny_vqa import tiny_pretrain_config, tiny_vision, tiny_vqa_config
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.hub import Found
from vl_absvit.tasks import fetching
from vl_absvit.tasks.fetching import fetched, fetched_trunk

NAMES = {"vision": tiny_vision(weights="hf-hub:timm/vit"), "from_checkpoint": None}


@pytest.fixture
def asked(monkeypatch) -> dict[str, tuple[str, ...]]:
    """What is asked for, by option, and which files of it; names become ``fetched/NAME``."""
    options = {}

    def find(name, option, *, only=fetching.WEIGHTS_AND_TEXTS, is_text=False):
        options[option] = only
        return Found(f"fetched/{name}", name)

    monkeypatch.setattr(fetching, "find", find)
    monkeypatch.setattr(fetching, "check_start", lambda folder: None)
    return options


def test_a_run_fetches_trunk_text_encoder_and_tokenizer(asked, tmp_path):
    config = tiny_vqa_config(tmp_path, tmp_path, **NAMES)
    config = fetched(replace(config, text=replace(config.text, model="roberta-base", tokenizer="lab/words@v1")))
    assert (config.vision.weights, config.text.model) == ("fetched/hf-hub:timm/vit", "fetched/roberta-base")
    assert config.text.tokenizer == "fetched/lab/words@v1"
    assert asked == {"vision.weights": fetching.WEIGHTS_AND_TEXTS, "text.model": fetching.WEIGHTS_AND_TEXTS} | {
        "tokenizer": fetching.TEXTS
    }


def test_a_run_from_a_checkpoint_fetches_no_other_weights(asked, tmp_path):
    config = tiny_vqa_config(tmp_path, tmp_path, **NAMES | {"from_checkpoint": "lab/model"})
    config = fetched(replace(config, text=replace(config.text, model="roberta-base", tokenizer=None)))
    assert config.from_checkpoint == "fetched/lab/model" and config.vision.weights == "hf-hub:timm/vit"
    assert asked == {"from_checkpoint": fetching.WEIGHTS_AND_TEXTS, "text.model": fetching.TEXTS}


@pytest.mark.parametrize("weights", [None, "timm"])
def test_weights_of_no_name_are_left_as_they_are(asked, weights, tmp_path):
    config = tiny_pretrain_config(tmp_path, tmp_path, vision=tiny_vision(weights=weights))
    assert fetched_trunk(config) == config and not asked


def test_what_is_nowhere_is_named_by_its_option(tmp_path):
    config = tiny_vqa_config(tmp_path, tmp_path)
    with pytest.raises(ConfigError, match="^text.model lab/none: no text encoder there: no such folder, "):
        fetched(replace(config, text=replace(config.text, model="lab/none")))
    with pytest.raises(InputError, match="^from_checkpoint lab/none@v2: no such folder, and not to be had"):
        fetched(replace(config, from_checkpoint="lab/none@v2"))
