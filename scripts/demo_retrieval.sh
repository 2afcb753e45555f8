#!/usr/bin/env bash
# Retrieval on the demo worlds in full: AbSViT and its bottom-up twin, zero-shot and finetuned, dual encoder and whole model, and
# what shortlists save and cost.
#
#   bash scripts/demo_retrieval.sh [--demo runs/demo]
#
# Needs a finished demo (bash scripts/demo.sh). Writes comparison/ in its folder. Both models see the same data for as many steps.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

demo=runs/demo
case $#,${1:-} in
  0,) ;;
  2,--demo) demo=$2 ;;
  *) echo "usage: bash scripts/demo_retrieval.sh [--demo DIR]" >&2; exit 2 ;;
esac
if [[ ! -e $demo/seconds/rank ]]; then
  echo "error: $demo holds no finished demo; run bash scripts/demo.sh --output $demo" >&2
  exit 1
fi

source scripts/setup.sh
output=$demo/comparison
source scripts/stages.sh
choose_launch
read -r _ seed _ <"$demo/settings"

# finetune RUN START OPTION...: a retrieval run in the demo's configuration.
finetune() { finetune_retrieval "$demo" "$output/$1" "$2" --run.seed "$seed" "${@:3}"; }

# rank_all MODEL CHECKPOINT: the dual encoder, three shortlists and all pairs by the whole model, and the middle one by the sum of both.
rank_all() {
  local name=$1 checkpoint=$2 size
  for size in 8 32 all; do
    "${launch[@]}" scripts/evaluate_retrieval.py --checkpoint "$checkpoint" --data "$demo/captions/flickr30k" --split test \
      --look second --shortlist $size --num-workers 0 --output "$output/$name-$size.json"
  done
  "${launch[@]}" scripts/evaluate_retrieval.py --checkpoint "$checkpoint" --data "$demo/captions/flickr30k" --split test \
    --look first second both --shortlist 16 --num-workers 0 --output "$output/$name-16.json"
}

coco=(--data.train_splits "[train, restval]")
flickr30k=(--data.root "$demo/captions/flickr30k" --data.train_splits "[train]" --optim.epochs 5)  # 600 pictures
vit=(--vision.top_down none --vision.looks_again_from 0)
stage vit-vqa finetune_vqa "$demo" "$output/vit-vqa" "${vit[@]}" --run.seed "$seed"
stage vit-coco finetune vit-coco "$output/vit-vqa" "${coco[@]}" "${vit[@]}"
stage vit-flickr30k finetune vit-flickr30k "$output/vit-coco" "${flickr30k[@]}" "${vit[@]}"
stage absvit-flickr30k finetune absvit-flickr30k "$demo/retrieval" "${flickr30k[@]}"
stage rank-absvit-coco rank_all absvit-coco "$demo/retrieval/checkpoints/best"
stage rank-vit-coco rank_all vit-coco "$output/vit-coco/checkpoints/best"
stage rank-absvit-flickr30k rank_all absvit-flickr30k "$output/absvit-flickr30k/checkpoints/best"
stage rank-vit-flickr30k rank_all vit-flickr30k "$output/vit-flickr30k/checkpoints/best"
python scripts/tabulate_retrieval.py "$output"/*-{8,16_first,16_second,16_both,32,all}.json --output "$output/table.json"
