"""Real VQAv2: the tokenizer, images and questions from the official files to a scored submission, the vocabulary."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.run_script import ROOT, run_script
from vl_absvit.data.collate import VQASample, collate_vqa
from vl_absvit.data.json_files import read_json
from vl_absvit.data.records import read_annotations
from vl_absvit.evaluation.submission import check_submission
from vl_absvit.evaluation.vqa_accuracy import question_accuracy, vqa_scores
from vl_absvit.tasks.tokenizers import load_tokenizer

SMALL_MODEL = {
    "vision.weights": "null", "vision.model": "absvit_tiny_patch16_224",
    "vision.image_size": 64, "vision.width": 64, "vision.depth": 2, "vision.num_heads": 2,
    "text.model": "null", "text.width": 32, "text.depth": 1, "text.num_heads": 2, "text.dropout": 0,
    "fusion.width": 64, "fusion.num_layers": 1, "fusion.num_heads": 2, "fusion.dropout": 0,
    "prior.sentence": "masked_mean",
}  # fmt: skip
PARTS = ("vision", "text", "fusion", "head", "feedback", "prior")
MEMORISING = {
    "data.select_split": "null", "data.augmentation": "none", "data.num_workers": 0, "run.precision": "fp32",
    "run.trackers": "[]", "optim.batch_size": 22, "optim.micro_batch_size": 22, "optim.epochs": 60,
    **{f"optim.learning_rates.{part}": 3e-3 for part in PARTS},
}  # fmt: skip


@pytest.fixture(scope="module")
def raw(real_data):
    return real_data / "vqav2-mini-with-images"


@pytest.fixture(scope="module")
def tokenizer_folder(real_data):
    return real_data / "roberta-base-tokenizer"


@pytest.fixture(scope="module")
def expected(tokenizer_folder):
    return read_json(tokenizer_folder / "expected_tokenization.json", dict)


def test_the_original_tokenizer_files_give_robertas_ids(tokenizer_folder, expected):
    tokenizer = load_tokenizer(str(tokenizer_folder))
    assert len(tokenizer) == 50265 and tokenizer.pad_token_id == 1
    assert tokenizer("Hello world!")["input_ids"] == [0, 31414, 232, 328, 2]
    for case in expected["cases"]:
        assert tokenizer(case["text"])["input_ids"] == case["input_ids"], case["text"]


@pytest.mark.parametrize("length", [16, 50])
def test_batches_are_padded_as_robertas_are(tokenizer_folder, expected, length):
    wanted = expected[f"padded_to_{length}"]
    texts = load_tokenizer(str(tokenizer_folder))(wanted["texts"], truncation=True, max_length=length)["input_ids"]
    samples = [VQASample(0, 0, torch.zeros(3, 1, 1), text, [], []) for text in texts]
    batch = collate_vqa(samples, pad_id=1, vocabulary_size=1)
    ids, real = torch.tensor(wanted["input_ids"]), torch.tensor(wanted["attention_mask"]).bool()
    width = batch.token_ids.shape[1]
    assert not real[:, width:].any() and width - 8 < real.sum(dim=1).max() <= width <= length
    assert torch.equal(batch.token_ids, ids[:, :width]) and torch.equal(batch.is_token, real[:, :width])


@pytest.fixture(scope="module")
def folder(raw, tokenizer_folder, tmp_path_factory):
    """``data`` prepared from the real files, ``run`` of a small model from scratch, ``train.json`` and ``val.json``."""
    folder = tmp_path_factory.mktemp("real")
    files = ("--root", raw, "--output", folder / "data")
    assert run_script("data_prep/prepare_vqav2.py", *files, "--min-count", 1, "--workers", 1) == 0
    places = {"data.root": folder / "data", "run.output": folder / "run", "text.tokenizer": tokenizer_folder}
    changes = [word for key, value in (SMALL_MODEL | MEMORISING | places).items() for word in (f"--{key}", value)]
    config = ROOT / "configs/vqa_absvit_base.yaml"
    assert run_script("scripts/finetune_vqa.py", "--config", config, *changes) == 0
    for split in ("train", "val"):
        where = ("--checkpoint", folder / "run/checkpoints/last", "--data", folder / "data", "--split", split)
        output = ("--output", folder / f"{split}.json")
        assert run_script("scripts/evaluate_vqa.py", *where, *output, "--num-workers", 0) == 0
    return folder


@pytest.mark.slow
def test_a_small_model_memorises_the_real_questions(folder):
    annotations = {record["question_id"]: record["answers"] for record in read_annotations(folder / "data", ["train"])}
    vocabulary = read_json(folder / "data/answers.json")["answers"]
    reachable = np.mean([max(question_accuracy(a, answers) for a in vocabulary) for answers in annotations.values()])
    predictions = read_json(folder / "train.json", list)
    reached = np.mean([question_accuracy(each["answer"], annotations[each["question_id"]]) for each in predictions])
    assert len(predictions) == 66
    assert reached > 0.95 * reachable, f"{reached:.3f} of {reachable:.3f}"


@pytest.mark.slow
@pytest.mark.parametrize("split, questions", [("train", 66), ("val", 3)])
def test_the_submission_is_whole_and_scored_on_the_official_files(folder, raw, tmp_path, capsys, split, questions):
    official = raw / f"v2_OpenEnded_mscoco_{split}2014_questions.json", raw / f"v2_mscoco_{split}2014_annotations.json"
    asked = [record["question_id"] for record in read_json(official[0])["questions"]]
    predictions = read_json(folder / f"{split}.json", list)
    check_submission(predictions, asked)
    assert len(predictions) == questions and all(set(each) == {"question_id", "answer"} for each in predictions)
    results, scores = folder / f"{split}.json", tmp_path / "scores.json"
    files = ("--questions", official[0], "--annotations", official[1], "--results", results, "--output", scores)
    assert run_script("scripts/score_vqa.py", *files) == 0
    overall = json.loads(scores.read_text())["overall"]
    assert f"{questions} questions, accuracy {overall:.2f} %" in capsys.readouterr().out
    assert vqa_scores(read_annotations(folder / "data", [split]), predictions).overall == overall


@pytest.mark.slow
@pytest.mark.slow
def test_the_vocabulary_of_sixty_thousand_real_questions_is_a_part_of_the_published_one(real_data, tmp_path):
    files = ("--root", real_data / "vqav2-60k", "--output", tmp_path / "data")
    assert run_script("data_prep/prepare_vqav2.py", *files, "--allow-missing-images", "--workers", 1) == 0
    ours = read_json(tmp_path / "data/answers.json")["answers"]
    published = read_json(real_data / "answer-vocab/lxmert_trainval_label2ans.json", list)
    assert len(published) == 3129
    assert len(ours) == len(set(ours) & set(published)) == 433
    table = pq.read_table(tmp_path / "data/train.parquet", columns=["labels"])
    with_target = sum(len(labels) > 0 for labels in table.column("labels").to_pylist())
    assert (table.num_rows, with_target) == (60_003, 55_743)
