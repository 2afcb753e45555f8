# Sourced by demo.sh and demo_retrieval.sh: how programs are launched, and stages that are run once.
#
#   output=runs/demo; source scripts/stages.sh

mkdir -p "$output/seconds"

# Two processes where there are two GPUs or, without any, two cores: more would find too little to do.
gpus=$(python -c 'import torch; print(torch.accelerator.device_count())')
cores=$(env -u OMP_NUM_THREADS nproc)
processes=$(((gpus > 0 ? gpus : cores) > 1 ? 2 : 1))
launch=(accelerate launch --num_processes "$processes" --num_machines 1 --mixed_precision no --dynamo_backend no
  --main_process_port 0)
if ((processes > 1)); then launch+=(--multi_gpu); fi
if ((gpus == 0)); then
  # --cpu instead of these would quietly start a single process.
  export ACCELERATE_USE_CPU=true
  launch=(env OMP_NUM_THREADS=$((cores / processes)) "${launch[@]}")
fi

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
  echo $((SECONDS - started)) >"$output/seconds/$name"
}
