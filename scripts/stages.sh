# Sourced by the demo's and the evidence's scripts: their options, how programs are launched, and the stages that they share.
#
#   output=runs/demo; source scripts/stages.sh; choose_launch
#
# FOLDER is where the stages of one world leave world/, data/, captions/, hat/ and pretrained/. `launch` holds the words that start a
# program in as many processes as make sense; a caller may set it to another launcher.

# read_options SCRIPT TEXTS NUMBERS OPTION...: a script's options set the variables of their names, which hold the defaults. TEXTS are names of
# options that take any text, NUMBERS of those that take a number of at least 1; every script has --seeds. `--` among the texts lets
# something follow it, which `overrides` holds then.
read_options() {
  local script=$1 texts=$2 numbers=$3 key usage
  usage="usage: bash scripts/$script.sh [--seeds \"0 1 2\"]"
  for key in ${texts/ --/}; do usage+=" [--$key X]"; done
  for key in $numbers; do usage+=" [--${key//_/-} N]"; done
  if [[ $texts == *" --" ]]; then usage+=" [-- ...]"; fi
  overrides=()
  shift 3
  while (($#)); do
    if [[ $1 == -- && $texts == *" --" ]]; then overrides=("${@:2}"); break; fi
    key=${1#--} key=${key//-/_}
    if [[ $1 != --?* || " seeds ${texts/ --/} $numbers " != *" $key "* || $# -lt 2 ]]; then
      echo "$usage" >&2
      exit 2
    fi
    printf -v "$key" %s "$2"
    shift 2
  done
  [[ $seeds =~ ^[0-9]+(\ +[0-9]+)*$ ]] || { echo "error: --seeds: expected numbers, got $seeds" >&2; exit 2; }
  for key in $numbers; do
    [[ ${!key} =~ ^[1-9][0-9]*$ ]] || { echo "error: --${key//_/-}: expected a number, got ${!key}" >&2; exit 2; }
  done
}

# claim FOLDER SETTINGS WHAT: what is in a folder is reused only if it was made in the same way.
claim() {
  local folder=$1 settings=$2 what=$3
  if [[ -e $folder/settings && "$(cat "$folder/settings")" != "$settings" ]]; then
    echo "error: $folder holds $what; choose another --output or remove it" >&2
    exit 1
  fi
  mkdir -p "$folder"
  echo "$settings" >"$folder/settings"
}

# Two processes where there are two GPUs or, without any, two cores: more would find too little to do.
choose_launch() {
  gpus=$(python -c 'import torch; print(torch.accelerator.device_count())')
  cores=$(env -u OMP_NUM_THREADS nproc)
  local processes=$(((gpus > 0 ? gpus : cores) > 1 ? 2 : 1))
  # accelerate launch by its module, since accelerate's other commands import transformers and timm.
  launch=(python -m accelerate.commands.launch --num_processes "$processes" --num_machines 1 --mixed_precision no
    --dynamo_backend no --main_process_port 0)
  if ((processes > 1)); then launch+=(--multi_gpu); fi
  if ((gpus == 0)); then
    # --cpu instead of these would quietly start a single process.
    export ACCELERATE_USE_CPU=true
    launch=(env OMP_NUM_THREADS=$((cores / processes)) "${launch[@]}")
  fi
}

# open_lanes: from here on jobs run side by side, one to a core, or one after the other on a GPU. Every job is a process group of its
# own, so that none outlives this script.
open_lanes() {
  lanes=$((gpus > 0 ? 1 : cores))
  export OMP_NUM_THREADS=1
  set -m
  trap 'for job in $(jobs -p); do kill -- "-$job" 2>/dev/null || true; done' EXIT
  trap 'exit 143' TERM
  trap 'exit 130' INT
}

# A place for one more job.
wait_for_lane() { while (($(jobs -rp | wc -l) >= lanes)); do wait -n || true; done; }

# The end of all jobs.
wait_for_all() { while (($(jobs -rp | wc -l))); do wait -n || true; done; }

# begin_rows TABULATOR SHARED RECIPE: before the rows of `runs`, each "name seed", in the order of names `order`. The folder of every seed is for
# SHARED alone, that of every run for RECIPE, the words of `common` and the row's own of `changes`. Makes the command `table`.
begin_rows() {
  local tabulator=$1 shared=$2 recipe=$3 others="results of another budget, other configs or options" seed run
  for seed in $seeds; do claim "$output/shared-$seed" "$shared" "$others"; done
  for run in "${runs[@]}"; do claim "$output/${run/ /-}" "$recipe ${common:+$common }${changes[${run% *}]}" "$others"; done
  choose_launch
  table=(python "scripts/$tabulator.py" "$output" --rows "${order[@]}" --output "$output/table")
  echo "== ${#runs[@]} runs; at any time, the tables of those that are finished: ${table[*]}"
  open_lanes
}

# run_shared WHAT: `shared SEED` for every seed, side by side. WHAT is what its last stage, pretrain-SEED, makes; without it no row can begin.
run_shared() {
  local seed
  for seed in $seeds; do
    wait_for_lane
    shared "$seed" >>"$output/shared-$seed/log" 2>&1 &
  done
  wait_for_all
  for seed in $seeds; do
    [[ -e $output/seconds/pretrain-$seed ]] || { echo "error: seed $seed has no $1; $output/shared-$seed/log says why" >&2; exit 1; }
  done
}

# run_rows FILE: `row NAME SEED` for every "name seed" of `runs`, then the command `table`. A row that fails does not stop the others; it is
# one whose folder lacks FILE.
run_rows() {
  local run failed=0
  for run in "${runs[@]}"; do
    wait_for_lane
    echo "== $run"
    row ${run% *} ${run#* } >>"$output/${run/ /-}/log" 2>&1 &
  done
  wait_for_all
  "${table[@]}"
  for run in "${runs[@]}"; do [[ -e $output/${run/ /-}/$1 ]] || failed=$((failed + 1)); done
  ((failed == 0)) || { echo "error: $failed of ${#runs[@]} runs failed; $output/<row>-<seed>/log says why" >&2; return 1; }
}

# stage NAME COMMAND...: run a stage and note its seconds, or say that it is finished already.
stage() {
  local name=$1 started=$SECONDS
  shift
  if [[ -e $output/seconds/$name ]]; then
    echo "== $name: finished already ($(cat "$output/seconds/$name") s)"
    return
  fi
  echo "== $name"
  "$@"
  mkdir -p "$output/seconds"
  echo $((SECONDS - started)) >"$output/seconds/$name"
}

# train RUN SCRIPT OPTION...: to the end. A run that a signal has ended early, with everything saved, is no finished stage.
train() {
  local run=$1
  "${launch[@]}" "${@:2}" --run.output "$run" --run.resume true
  grep 'done: ' <(tail -n 3 "$run/console.log") >/dev/null || { echo "$run has been stopped before its end" >&2; return 1; }
}

# make_world FOLDER SEED OPTION...
make_world() { python data_prep/make_demo.py --output "$1/world" --seed "$2" "${@:3}"; }

# prepare_questions FOLDER SEED
prepare_questions() { python data_prep/prepare_vqav2.py --root "$1/world/vqav2" --output "$1/data" --seed "$2"; }

# prepare_captions FOLDER
prepare_captions() {
  local dataset
  for dataset in coco flickr30k; do
    python data_prep/prepare_captions.py --dataset $dataset --root "$1/world/$dataset" \
      --karpathy "$1/world/$dataset/dataset_$dataset.json" --output "$1/captions/$dataset"
  done
}

# prepare_hat FOLDER: where people looked.
prepare_hat() {
  local human=$1/world/vqa_hat
  python data_prep/prepare_vqa_hat.py --maps "$human/vqahat_val" --images "$1/world/vqav2" --output "$1/hat" \
    --questions "$human/OpenEnded_mscoco_val2014_questions.json"
}

# pretrain FOLDER RUN OPTION...
pretrain() {
  train "$2" scripts/pretrain_vision.py --config configs/demo/pretrain.yaml --data.root "$1/world/single_objects" "${@:3}"
}

# finetune_vqa FOLDER RUN OPTION...: from the pretrained trunk.
finetune_vqa() {
  train "$2" scripts/finetune_vqa.py --config configs/demo/vqa.yaml --data.root "$1/data" --text.tokenizer "$1/world/tokenizer" \
    --vision.weights "$1/pretrained/checkpoints/best" "${@:3}"
}

# finetune_retrieval FOLDER RUN START OPTION...: on COCO's captions, from the best checkpoint of the run START.
finetune_retrieval() {
  train "$2" scripts/finetune_retrieval.py --config configs/demo/retrieval.yaml --data.root "$1/captions/coco" \
    --text.tokenizer "$1/world/tokenizer" --from_checkpoint "$3/checkpoints/best" "${@:4}"
}

# answer FOLDER RUN PREDICTIONS: every question of val.
answer() {
  python scripts/evaluate_vqa.py --checkpoint "$2/checkpoints/best" --data "$1/data" --split val --output "$3" --num-workers 0
}

# rank FOLDER RUN RESULT SHORTLIST LOOK LOOK...: the other world, which no training has seen, ranked by the dual encoder
# (RESULT_first.json), its best SHORTLIST by the whole model (RESULT_second.json), and by the sum of both (RESULT_both.json).
rank() {
  "${launch[@]}" scripts/evaluate_retrieval.py --checkpoint "$2/checkpoints/best" --data "$1/captions/flickr30k" --split test \
    --look "${@:5}" --shortlist "$4" --num-workers 0 --output "$3.json"
}

# summarise FOLDER OUTPUT OPTION...: what the stages left in OUTPUT, written last.
summarise() {
  local rankings=("$2"/retrieval_{first,second}.json)
  if [[ -e $2/retrieval_both.json ]]; then rankings+=("$2/retrieval_both.json"); fi
  python scripts/summarise_demo.py --checkpoint "$2/vqa/checkpoints/best" --data "$1/data" --split val --output "$2" \
    --objects "$1/world/vqav2/demo_objects.json" --predictions "$2/predictions.json" --agreement "$2/agreement.json" \
    --retrieval "${rankings[@]}" "${@:3}"
}

# look FOLDER RUN STEERED: the answers of RUN/vqa, where it looks beside where people looked, how far a strength steers it unless STEERED
# is empty, and everything, RUN's rankings among it, in one summary.
look() {
  local checkpoint=$2/vqa/checkpoints/best steering=()
  answer "$1" "$2/vqa" "$2/predictions.json"
  python scripts/export_attention.py --checkpoint "$checkpoint" --data "$1/hat" --split val --no-overlays --num-workers 0 \
    --output "$2/maps"
  python scripts/compare_vqa_hat.py --maps "$2/maps" --hat "$1/hat" --output "$2/agreement.json"
  if [[ -n $3 ]]; then
    python scripts/compare_priors.py --checkpoint "$checkpoint" --pairs "$1/world/pairs" --output "$2/steering"
    steering=(--steering "$2/steering/scores.json")
  fi
  summarise "$1" "$2" "${steering[@]}"
}

# leave_out DATA RUN TARGET OPTION...: train on all domains but one, keep the checkpoint that is best on their held-out pictures, and judge
# it on the one, once.
leave_out() {
  train "$2/$3" scripts/pretrain_vision.py "${@:4}" --data.root "$1/$3" --data.train_splits "[train]" --data.select_split val
  "${launch[@]}" scripts/evaluate_vision.py --checkpoint "$2/$3/checkpoints/best" --data "$1/$3/test" --num-workers 0 \
    --output "$2/$3/test.json"
}

# make_styles FOLDER PICTURES, prepare_styles FOLDER: the demo's world of four drawing styles in world/, and in data/ each left out once.
make_styles() { python data_prep/make_demo.py --output "$1/world" --styles "$2"; }
prepare_styles() { python data_prep/prepare_domains.py --root "$1/world" --output "$1/data"; }
