#!/usr/bin/env bash
# The paper's Table 1 in the small: AbSViT, its baselines and ablations on the demo worlds, the same budget for each.
#
#   bash scripts/evidence.sh [--output runs/evidence] [--seeds "0 1 2"] [--scenes 3000] [--epochs 2]
#
# A seed's rows share a world of SCENES training images, its data and a pretrained trunk. Each row is a VQA model, finetuned for EPOCHS
# epochs, and a retrieval model that starts from it and meets world B zero-shot. With 3,000 images, half of the demo's,
# batches are half as large as well, so that an epoch has as many steps as one of the demo. Rows run side by side, one to a core, or one
# after the other on a GPU. Finished stages are reused, interrupted ones go on. Writes OUTPUT/<row>-<seed>/ and the table,
# OUTPUT/table.md and OUTPUT/table.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

output=runs/evidence seeds="0 1 2" scenes=3000 epochs=2
while (($#)); do
  (($# >= 2)) || set -- usage
  case $1 in
    --output) output=$2 ;;
    --seeds) seeds=$2 ;;
    --scenes) scenes=$2 ;;
    --epochs) epochs=$2 ;;
    *) echo 'usage: bash scripts/evidence.sh [--output DIR] [--seeds "0 1 2"] [--scenes N] [--epochs N]' >&2; exit 2 ;;
  esac
  shift 2
done

# What each row changes, in both configs.
declare -A changes=(
  [vit]="--vision.top_down none"
  [perceiver_io]="--vision.top_down perceiver_io"
  [feedback]="--vision.top_down feedback"
  [mask_att]="--vision.top_down mask_att"
  [absvit]=""
  [absvit_qkv]="--vision.top_down absvit_qkv"
  [no_reconstruction]="--loss.reconstruction 0"
  [no_prior]="--loss.prior 0"
  [look_second]="--prior.look second"
  [pool_mean]="--prior.pool mean"
  [pool_cls]="--prior.pool cls"
  [gain_1]="--vision.gain 1"
)
order=(vit perceiver_io feedback mask_att absvit absvit_qkv no_prior no_reconstruction pool_mean pool_cls look_second gain_1)

source scripts/setup.sh
source scripts/stages.sh
lanes=$((gpus > 0 ? 1 : cores))

prepare_captions() {
  local dataset
  for dataset in coco flickr30k; do
    python data_prep/prepare_captions.py --dataset $dataset --root "$1/world/$dataset" \
      --karpathy "$1/world/$dataset/dataset_$dataset.json" --output "$1/captions/$dataset"
  done
}

# What all rows of a seed start from.
common() {
  local seed=$1 shared=$output/shared-$1
  local human=$shared/world/vqa_hat
  stage "world-$seed" python data_prep/make_demo.py --output "$shared/world" --seed "$seed" --scenes "$scenes"
  stage "prepare-$seed" python data_prep/prepare_vqav2.py --root "$shared/world/vqav2" --output "$shared/data" --seed "$seed"
  stage "captions-$seed" prepare_captions "$shared"
  stage "hat-$seed" python data_prep/prepare_vqa_hat.py --maps "$human/vqahat_val" --images "$shared/world/vqav2" \
    --questions "$human/OpenEnded_mscoco_val2014_questions.json" --output "$shared/hat"
  stage "pretrain-$seed" "${launch[@]}" scripts/pretrain_vision.py --config configs/demo/pretrain.yaml \
    --data.root "$shared/world/single_objects" --run.output "$shared/pretrained" --run.seed "$seed" --run.resume true \
    --optim.epochs $((7 * 6000 / scenes))  # as many steps as in the demo
}

# Recalls on world B: the dual encoder, and the whole model on its best 16; on all pairs where no prior was trained to choose.
rank() {
  local run=$1 gallery=$2 name=$3 look size=16
  if [[ $name == no_prior ]]; then size=all; fi
  for look in first second; do
    python scripts/evaluate_retrieval.py --checkpoint "$run/retrieval/checkpoints/best" --data "$gallery" --split test \
      --look $look --shortlist $size --num-workers 0 --output "$run/retrieval_$look.json"
  done
}

# Agreement with human maps, pointing, and everything in one summary.
look() {
  local run=$1 shared=$2 checkpoint=$1/vqa/checkpoints/best
  python scripts/evaluate_vqa.py --checkpoint "$checkpoint" --data "$shared/data" --split val --num-workers 0 \
    --output "$run/predictions.json"
  python scripts/export_attention.py --checkpoint "$checkpoint" --data "$shared/hat" --split val --no-overlays \
    --num-workers 0 --output "$run/maps"
  python scripts/compare_vqa_hat.py --maps "$run/maps" --hat "$shared/hat" --output "$run/agreement.json"
  python scripts/summarise_demo.py --checkpoint "$checkpoint" --data "$shared/data" --split val --output "$run" \
    --objects "$shared/world/vqav2/demo_objects.json" --predictions "$run/predictions.json" \
    --retrieval "$run/retrieval_first.json" "$run/retrieval_second.json" --agreement "$run/agreement.json"
}

row() {
  local name=$1 seed=$2 shared=$output/shared-$2 run=$output/$1-$2 change
  local train=(--text.tokenizer "$shared/world/tokenizer" --run.seed "$seed" --run.resume true --run.trackers "[]")
  read -ra change <<<"${changes[$name]}"
  stage "vqa-$name-$seed" python scripts/finetune_vqa.py --config configs/demo/vqa.yaml --data.root "$shared/data" \
    --vision.weights "$shared/pretrained/checkpoints/best" --run.output "$run/vqa" --optim.epochs "$epochs" \
    --optim.batch_size $((64 * scenes / 6000)) "${train[@]}" "${change[@]}"
  stage "retrieval-$name-$seed" python scripts/finetune_retrieval.py --config configs/demo/retrieval.yaml \
    --data.root "$shared/captions/coco" --from_checkpoint "$run/vqa/checkpoints/best" --run.output "$run/retrieval" \
    --optim.batch_size $((32 * scenes / 6000)) "${train[@]}" "${change[@]}"
  stage "rank-$name-$seed" rank "$run" "$shared/captions/flickr30k" "$name"
  stage "look-$name-$seed" look "$run" "$shared"
}

for seed in $seeds; do common "$seed"; done

trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
export OMP_NUM_THREADS=1
running=0
for name in "${order[@]}"; do
  for seed in $seeds; do
    if ((running == lanes)); then
      wait -n || { echo "error: a row failed; see the newest of $output/*/log" >&2; exit 1; }
      running=$((running - 1))
    fi
    mkdir -p "$output/$name-$seed"
    echo "== $name, seed $seed"
    row "$name" "$seed" >>"$output/$name-$seed/log" 2>&1 &
    running=$((running + 1))
  done
done
while ((running--)); do wait -n || { echo "error: a row failed; see the newest of $output/*/log" >&2; exit 1; }; done
python scripts/tabulate_evidence.py "$output" --rows "${order[@]}" --output "$output/table"
