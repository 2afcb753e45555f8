"""A sentence to pictures: the dual encoder over the whole index, then the whole model over the best."""

from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vl_absvit.data.collate import pad_texts
from vl_absvit.data.json_files import six_digits
from vl_absvit.data.texts import encode_one, prepare_tokenizer
from vl_absvit.errors import InputError
from vl_absvit.looking.predictions import MatchPrediction
from vl_absvit.models.vl_model import Texts
from vl_absvit.precision import arithmetic
from vl_absvit.search.approximate import nearest_by_faiss
from vl_absvit.search.gallery import Nearest, nearest
from vl_absvit.search.index_folder import Index
from vl_absvit.search.judged import Judged, judge
from vl_absvit.tasks.vl_checkpoint import VLCheckpoint


class Hit(NamedTuple):
    """A picture that was found."""

    image: Path
    similarity: float  # the dual encoder's
    judged: Judged | None = None  # if the picture was opened
    error: str | None = None  # why it was not opened

    @property
    def prediction(self) -> MatchPrediction | None:
        """The whole model's judgement, if it was asked."""
        return None if self.judged is None else self.judged.prediction

    def record(self, text: str, rank: int) -> dict[str, Any]:
        """A line's content."""
        found: dict[str, Any] = {"text": text, "rank": rank, "image": str(self.image)}
        found["similarity"] = six_digits(self.similarity)
        if self.prediction is not None:
            found |= {"score": six_digits(self.prediction.score), "match": six_digits(self.prediction.match)}
        return found if self.error is None else found | {"error": self.error}


class Searcher:
    """An index, and the model that it was made with."""

    def __init__(self, index: Index, checkpoint: VLCheckpoint, device: torch.device, exact: bool = False) -> None:
        """
        Args:
            exact: compare with all pictures, although the index has a file of FAISS.
        """
        self._index, self._checkpoint, self._device = index, checkpoint, device
        self.is_exact = exact or index.approximate is None
        self._parts = list(index.parts())  # mapped once, for all texts
        checkpoint.model.to(device).vision.fold()
        prepare_tokenizer(checkpoint.tokenizer)

    @property
    def judges_pairs(self) -> bool:
        """Whether the model judges how well a text and a picture match."""
        return bool(self._checkpoint.model.architecture["head"]["kind"] == "matching")

    @torch.no_grad()
    def search(self, text: str, top: int, rerank: int = 0, open_pictures: bool = False) -> list[Hit]:
        """The ``top`` pictures for a text, the best first.

        Args:
            rerank: of the dual encoder's best, those that the whole model judges. They come first, by its score.
            open_pictures: whether hits that it does not judge have their picture and prior mask, too.

        Raises:
            InputError: the text is empty or longer than the model reads, or the index is damaged.
        """
        with arithmetic(self._index.made_with["precision"], self._device):
            texts = self._encode(text)
            found = self._nearest(texts, min(max(top, rerank), self._index.pictures))
            hits = self._hits(found)
            judged = self._judge(texts, hits[:rerank], whole=True)
            judged.sort(key=lambda hit: -inf if hit.prediction is None else hit.prediction.score, reverse=True)
            hits = [*judged, *hits[rerank:]][:top]
            if open_pictures:
                hits = [*hits[:rerank], *self._judge(texts, hits[rerank:], whole=False)]
        return hits

    def _judge(self, texts: Texts, hits: list[Hit], *, whole: bool) -> list[Hit]:
        """Hits with what ``judge`` says of each."""
        judged = judge(self._checkpoint, texts, [hit.image for hit in hits], whole=whole)
        return [
            hit._replace(error=str(found)) if isinstance(found, InputError) else hit._replace(judged=found)
            for hit, found in zip(hits, judged, strict=True)
        ]

    def _encode(self, text: str) -> Texts:
        tokenizer, limit = self._checkpoint.tokenizer, self._checkpoint.preprocessing.max_tokens
        ids, is_cut = encode_one(text, tokenizer, limit, "text")
        if is_cut:
            raise InputError(f"the text is longer than the {limit} tokens that the model reads")
        token_ids, is_token = pad_texts([ids], tokenizer.pad_token_id)
        return self._checkpoint.model.encode_texts(token_ids.to(self._device), is_token.to(self._device))

    def _nearest(self, texts: Texts, number: int) -> Nearest:
        assert texts.prior is not None, "an index is made with a model that has priors"
        if self.is_exact:
            return nearest(texts.prior, self._parts, self._index.pool, number)
        return nearest_by_faiss(self._index, texts.prior, number)

    def _hits(self, found: Nearest) -> list[Hit]:
        files = self._index.files_at(found.rows[0].tolist())
        root = self._index.root_with(files[0].file)
        pairs = zip(files, found.similarity[0].tolist(), strict=True)
        hits = [Hit(root / picture.file, similarity) for picture, similarity in pairs]
        return sorted(hits, key=lambda hit: (-hit.similarity, hit.image))
