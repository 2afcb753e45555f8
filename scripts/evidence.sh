#!/usr/bin/env bash
# The paper's Table 1 in the small: AbSViT, its baselines and ablations on the demo worlds, the same budget for each.
#
#   bash scripts/evidence.sh [--output runs/evidence] [--seeds "0 1 2 3 4"] [--scenes 4000] [--epochs 2]
#
# A seed's rows share a world of SCENES training images, its data and a pretrained trunk, but for two rows on another trunk, DeiT*, each
# with one of its own: AbSViT by softmax attention, and by VARS, which reconstructs the top-down input, too. Each row is a VQA model, finetuned for EPOCHS
# epochs, and a retrieval model that starts from it and meets world B zero-shot, both in batches half as large as the demo's. The rows of
# `main` run for all seeds, the others, which come after them, for the first three. Runs are side by side, one to a core, or one after the
# other on a GPU. Finished stages are reused, interrupted ones go on, and a run that fails does not stop the
# others. Writes OUTPUT/<row>-<seed>/ and the tables, OUTPUT/table.md and OUTPUT/table.json; the command that makes them of what is
# finished so far is printed at the beginning.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

output=runs/evidence seeds="0 1 2 3 4" scenes=4000 epochs=2
source scripts/stages.sh
read_options evidence "output" "scenes epochs" "$@"

# What rows have unless they change it, which is no longer the demo's: the smooth maximum over patches, and in retrieval the mask of VQA.
common="--prior.pool lse --vision.mask calibrated --vision.gain 80"
# The paper's mask and strength; its decoders, from random weights and trained to reconstruct.
cosine="--vision.mask cosine --vision.gain 10"
trained="--loss.reconstruction 0.1 --optim.learning_rates.feedback 2e-3"
paper="$cosine $trained --vision.decoders random --vision.looks_again_from 0"
# These have no second look that could begin later.
once="--vision.looks_again_from 0"
# What each row changes, in both configs. With strength 1, whatever the mask keeps whole stays as large as it was.
declare -A changes=(
  [vit]="--vision.top_down none $once"
  [perceiver_io]="--vision.top_down perceiver_io --vision.gain 1 $once"
  [feedback]="--vision.top_down feedback --vision.gain 1"
  [mask_att]="--vision.top_down mask_att"
  [absvit_paper]="$paper"
  [absvit]=""
  [absvit_qkv]="--vision.top_down absvit_qkv"
  [no_prior]="$cosine --loss.prior 0"
  [trained_decoders]="$trained"
  [cosine_mask]="$cosine"
  [pool_max]="$cosine --prior.pool max"
  [pool_mean]="$cosine --prior.pool mean"
  [pool_cls]="$cosine --prior.pool cls"
  [calibrated_mean]="--prior.pool mean"
  [captions_open]="--prior.pool mean"
  [again_from_0]="--vision.looks_again_from 0"
  [again_from_1]="--vision.looks_again_from 1"
  [again_from_3]="--vision.looks_again_from 3"
  [look_second]="$cosine --prior.look second"
  [deit_star]="--vision.model absvit_deit_star_tiny --vision.attention softmax"
  [vars_d]="--vision.model absvit_deit_star_tiny --vision.attention vars_d"
)
# And in the config of retrieval alone, which makes the demo's model: captions tell of several things, and the paper's mask is open on them.
declare -A in_retrieval=([captions_open]="$cosine")
order=(vit perceiver_io feedback mask_att absvit_paper absvit absvit_qkv no_prior trained_decoders cosine_mask pool_max pool_mean
  pool_cls calibrated_mean captions_open
  look_second again_from_0 again_from_1 again_from_3 deit_star vars_d)
main=" vit perceiver_io mask_att absvit_paper absvit "
# Trunks that are not the shared one, which these rows pretrain before anything else.
own_trunk=" deit_star vars_d "
# No strength steers these: they look once, without a prior, or without feedback.
unsteered=" vit perceiver_io feedback mask_att "

source scripts/setup.sh

# At least as many steps of pretraining as in the demo, which draws 6,000 scenes.
demo_epochs=$(sed -n 's/^  epochs: //p' configs/demo/pretrain.yaml)
pretrain_epochs=$(((demo_epochs * 6000 + scenes - 1) / scenes))

# shared SEED: what all rows of a seed start from; without a GPU in one process, beside those of other seeds.
shared() {
  local folder=$output/shared-$1
  if ((gpus == 0)); then local launch=(python); fi
  stage "world-$1" make_world "$folder" "$1" --scenes "$scenes"
  stage "prepare-$1" prepare_questions "$folder" "$1"
  stage "captions-$1" prepare_captions "$folder"
  stage "hat-$1" prepare_hat "$folder"
  stage "pretrain-$1" pretrain "$folder" "$folder/pretrained" --run.seed "$1" --optim.epochs "$pretrain_epochs"
}

# row NAME SEED: in one process, for rows run side by side. Without a prior that was trained to choose, all pairs are judged.
row() {
  local name=$1 seed=$2 shared=$output/shared-$2 run=$output/$1-$2 change shortlist=16 steered=steered launch=(python)
  read -ra change <<<"${changes[$name]}"
  local options=(--run.seed "$seed" --run.trackers "[]" $common "${change[@]}")
  if [[ $name == no_prior ]]; then shortlist=all; fi
  if [[ $unsteered == *" $name "* ]]; then steered=; fi
  if [[ $own_trunk == *" $name "* ]]; then
    stage "pretrain-$name-$seed" pretrain "$shared" "$run/pretrained" --run.seed "$seed" --optim.epochs "$pretrain_epochs" "${change[@]}"
    options+=(--vision.weights "$run/pretrained/checkpoints/best")
  fi
  stage "vqa-$name-$seed" finetune_vqa "$shared" "$run/vqa" --optim.epochs "$epochs" --optim.batch_size 33 "${options[@]}"
  stage "retrieval-$name-$seed" finetune_retrieval "$shared" "$run/retrieval" "$run/vqa" --optim.batch_size 16 --optim.epochs 1 \
    "${options[@]}" ${in_retrieval[$name]:-}
  stage "rank-$name-$seed" rank "$shared" "$run/retrieval" "$run/retrieval" "$shortlist" first second
  stage "look-$name-$seed" look "$shared" "$run" "$steered"
}

# Every run that is wanted, as "row seed": the rows of main seed by seed, then the others.
plan() {
  local seed name three
  read -ra three <<<"$seeds"
  for seed in $seeds; do
    for name in $main; do echo "$name $seed"; done
  done
  for seed in "${three[@]:0:3}"; do
    for name in "${order[@]}"; do
      [[ $main == *" $name "* ]] || echo "$name $seed"
    done
  done
}

mapfile -t runs < <(plan)
recipe="scenes $scenes epochs $epochs $(cat configs/demo/*.yaml | sha256sum | cut -d' ' -f1)"
begin_rows tabulate_evidence "$recipe" "$recipe"
run_shared trunk
run_rows summary.json
