#!/usr/bin/env bash
# The whole story on a small drawn world: data, pretraining, VQA finetuning, evaluation, retrieval, attention, a table.
#
#   bash scripts/demo.sh [--seed 0] [--output runs/demo] [--scenes N] [-- overrides of the training configs]
#
# SEED=1 is the same as --seed 1. Stages that are finished are reused; an interrupted one goes on where it stopped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  echo "usage: bash scripts/demo.sh [--seed N] [--output DIR] [--scenes N] [-- --optim.epochs 1 ...]" >&2
  exit 2
}

seed=${SEED:-0} output=runs/demo scenes=() overrides=()
while (($#)); do
  case $1 in
    --seed) seed=${2:-} ;;
    --output) output=${2:-} ;;
    --scenes) scenes=(--scenes "${2:-}") ;;
    --) overrides=("${@:2}"); break ;;
    *) usage ;;
  esac
  (($# >= 2)) || usage
  shift 2
done
[[ $seed =~ ^[0-9]+$ && -n $output && ${scenes[1]:-1} =~ ^[0-9]+$ ]] || usage

source scripts/setup.sh

prepare_captions() {
  local dataset
  for dataset in coco flickr30k; do
    python data_prep/prepare_captions.py --dataset $dataset --root "$output/world/$dataset" \
      --karpathy "$output/world/$dataset/dataset_$dataset.json" --output "$output/captions/$dataset"
  done
}

# The other world, which no training has seen: ranked by the dual encoder, then its best 16 by the whole model.
rank() {
  local look
  for look in first second; do
    "${launch[@]}" scripts/evaluate_retrieval.py --checkpoint "$output/retrieval/checkpoints/best" \
      --data "$output/captions/flickr30k" --split test --look $look --shortlist 16 --num-workers 0 \
      --output "$output/retrieval_$look.json"
  done
}

# Where the model looks, beside where people looked; and for every question of val.
attention() {
  local human=$output/world/vqa_hat
  python data_prep/prepare_vqa_hat.py --maps "$human/vqahat_val" --images "$output/world/vqav2" --output "$output/hat" \
    --questions "$human/OpenEnded_mscoco_val2014_questions.json"
  "${launch[@]}" scripts/export_attention.py --checkpoint "$output/vqa/checkpoints/best" --data "$output/hat" --split val \
    --output "$output/attention/hat" --num-workers 0
  python scripts/compare_vqa_hat.py --maps "$output/attention/hat" --hat "$output/hat" --output "$output/agreement.json"
  python scripts/attention_report.py --maps "$output/attention/hat" --hat "$output/hat" --output "$output/report_human.html"
  "${launch[@]}" scripts/export_attention.py --checkpoint "$output/vqa/checkpoints/best" --data "$output/data" --split val \
    --output "$output/attention/val" --no-overlays --num-workers 0
  python scripts/attention_report.py --maps "$output/attention/val" --limit 300 --output "$output/report.html"
  python scripts/compare_priors.py --checkpoint "$output/vqa/checkpoints/best" --pairs "$output/world/pairs" \
    --output "$output/priors"
}

# What is there is reused only if it was made in the same way.
settings="seed $seed ${scenes[*]} ${overrides[*]} $(cat configs/demo/*.yaml | sha256sum | cut -d' ' -f1)"
if [[ -e $output/settings && "$(cat "$output/settings")" != "$settings" ]]; then
  echo "error: $output holds a demo with another seed, configs or options; choose another --output or remove it" >&2
  exit 1
fi
mkdir -p "$output"
echo "$settings" >"$output/settings"

source scripts/stages.sh

train=(--run.seed "$seed" --run.resume true "${overrides[@]}")
stage world python data_prep/make_demo.py --output "$output/world" --seed "$seed" "${scenes[@]}"
stage prepare python data_prep/prepare_vqav2.py --root "$output/world/vqav2" --output "$output/data" --seed "$seed"
stage pretrain "${launch[@]}" scripts/pretrain_vision.py --config configs/demo/pretrain.yaml \
  --data.root "$output/world/single_objects" --run.output "$output/pretrained" "${train[@]}"
stage finetune "${launch[@]}" scripts/finetune_vqa.py --config configs/demo/vqa.yaml \
  --data.root "$output/data" --text.tokenizer "$output/world/tokenizer" \
  --vision.weights "$output/pretrained/checkpoints/best" --run.output "$output/vqa" "${train[@]}"
stage evaluate python scripts/evaluate_vqa.py --checkpoint "$output/vqa/checkpoints/best" \
  --data "$output/data" --split val --output "$output/predictions.json" --num-workers 0
stage captions prepare_captions
stage retrieval "${launch[@]}" scripts/finetune_retrieval.py --config configs/demo/retrieval.yaml \
  --data.root "$output/captions/coco" --text.tokenizer "$output/world/tokenizer" \
  --from_checkpoint "$output/vqa/checkpoints/best" --run.output "$output/retrieval" "${train[@]}"
stage rank rank
stage attention attention
echo "== summary"
python scripts/summarise_demo.py --checkpoint "$output/vqa/checkpoints/best" --data "$output/data" --split val \
  --objects "$output/world/vqav2/demo_objects.json" --predictions "$output/predictions.json" \
  --retrieval "$output/retrieval_first.json" "$output/retrieval_second.json" \
  --agreement "$output/agreement.json" --steering "$output/priors/scores.json" --seconds "$output/seconds" --output "$output"
echo "pages to look at: $output/report.html and $output/report_human.html"
