#!/usr/bin/env bash
# Does pretraining on pairs of text and image help? Two rows of one budget, from the same trunk: `with` pretrains the whole model on the
# captions of a drawn world and finetunes it, `without` finetunes twice as long.
#
#   bash scripts/pairs_evidence.sh [--output runs/pairs] [--seeds "0 1 2"] [--scenes 2000] [--pictures 3000] [--epochs 4]
#     [--trunk-epochs 6]
#
# A seed's rows share the demo worlds of SCENES training images, a world of PICTURES captioned ones with statements about others, and a
# trunk that learned single objects of SCENES for TRUNK_EPOCHS epochs. From its start, the trunk or the pretrained model, every row is
# finetuned on VQA, on NLVR2, on SNLI-VE and on retrieval of world A's pictures and captions, which meets world B zero-shot and is then
# finetuned there: in `with` for EPOCHS epochs each, and on questions and statements at a quarter of the rates of text encoder and fusion,
# which `without` starts from random weights.
#
# The budget is counted in looks. A look takes a picture through all blocks of the trunk, and the second look, which takes half of them
# again, is half a look. In training a question of VQA takes 5/6 (three share their first look), a caption of retrieval 3 (one first and
# four second looks), a statement of NLVR2 3, one of SNLI-VE 3/2, and a caption of pretraining 2 (one first and two second looks). An
# epoch of all finetunings is 85/8 looks for each of SCENES (6 questions; 0.275 pictures of world A and 0.1 of world B with 5 captions)
# and 141/20 for each of PICTURES (1.6 statements of NLVR2; 1/4 of a picture with about 6 of SNLI-VE). Pretraining takes as many whole
# epochs as fit in these looks, so that `with` never has more. What rows share, and evaluations, are not counted.
#
# Runs are side by side, one to a core, or one after the other on a GPU. Finished stages are reused, interrupted ones go on, and a run
# that fails does not stop the others. Writes OUTPUT/<row>-<seed>/ and the tables OUTPUT/table.md and OUTPUT/table.json; OUTPUT/seconds
# has the time of each stage; the command that makes the tables of what is finished so far is printed at the beginning.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

output=runs/pairs seeds="0 1 2" scenes=2000 pictures=3000 epochs=4 trunk_epochs=6
source scripts/stages.sh
read_options pairs_evidence "output" "scenes pictures epochs trunk_epochs" "$@"

declare -A changes=([without]="" [with]="")
order=(without with)
pairs_epochs=$((epochs * (425 * scenes + 282 * pictures) / (80 * pictures)))

source scripts/setup.sh

# told SHARED SEED: captioned pictures, none of which another world judges by, and statements, drawn and prepared.
told() {
  local drawn=$1/pretraining
  python data_prep/make_demo.py --output "$drawn" --seed "$2" --pretraining "$pictures"
  python data_prep/prepare_pairs.py --dataset conceptual_captions --root "$drawn/conceptual_captions" --output "$1/pairs" \
    --val-share 0.05 --exclude "$1/data" "$1/captions/coco" "$1/captions/flickr30k"
  python data_prep/prepare_nlvr2.py --root "$drawn/nlvr2" --output "$1/nlvr2"
  python data_prep/prepare_snli_ve.py --root "$drawn/snli_ve" --output "$1/snli_ve"
}

# shared SEED: what both rows start from.
shared() {
  local folder=$output/shared-$1 launch=(python)
  stage "world-$1" make_world "$folder" "$1" --scenes "$scenes"
  stage "prepare-$1" prepare_questions "$folder" "$1"
  stage "captions-$1" prepare_captions "$folder"
  stage "hat-$1" prepare_hat "$folder"
  stage "told-$1" told "$folder" "$1"
  stage "pretrain-$1" pretrain "$folder" "$folder/pretrained" --run.seed "$1" --run.trackers "[]" --optim.epochs "$trunk_epochs"
}

# learn RUN CONFIG SHARED DATA OPTION...
learn() {
  train "$1" scripts/train.py --config "configs/demo/$2.yaml" --data.root "$3/$4" --text.tokenizer "$3/world/tokenizer" "${@:5}"
}

# judge RUN SHARED: statements of the test splits, with their pictures and without.
judge() {
  local kind split
  for kind in nlvr2:test1 snli_ve:test; do
    split=${kind#*:} kind=${kind%:*}
    python scripts/evaluate_statements.py --checkpoint "$1/$kind/checkpoints/best" --data "$2/$kind" --split "$split" --blind \
      --num-workers 0 --output "$1/$kind.csv"
  done
}

# row NAME SEED
row() {
  local name=$1 seed=$2 shared=$output/shared-$2 run=$output/$1-$2 times=2 rate=2e-3 launch=(python)
  local trunk=(--from_checkpoint null --vision.weights "$shared/pretrained/checkpoints/best") usual=(--run.seed "$seed" --run.trackers "[]")
  local start=("${trunk[@]}")
  if [[ $name == with ]]; then
    stage "pairs-$name-$seed" learn "$run/pairs" pairs "$shared" pairs "${usual[@]}" "${trunk[@]}" --optim.epochs "$pairs_epochs"
    times=1 rate=5e-4 start=(--from_checkpoint "$run/pairs/checkpoints/best")
  fi
  usual+=(--optim.epochs $((times * epochs)))
  local rates=(--optim.learning_rates.text "$rate" --optim.learning_rates.fusion "$rate")
  local few=(--optim.batch_size 16 --negatives 1 --negative_images 1)
  stage "vqa-$name-$seed" learn "$run/vqa" vqa "$shared" data "${usual[@]}" "${start[@]}" "${rates[@]}" --optim.batch_size 33
  stage "nlvr2-$name-$seed" learn "$run/nlvr2" nlvr2 "$shared" nlvr2 "${usual[@]}" "${start[@]}" "${rates[@]}"
  stage "snli_ve-$name-$seed" learn "$run/snli_ve" snli_ve "$shared" snli_ve "${usual[@]}" "${start[@]}" "${rates[@]}"
  stage "retrieval-$name-$seed" learn "$run/retrieval" retrieval "$shared" captions/coco "${usual[@]}" "${start[@]}" "${few[@]}"
  stage "rank-$name-$seed" rank "$shared" "$run/retrieval" "$run/retrieval" 16 first second
  stage "finetuned-$name-$seed" learn "$run/finetuned" retrieval "$shared" captions/flickr30k "${usual[@]}" "${few[@]}" \
    --data.train_splits "[train]" --from_checkpoint "$run/retrieval/checkpoints/best"
  stage "rank_finetuned-$name-$seed" rank "$shared" "$run/finetuned" "$run/finetuned" 16 first second
  stage "judge-$name-$seed" judge "$run" "$shared"
  stage "look-$name-$seed" look "$shared" "$run" steered
}

runs=()
for seed in $seeds; do
  for name in "${order[@]}"; do runs+=("$name $seed"); done
done
shared_recipe="scenes $scenes pictures $pictures trunk_epochs $trunk_epochs"
recipe="$shared_recipe epochs $epochs $(cat configs/demo/{pretrain,pairs,vqa,retrieval,nlvr2,snli_ve}.yaml | sha256sum | cut -d' ' -f1)"
begin_rows tabulate_pairs "$shared_recipe" "$recipe"
run_shared trunk
run_rows summary.json
