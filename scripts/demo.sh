#!/usr/bin/env bash
# The whole story on a small drawn world: data, pretraining, VQA finetuning, evaluation, retrieval, attention, a table.
#
#   bash scripts/demo.sh [--seed 0] [--output runs/demo] [--scenes N] [-- overrides of the training configs]
#
# SEED=1 is the same as --seed 1. A smaller world, --scenes 1500, has its pages in a few minutes; its model knows less.
# Stages that are finished are reused; an interrupted one goes on where it stopped.
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
source scripts/stages.sh
claim "$output" "seed $seed ${scenes[*]} ${overrides[*]} $(cat configs/demo/*.yaml | sha256sum | cut -d' ' -f1)" \
  "a demo with another seed, configs or options"
choose_launch

# Where the model looks, beside where people looked; and for every question of val.
attention() {
  local checkpoint=$output/vqa/checkpoints/best
  prepare_hat "$output"
  "${launch[@]}" scripts/export_attention.py --checkpoint "$checkpoint" --data "$output/hat" --split val \
    --output "$output/attention/hat" --no-overlays --num-workers 0
  python scripts/compare_vqa_hat.py --maps "$output/attention/hat" --hat "$output/hat" --output "$output/agreement.json"
  python scripts/attention_report.py --maps "$output/attention/hat" --hat "$output/hat" --output "$output/report_human.html"
  "${launch[@]}" scripts/export_attention.py --checkpoint "$checkpoint" --data "$output/data" --split val \
    --output "$output/attention/val" --no-overlays --num-workers 0
  python scripts/attention_report.py --maps "$output/attention/val" --limit 300 --output "$output/report.html"
  python scripts/compare_priors.py --checkpoint "$checkpoint" --pairs "$output/world/pairs" --output "$output/priors"
}

options=(--run.seed "$seed" "${overrides[@]}")
stage world make_world "$output" "$seed" "${scenes[@]}"
stage prepare prepare_questions "$output" "$seed"
stage pretrain pretrain "$output" "$output/pretrained" "${options[@]}"
stage finetune finetune_vqa "$output" "$output/vqa" "${options[@]}"
stage evaluate answer "$output" "$output/vqa" "$output/predictions.json"
stage attention attention
echo "pages to look at: $output/report.html and $output/report_human.html"
stage captions prepare_captions "$output"
stage retrieval finetune_retrieval "$output" "$output/retrieval" "$output/vqa" "${options[@]}"
stage rank rank "$output" "$output/retrieval" "$output/retrieval" 16 first second both
echo "== summary"
summarise "$output" "$output" --steering "$output/priors/scores.json" --seconds "$output/seconds"
