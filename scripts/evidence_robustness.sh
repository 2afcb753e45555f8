#!/usr/bin/env bash
# What top-down attention and sparse reconstruction buy, in the small: a ViT, AbSViT, VARS-D and AbSViT with VARS-D, the same budget for
# each, on corrupted and on attacked pictures, on drawing styles that were never seen, and where they look.
#
#   bash scripts/evidence_robustness.sh [--output runs/robustness] [--seeds "0 1 2"] [--scenes 1500] [--epochs 12] [--styles 800] [--domain-epochs 4]
#
# A seed's rows share a world, of whose SCENES its single objects are a third, nine to a scene. Each row is a DeiT* that classifies them at 96
# pixels (36 tokens; configs/demo/pretrain.yaml without mosaics, EPOCHS epochs in batches of 16), judged on other objects: under ImageNet-C's 15
# corruptions, under PGD of four radii by its own gradients and by those of the row's next seed. From it, DOMAIN_EPOCHS epochs on three of
# the demo's four drawing styles, STYLES pictures each, for every style left out (configs/demo/domains.yaml). Its maps of 200 scenes are held against masks of
# their objects and eye fixations on these, which are there a third as large as those that were learned; on 50 of them it is asked whether the maps are worth anything.
# Runs are side by side, one to a core, or one after the other on a GPU. Finished stages are reused, interrupted ones go on, and a run that
# fails does not stop the others. Writes OUTPUT/<row>-<seed>/ and the tables OUTPUT/table.md and OUTPUT/table.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

output=runs/robustness seeds="0 1 2" scenes=1500 epochs=12 styles=800 domain_epochs=4
source scripts/stages.sh
read_options evidence_robustness "output" "scenes epochs styles domain_epochs" "$@"
budget="scenes $scenes epochs $epochs styles $styles domain-epochs $domain_epochs"

declare -A changes=(
  [vit]="--vision.attention softmax --vision.top_down none"
  [absvit]="--vision.attention softmax --vision.top_down absvit --loss.reconstruction 0.1"
  [vars_d]="--vision.attention vars_d --vision.top_down none"
  [absvit_vars_d]="--vision.attention vars_d --vision.top_down absvit --loss.reconstruction 0.1"
)
order=(vit absvit vars_d absvit_vars_d)
common="--vision.model absvit_deit_star_tiny --vision.gain 1 --run.trackers []"

source scripts/setup.sh

# make_scenes: with masks of their objects and eye fixations.
make_scenes() {
  python data_prep/make_demo.py --output "$output/masked" --masks 400
  grep -v '^train/' "$output/masked/fixations.csv" >"$output/masked/fixations_val.csv"
  python data_prep/prepare_fixations.py --fixations "$output/masked/fixations_val.csv" --images "$output/masked/pictures" \
    --output "$output/fixations"
}

# corrupted RUN SHARED: clean and corrupted pictures of val.
corrupted() {
  python scripts/evaluate_vision.py --checkpoint "$1/train/checkpoints/best" --data "$2/world/single_objects/val" --corrupt all \
    --num-workers 0 --output "$1/corrupted.json"
}

# attacked RUN SHARED OTHER: by the run's own gradients and, where there is another seed, by those of OTHER.
attacked() {
  local transfer=()
  if [[ $3 != "$1" ]]; then transfer=(--transfer-from "$3/train/checkpoints/best"); fi
  python scripts/evaluate_vision.py --checkpoint "$1/train/checkpoints/best" --data "$2/world/single_objects/val" --attack pgd \
    --eps 1 4 16 64 --num-workers 0 --output "$1/attacked.json" "${transfer[@]}"
}

# looked RUN: where it looks in scenes, beside their objects and made-up fixations.
looked() {
  python scripts/export_attention.py --checkpoint "$1/train/checkpoints/best" --pictures "$output/masked/pictures/val" --no-overlays \
    --output "$1/maps"
  python scripts/evaluate_maps.py --checkpoint "$1/train/checkpoints/best" --maps "$1/maps" --limit 50 --output "$1/worth.json"
  python scripts/compare_fixations.py --maps "$1/maps" --fixations "$output/fixations" --output "$1/fixations.json"
  python scripts/compare_masks.py --maps "$1/maps" --masks "$output/masked/masks/val" --output "$1/masks.json"
}

# words NAME SEED: what both trainings of a row are told.
words() {
  local change
  read -ra change <<<"$common ${changes[$1]}"
  printf '%s\n' "${change[@]}" --run.seed "$2"
}

# learn NAME SEED: the classifier of single objects.
learn() {
  local name=$1 seed=$2 launch=(python) options
  mapfile -t options < <(words "$name" "$seed")
  stage "train-$name-$seed" pretrain "$output/shared-$seed" "$output/$name-$seed/train" --mosaic 1 --optim.batch_size 16 \
    --optim.epochs "$epochs" "${options[@]}"
}

# row NAME SEED: all that is asked of it.
row() {
  local name=$1 seed=$2 run=$output/$1-$2 shared=$output/shared-$2 launch=(python) target options
  mapfile -t options < <(words "$name" "$seed")
  stage "corrupted-$name-$seed" corrupted "$run" "$shared"
  stage "attacked-$name-$seed" attacked "$run" "$shared" "$output/$name-$(next_seed "$seed")"
  for target in $(cd "$output/data" && ls -d */ | tr -d /); do
    stage "domain-$name-$seed-$target" leave_out "$output/data" "$run/domains" "$target" --config demo/domains \
      --vision.patch_size 16 --vision.image_size 96 --vision.weights "$run/train/checkpoints/best" --optim.epochs "$domain_epochs" \
      "${options[@]}"
  done
  stage "looked-$name-$seed" looked "$run"
}

# next_seed SEED: the one after it, the first after the last.
next_seed() {
  local all found=""
  read -ra all <<<"$seeds"
  for seed in "${all[@]}" "${all[0]}"; do
    if [[ -n $found ]]; then echo "$seed"; return; fi
    if [[ $seed == "$1" ]]; then found=1; fi
  done
}

runs=()
for seed in $seeds; do
  for name in "${order[@]}"; do runs+=("$name $seed"); done
done
recipe="$budget seeds $seeds $(cat configs/demo/{pretrain,domains}.yaml | sha256sum | cut -d' ' -f1)"
begin_rows tabulate_robustness "scenes $scenes" "$recipe"
for seed in $seeds; do
  wait_for_lane
  stage "world-$seed" make_world "$output/shared-$seed" "$seed" --scenes "$scenes" &
done
wait_for_lane
{ stage world make_styles "$output" "$styles" && stage prepare prepare_styles "$output" && stage masked make_scenes; } &
wait_for_all
for part in masked ${seeds// / }; do
  [[ -e $output/seconds/$part || -e $output/seconds/world-$part ]] || { echo "error: the world $part could not be made" >&2; exit 1; }
done
for run in "${runs[@]}"; do
  wait_for_lane
  echo "== $run, training"
  learn ${run% *} ${run#* } >>"$output/${run/ /-}/log" 2>&1 &
done
wait_for_all
run_rows masks.json
