#!/usr/bin/env bash
# Domain generalisation: train on all domains but one, select on their held-out pictures, test on the one. Every domain is left out once,
# for every seed; then the table.
#
#   bash scripts/leave_one_out.sh [--data DIR] [--output runs/domains] [--config demo/domains] [--name absvit] [--seeds "0 1 2"] [-- --a.b value]
#
# DIR is a folder of vl-absvit prepare-domains, such as data/pacs; without it the demo's four drawing styles are drawn and prepared in
# OUTPUT. NAME stands for the config and what follows --; other recipes with names of their own may share OUTPUT, and then the table. Runs
# are side by side, one to a core, or one after the other on GPUs. Finished ones are reused, interrupted ones go on.
# Writes OUTPUT/<name>-<seed>/<target>/ and OUTPUT/table.md and table.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

data="" output=runs/domains config=demo/domains name=absvit seeds="0 1 2"
source scripts/stages.sh
read_options leave_one_out "data output config name --" "" "$@"
[[ $name =~ ^[A-Za-z0-9_]+$ ]] || { echo "error: --name: expected letters, digits and _, got $name" >&2; exit 2; }

[[ -e $config ]] || config=configs/$config.yaml
[[ -e $config ]] || { echo "error: --config: there is no file $config" >&2; exit 2; }

source scripts/setup.sh
choose_launch
if [[ -z $data ]]; then
  data=$output/data
  stage world make_styles "$output" 1500
  stage prepare prepare_styles "$output"
fi
[[ -e $data/manifest.json ]] || { echo "error: $data holds no domains; vl-absvit prepare-domains makes such a folder" >&2; exit 1; }
mapfile -t targets < <(cd "$data" && ls -d */ | tr -d /)
recipe="${overrides[*]} $(cat "$data/manifest.json" "$config" | sha256sum | cut -d' ' -f1)"
for seed in $seeds; do claim "$output/$name-$seed" "$recipe" "results of other data, another config or options"; done
open_lanes
if ((gpus == 0)); then launch=(python); fi

# one SEED TARGET: a run, with its log.
one() {
  stage "$name-$1-$2" leave_out "$data" "$output/$name-$1" "$2" --config "$config" --run.seed "$1" "${overrides[@]}" \
    >>"$output/$name-$1/$2.log" 2>&1
}

for seed in $seeds; do
  for target in "${targets[@]}"; do
    wait_for_lane
    echo "== $name-$seed, without $target"
    one "$seed" "$target" &
  done
done
wait_for_all
python scripts/tabulate_domains.py "$output" --data "$data" --output "$output/table"
failed=0
for seed in $seeds; do
  for target in "${targets[@]}"; do
    [[ -e $output/$name-$seed/$target/test.json ]] || { failed=$((failed + 1)); log=$output/$name-$seed/$target.log; }
  done
done
((failed == 0)) || { echo "error: $failed runs failed; $log says why" >&2; exit 1; }
