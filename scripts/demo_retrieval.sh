#!/usr/bin/env bash
# Retrieval on the demo worlds in full: AbSViT and its bottom-up twin, zero-shot and finetuned, dual encoder and whole model, and
# what shortlists save and cost.
#
#   bash scripts/demo_retrieval.sh [--demo runs/demo]
#
# Needs a finished demo (bash scripts/demo.sh). Writes retrieval/ in its folder. Both models see the same data for as many steps.
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
read -r _ seed _ <"$demo/settings"
train=(--run.seed "$seed" --run.resume true)
tokenizer=$demo/world/tokenizer

# finetune RUN START CAPTIONS SPLITS [OPTION...]: a retrieval run in the demo's configuration.
finetune() {
  "${launch[@]}" scripts/finetune_retrieval.py --config configs/demo/retrieval.yaml --text.tokenizer "$tokenizer" \
    --run.output "$1" --from_checkpoint "$2" --data.root "$demo/captions/$3" --data.train_splits "$4" "${train[@]}" "${@:5}"
}

# rank MODEL CHECKPOINT: the dual encoder, three shortlists and all pairs.
rank() {
  local name=$1 checkpoint=$2 size
  "${launch[@]}" scripts/evaluate_retrieval.py --checkpoint "$checkpoint" --data "$demo/captions/flickr30k" --split test \
    --look first --num-workers 0 --output "$output/$name-first.json"
  for size in 8 16 32 all; do
    "${launch[@]}" scripts/evaluate_retrieval.py --checkpoint "$checkpoint" --data "$demo/captions/flickr30k" --split test \
      --look second --shortlist $size --num-workers 0 --output "$output/$name-$size.json"
  done
}

stage vit-vqa "${launch[@]}" scripts/finetune_vqa.py --config configs/demo/vqa.yaml --vision.top_down none \
  --data.root "$demo/data" --text.tokenizer "$tokenizer" --vision.weights "$demo/pretrained/checkpoints/best" \
  --run.output "$output/vit-vqa" "${train[@]}"
stage vit-coco finetune "$output/vit-coco" "$output/vit-vqa/checkpoints/best" coco "[train, restval]" --vision.top_down none
stage vit-flickr30k finetune "$output/vit-flickr30k" "$output/vit-coco/checkpoints/best" flickr30k "[train]" \
  --vision.top_down none
stage absvit-flickr30k finetune "$output/absvit-flickr30k" "$demo/retrieval/checkpoints/best" flickr30k "[train]"
stage rank-absvit-coco rank absvit-coco "$demo/retrieval/checkpoints/best"
stage rank-vit-coco rank vit-coco "$output/vit-coco/checkpoints/best"
stage rank-absvit-flickr30k rank absvit-flickr30k "$output/absvit-flickr30k/checkpoints/best"
stage rank-vit-flickr30k rank vit-flickr30k "$output/vit-flickr30k/checkpoints/best"
python scripts/tabulate_retrieval.py "$output"/*-{first,8,16,32,all}.json --output "$output/table.json"
