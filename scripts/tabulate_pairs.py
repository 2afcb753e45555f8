"""The tables of scripts/pairs_evidence.sh: scores with pretraining on pairs and without, and differences seed by seed.

python scripts/tabulate_pairs.py runs/pairs --rows without with --output runs/pairs/table

Reads of every ROOT/<row>-<seed> its summary.json, the statements judged (nlvr2.about.json, snli_ve.about.json) and the
rankings after finetuning (finetuned_first.json, finetuned_second.json); a folder without one is named as missing.
Writes OUTPUT.md and OUTPUT.json. Scores are means and standard deviations over a row's seeds. Differences are those of
a row and of --against on the seeds that both have: their mean, its standard error, and in bold where the 95 % interval
of it (Student's t) excludes 0.
"""

from pathlib import Path

from vl_absvit.cli import OptionParser, add_table_options, run_main
from vl_absvit.data.json_files import read_json
from vl_absvit.errors import InputError
from vl_absvit.evaluation.score_tables import Column, Scores, tabulate
from vl_absvit.evaluation.summary_columns import LOOKED, RETRIEVED, SUMMARY, VQA, columns, read_summary

RESULTS = (SUMMARY, "nlvr2.about.json", "snli_ve.about.json", "finetuned_first.json", "finetuned_second.json")
JUDGED = {
    "nlvr2": Column("NLVR2 accuracy", 1),
    "nlvr2_consistency": Column("NLVR2 consistency", 1),
    "nlvr2_blind": Column("NLVR2 without images", 1),
    "snli_ve": Column("SNLI-VE accuracy", 1),
    "snli_ve_blind": Column("SNLI-VE without images", 1),
}
GROUPS = {
    "Answers and judgements, %": columns(VQA) | JUDGED,
    "Retrieval on world B, zero-shot, %": columns(RETRIEVED),
    "Retrieval on world B, finetuned, %": {f"finetuned_{name}": each for name, each in columns(RETRIEVED).items()},
    "Where it looks": columns(LOOKED),
}


def main() -> None:
    parser = OptionParser(__doc__)
    add_table_options(parser, "scripts/pairs_evidence.sh", against="without")
    tabulate(parser.parse_args(), GROUPS, RESULTS, read_scores)


def read_scores(folder: Path) -> Scores:
    """Every column's score of one run."""
    scores = read_summary(folder, VQA | RETRIEVED | LOOKED)
    for kind in ("nlvr2", "snli_ve"):
        path = folder / f"{kind}.about.json"
        judged = read_json(path, dict)
        try:
            scores |= {kind: judged["accuracy"], f"{kind}_blind": judged["others"]["without images"]["accuracy"]}
            if kind == "nlvr2":
                scores["nlvr2_consistency"] = judged["consistency"]
        except (KeyError, TypeError) as error:
            raise InputError(f"{path}: expected a result of evaluate-statements with --blind: {error!r}") from error
    for look, prefix in (("first", "dual_"), ("second", "")):
        path = folder / f"finetuned_{look}.json"
        ranked = read_json(path, dict)
        try:
            scores |= {f"finetuned_{prefix}{name}": ranked[name] for name in ("ir_r1", "tr_r1")}
        except KeyError as error:
            raise InputError(f"{path}: expected a result of evaluate-retrieval: {error!r}") from error
    return scores


if __name__ == "__main__":
    run_main(main)
