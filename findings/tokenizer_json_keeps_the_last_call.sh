#!/usr/bin/env bash
# transformers 5.24.0: save_pretrained writes the length of the last call into tokenizer.json, and the tokenizers library cuts texts to it.
#
# tokenizer(text, truncation=True, max_length=8, padding="max_length") sets the tokenizer that it wraps, and what is set is saved with it.
# transformers starts every call anew, so that whoever trains and evaluates with it sees nothing. A program that reads the same file by
# the tokenizers library itself (a server, an ONNX pipeline) cuts and fills every text to that length, with no word and no option given.
# Naive guess: a saved tokenizer is the same whatever it has read before; the arguments of a call hold for that call.
# Seen: of a caption's 19 tokens the first 7 and </s> are left; a text of one word gets five <pad>. The length is that of the last call,
# whatever it was for: a caption model whose tokenizer read a batch of short answers last is saved with the length of these.
# Remedy: tokenizer.backend_tokenizer.no_truncation() and no_padding() before saving.
# Source: https://github.com/huggingface/transformers/issues/24441 (closed; the state is known there by its hashes);
# https://github.com/vllm-project/llm-compressor/pull/2917 (published vision-language checkpoints that carry such a length).
# Here: vl_absvit/tasks/tokenizers.py, save_tokenizer, writes both as null; tests/tasks/test_tokenizers.py reads its file with tokenizers.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check transformers==5.24.0 tokenizers==0.23.3 numpy==2.4.6
cd "$folder"
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" - <<'PY' || { echo "no longer so"; exit 1; }
import json

import tokenizers
import transformers

CAPTION = "a small red ring on top of a blue cross, and a green square behind them"
trained = tokenizers.ByteLevelBPETokenizer()
special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
trained.train_from_iterator([CAPTION], vocab_size=400, min_frequency=1, special_tokens=special, show_progress=False)
parts = json.loads(trained.to_str())["model"]
tokenizer = transformers.RobertaTokenizer(vocab=parts["vocab"], merges=[tuple(merge) for merge in parts["merges"]])


def saved_after(**options: object) -> tuple[list[int], list[int], list[int]]:
    """Tokens of the caption for transformers and for tokenizers, and of one word for the latter, after a call with these options."""
    tokenizer("a red ring", **options)
    tokenizer.save_pretrained("saved")
    again = transformers.AutoTokenizer.from_pretrained("saved")
    raw = tokenizers.Tokenizer.from_file("saved/tokenizer.json")
    found = again(CAPTION).input_ids, raw.encode(CAPTION).ids, raw.encode("a").ids
    print(f"  after a call with {options}: caption {len(found[0])} tokens in transformers, {len(found[1])} in tokenizers, 'a' {len(found[2])}")
    return found


print("transformers", transformers.__version__, "tokenizers", tokenizers.__version__)
whole, raw, word = saved_after()
assert whole == raw and len(word) == 3
pad, end = (tokenizer.convert_tokens_to_ids(token) for token in ("<pad>", "</s>"))
assert saved_after(truncation=True, max_length=8, padding="max_length") == (whole, [*whole[:7], end], word + [pad] * 5)
tokenizer.backend_tokenizer.no_truncation(), tokenizer.backend_tokenizer.no_padding()
tokenizer.save_pretrained("saved")
assert tokenizers.Tokenizer.from_file("saved/tokenizer.json").encode(CAPTION).ids == whole
PY
