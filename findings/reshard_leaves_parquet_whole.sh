#!/usr/bin/env bash
# datasets 4.6 to 4.8: IterableDataset.reshard() is there, returns without a word, and leaves a Parquet file one shard.
#
# Naive guess: where reshard() exists it does what its documentation says, a shard for each row group of a Parquet file, so that
# as many processes or loader workers as row groups get work. In 4.6.0 and 4.8.3 the number of shards stays that of the files;
# row groups become shards from 5.0.0 on. Who sized the processes by the row groups has idle ones, or an IndexError where shard()
# is asked for one of them. Valid input: one Parquet file of four row groups.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cat >"$folder/look.py" <<'PY'
import sys
import datasets, pyarrow as pa, pyarrow.parquet as pq

file = sys.argv[1]
pq.write_table(pa.table({"a": list(range(20))}), file, row_group_size=5)
stream = datasets.load_dataset("parquet", data_files=[file], split="train", streaming=True)
resharded = stream.reshard()
groups = pq.ParquetFile(file).num_row_groups
print(f"datasets {datasets.__version__}: {groups} row groups, {stream.num_shards} -> {resharded.num_shards} shards")
assert [row["a"] for row in resharded] == list(range(20)), "no row is lost or moved"
sys.exit(resharded.num_shards != int(sys.argv[2]))
PY

look() { # VERSION SHARDS
  python3 -m venv "$folder/$1"
  "$folder/$1/bin/python" -m pip install --quiet --disable-pip-version-check "datasets==$1" "pyarrow==21.0.0" 2>/dev/null
  HF_HUB_OFFLINE=1 HF_HOME="$folder/home" "$folder/$1/bin/python" "$folder/look.py" "$folder/$1.parquet" "$2" 2>/dev/null
}

look 4.6.0 1
look 4.8.3 1
look 5.0.0 4
echo "as seen: reshard() divides a Parquet file into its row groups from 5.0.0 on, and silently does nothing before"
