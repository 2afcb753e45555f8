#!/usr/bin/env bash
# Does looking twice help to classify pixels? The demo's scenes with masks, by UPerNet on AbSViT, on its ViT twin, and on AbSViT without
# reconstruction loss, from the same pretrained encoder: mIoU on val.
#
#   bash scripts/segmentation_evidence.sh [--output runs/segmentation] [--seeds "0 1 2"] [--scenes 2000] [--masks 2400] [--epochs 8]
#     [--trunk-epochs 6]
#
# A seed's rows share their worlds: SCENES scenes' single objects to pretrain on for TRUNK_EPOCHS epochs, and MASKS scenes with masks, half of
# them val. A row is configs/demo/segmentation.yaml for EPOCHS epochs. Runs are side by side, one to a core, or one after the other on a GPU. Finished stages are
# reused, interrupted ones go on, and a run that fails does not stop the others.
# Writes OUTPUT/<row>-<seed>/ with val.json, and the tables OUTPUT/table.md and OUTPUT/table.json; OUTPUT/seconds has the time of each stage.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

output=runs/segmentation seeds="0 1 2" scenes=2000 masks=2400 epochs=8 trunk_epochs=6
source scripts/stages.sh
read_options segmentation_evidence "output" "scenes masks epochs trunk_epochs" "$@"

declare -A changes=(
  [absvit]=""
  [vit]="--vision.top_down none --loss.reconstruction 0"
  [no_reconstruction]="--loss.reconstruction 0"
)
order=(absvit vit no_reconstruction)

source scripts/setup.sh

# scenes_with_masks SHARED SEED: drawn and prepared.
scenes_with_masks() {
  python data_prep/make_demo.py --output "$1/masks" --seed "$2" --masks "$masks"
  python data_prep/prepare_segmentation.py --dataset folder --root "$1/masks" --output "$1/masked"
}

# classify RUN SHARED: every pixel of val.
classify() {
  python scripts/evaluate_segmentation.py --checkpoint "$1/checkpoints/last" --data "$2/masked" --split val --num-workers 0 \
    --output "$1/val.json"
}

# shared SEED: the worlds and the encoder.
shared() {
  local folder=$output/shared-$1 launch=(python)
  stage "world-$1" make_world "$folder" "$1" --scenes "$scenes"
  stage "masks-$1" scenes_with_masks "$folder" "$1"
  stage "pretrain-$1" pretrain "$folder" "$folder/pretrained" --run.seed "$1" --run.trackers "[]" --optim.epochs "$trunk_epochs"
}

# row NAME SEED
row() {
  local shared=$output/shared-$2 run=$output/$1-$2 change launch=(python)
  read -ra change <<<"${changes[$1]}"
  stage "train-$1-$2" train "$run" scripts/finetune_segmentation.py --config configs/demo/segmentation.yaml --data.root "$shared/masked" \
    --vision.weights "$shared/pretrained/checkpoints/best" --run.seed "$2" --optim.epochs "$epochs" "${change[@]}"
  stage "classify-$1-$2" classify "$run" "$shared"
}

runs=()
for seed in $seeds; do
  for name in "${order[@]}"; do runs+=("$name $seed"); done
done
shared_recipe="scenes $scenes masks $masks trunk_epochs $trunk_epochs"
recipe="$shared_recipe epochs $epochs $(cat configs/demo/{pretrain,segmentation}.yaml | sha256sum | cut -d' ' -f1)"
begin_rows tabulate_segmentation "$shared_recipe" "$recipe"
run_shared encoder
run_rows val.json
