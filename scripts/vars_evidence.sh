#!/usr/bin/env bash
# Does sparse reconstruction as attention do what [VARS] says? DeiT* on the demo worlds' single objects, by each kind of attention, the
# same budget for each: accuracy on clean pictures and under ImageNet-C's 15 corruptions in five severities.
#
#   bash scripts/vars_evidence.sh [--output runs/vars] [--seeds "0 1 2"] [--scenes 1500] [--epochs 12] [--rows all|main]
#
# A seed's rows share a world, of whose SCENES its single objects are a third, nine to a scene. Each row is a classifier of single objects
# at 96 pixels, 36 tokens: the sizes of configs/demo/pretrain.yaml, EPOCHS epochs of it without mosaics, in batches of 16. The rows of `main` are the kinds of
# attention; the others vary VARS-D's steps, lambda and form, and VARS-S's lambda, and come after them. Runs are side by side, one to a
# core, or one after the other on a GPU. Finished stages are reused, interrupted ones go on, and a run that fails does not stop the others.
# Writes OUTPUT/<row>-<seed>/ with corrupted.json, curves and maps after every step, and the tables OUTPUT/table.md and OUTPUT/table.json;
# the command that makes them of what is finished so far is printed at the beginning.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

output=runs/vars seeds="0 1 2" scenes=1500 epochs=12 rows=all
source scripts/stages.sh
read_options vars_evidence "output rows" "scenes epochs" "$@"
[[ $rows =~ ^(all|main)$ ]] || { echo "error: --rows: expected all or main, got $rows" >&2; exit 2; }

declare -A changes=(
  [softmax]="--vision.attention softmax"
  [performer]="--vision.attention performer"
  [vars_s]="--vision.attention vars_s"
  [vars_d]="--vision.attention vars_d"
  [vars_sd]="--vision.attention vars_sd"
  [steps_1]="--vision.attention vars_d --vision.vars_steps 1"
  [steps_3]="--vision.attention vars_d --vision.vars_steps 3"
  [steps_7]="--vision.attention vars_d --vision.vars_steps 7"
  [lambda_0.1]="--vision.attention vars_d --vision.vars_penalty 0.1"
  [lambda_1]="--vision.attention vars_d --vision.vars_penalty 1"
  [plain_ista]="--vision.attention vars_d --vision.vars_generation ista"
  [vars_s_lambda_0.3]="--vision.attention vars_s --vision.vars_penalty 0.3"
)
main=(softmax performer vars_s vars_d vars_sd)
order=("${main[@]}")
if [[ $rows == all ]]; then order+=(steps_1 steps_3 steps_7 lambda_0.1 lambda_1 plain_ista vars_s_lambda_0.3); fi
common="--mosaic 1 --optim.batch_size 16 --vision.model absvit_deit_star_tiny --run.trackers []"

source scripts/setup.sh

# corrupted RUN SHARED: clean and corrupted pictures of val.
corrupted() {
  python scripts/evaluate_vision.py --checkpoint "$1/checkpoints/best" --data "$2/world/single_objects/val" --corrupt all \
    --num-workers 0 --output "$1/corrupted.json"
}

# steps RUN SHARED: where it attends, on one picture of six kinds.
steps() {
  local kinds=("$2"/world/single_objects/val/*/) pictures=() kind
  for kind in "${kinds[@]:0:6}"; do pictures+=("$(find "$kind" -name '*.png' | sort | head -n 1)"); done
  python scripts/draw_steps.py --checkpoint "$1/checkpoints/best" --images "${pictures[@]}" --output "$1/steps.png"
}

# row NAME SEED
row() {
  local name=$1 seed=$2 shared=$output/shared-$2 run=$output/$1-$2 change launch=(python)
  read -ra change <<<"$common ${changes[$name]}"
  stage "train-$name-$seed" pretrain "$shared" "$run" --run.seed "$seed" --optim.epochs "$epochs" "${change[@]}"
  stage "steps-$name-$seed" steps "$run" "$shared"
  stage "corrupted-$name-$seed" corrupted "$run" "$shared"
}

runs=()
for kind in main others; do
  for seed in $seeds; do
    for name in "${order[@]}"; do
      if [[ " ${main[*]} " == *" $name "* ]]; then of=main; else of=others; fi
      if [[ $of == "$kind" ]]; then runs+=("$name $seed"); fi
    done
  done
done
recipe="scenes $scenes epochs $epochs $(sha256sum <configs/demo/pretrain.yaml | cut -d' ' -f1)"
begin_rows tabulate_vars "scenes $scenes" "$recipe"
for seed in $seeds; do
  wait_for_lane
  stage "world-$seed" make_world "$output/shared-$seed" "$seed" --scenes "$scenes" &
done
wait_for_all
for seed in $seeds; do
  [[ -e $output/seconds/world-$seed ]] || { echo "error: the world of seed $seed could not be made" >&2; exit 1; }
done

run_rows corrupted.json
