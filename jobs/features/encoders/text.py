"""Text encoders: hashed n-grams, weighted and compressed (latent semantic analysis); and BERT-class models from a folder."""

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import sklearn
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer
from threadpoolctl import threadpool_limits
from upath import UPath

from jobs.base.places import local_draft, local_file
from jobs.features.encoders.inference import encoding, on_device, unit_rows
from jobs.features.encoders.model_folder import config_fingerprint, loading_model, local_model, model_fingerprint

_WEIGHTS, _CONFIG = "encoder.npz", "encoder.json"


class HashedTextEncoder:
    """TF-IDF of hashed word and character n-grams, compressed by a truncated SVD; rows of unit length.

    It is fitted once and kept. Another fit would have other axes, and vectors of unchanged items could not be compared.

    Args:
        idf: float32 [2 * N_FEATURES], inverse document frequency of each hashed n-gram.
        components: float32 [D, 2 * N_FEATURES], right singular vectors.
    """

    N_FEATURES = 2**15
    MAX_FIT_TEXTS = 100_000
    VERSION = 1  # raise it with every change to the n-grams

    def __init__(self, idf: np.ndarray, components: np.ndarray) -> None:
        self._idf, self._components = idf, components
        weights = {"idf": _hash(idf), "components": _hash(components)}
        self.fingerprint = config_fingerprint("hashed-text", {**self.config(components.shape[0]), **weights})

    @classmethod
    def config(cls, dim: int) -> dict[str, Any]:
        """All that decides a fit besides the texts. A kept fit is used as long as this stays the same."""
        return {"version": cls.VERSION, "features": cls.N_FEATURES, "dim": dim, "sklearn": sklearn.__version__}

    @classmethod
    def fit(cls, texts: Sequence[str], dim: int, seed: int = 0) -> "HashedTextEncoder":
        """Fit on at most `MAX_FIT_TEXTS` texts, drawn by seed. With fewer texts than `dim`, the last columns are zero."""
        if len(texts) > cls.MAX_FIT_TEXTS:
            chosen = np.random.default_rng(seed).choice(len(texts), cls.MAX_FIT_TEXTS, replace=False)
            texts = [texts[row] for row in np.sort(chosen)]
        counts = _ngrams(texts)
        document_frequency = np.bincount(counts.indices, minlength=counts.shape[1])
        idf = (np.log((1 + counts.shape[0]) / (1 + document_frequency)) + 1).astype(np.float32)
        components = np.zeros((dim, counts.shape[1]), dtype=np.float32)
        rank = min(dim, counts.shape[0])
        with threadpool_limits(1):  # with more threads, the last bits of a sum would depend on the number of cores
            found = TruncatedSVD(rank, random_state=seed).fit(counts.multiply(idf).tocsr()).components_
        components[: len(found)] = found
        return cls(idf, components)

    def prepare(self, text: str) -> tuple[str, tuple[str, ...]]:
        """The text as it is."""
        return text, ()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Texts to float32 [len(texts), D], rows of unit length, or zero for a text without any known n-gram."""
        vectors = np.asarray(_ngrams(texts).multiply(self._idf).tocsr() @ self._components.T)
        return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)

    def save(self, folder: UPath) -> None:
        """Write the weights and what they were fitted with."""
        folder.mkdir(parents=True, exist_ok=True)
        with local_draft(folder / _WEIGHTS) as file:
            np.savez_compressed(file, idf=self._idf, components=self._components)
        described = self.config(self._components.shape[0]) | {"fingerprint": self.fingerprint}
        (folder / _CONFIG).write_text(json.dumps(described, indent=2, sort_keys=True) + "\n")

    @classmethod
    def load(cls, folder: UPath | Path) -> "HashedTextEncoder":
        """Read what `save` wrote."""
        with local_file(folder / _WEIGHTS) as file, np.load(file, allow_pickle=False) as weights:
            return cls(weights["idf"], weights["components"])

    @classmethod
    def fits(cls, folder: UPath, dim: int) -> bool:
        """Whether a saved encoder was fitted with the present configuration."""
        saved = json.loads((folder / _CONFIG).read_text())
        return {name: saved.get(name) for name in cls.config(dim)} == cls.config(dim)


class ModelTextEncoder:
    """A BERT-class transformers model from a local folder. Its vector is the mean of a text's last hidden states, unit length.

    Args:
        folder: written by `save_pretrained`, with the tokenizer.
        precision: precision of the matrix products: `float32`, `bfloat16` or `float16`.

    Raises:
        DataError: the folder holds no such model.
    """

    MAX_TOKENS = 256

    def __init__(self, folder: Path, precision: str = "float32") -> None:
        from transformers import AutoModel, AutoTokenizer

        self._folder, self._precision = folder, precision
        with loading_model(folder, "text", together_with="tokenizer"):
            # from_pretrained: the tokenizer classes built from a vocabulary file alone give [UNK] for every word.
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._model = on_device(AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True))
        positions = getattr(self._model.config, "max_position_embeddings", self.MAX_TOKENS)
        self._max_tokens = min(self.MAX_TOKENS, positions, self._tokenizer.model_max_length)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the model's files, the pooling and the precision."""
        config = {"pooling": "mean", "max_tokens": self.MAX_TOKENS, "precision": self._precision}
        return model_fingerprint("text-model", self._folder, config)

    def prepare(self, text: str) -> tuple[str, tuple[str, ...]]:
        """The text as it is."""
        return text, ()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Texts to float32 [len(texts), D], rows of unit length."""
        inputs = self._tokenizer(list(texts), padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt")
        inputs = inputs.to(self._model.device)
        with encoding(self._model.device, self._precision):
            hidden_BTD = self._model(**inputs).last_hidden_state.float()
        mask_BT1 = inputs["attention_mask"].unsqueeze(-1)
        return unit_rows((hidden_BTD * mask_BT1).sum(dim=1) / mask_BT1.sum(dim=1).clamp(min=1))


@functools.cache
def fitted_encoder(folder: UPath) -> HashedTextEncoder:
    """A `HashedTextEncoder` from its folder; loaded once in each process."""
    return HashedTextEncoder.load(folder)


@functools.cache
def model_text_encoder(name: str, cache: Path, precision: str) -> ModelTextEncoder:
    """The model named in `features.text_encoder`; loaded once in each process.

    Args:
        name: where the model lies: see `local_model`.
        cache: folder for the copies of models that lie elsewhere.
        precision: of the model's matrix products.
    """
    return ModelTextEncoder(local_model(name, cache), precision)


def _ngrams(texts: Sequence[str]) -> sp.csr_matrix:
    return sp.hstack([vectorizer.transform(texts) for vectorizer in _vectorizers()], format="csr")


@functools.cache
def _vectorizers() -> tuple[HashingVectorizer, HashingVectorizer]:
    # Both kinds have the same weight: unit length before the IDF. Characters match other spellings and inflections.
    shape: dict[str, Any] = {"n_features": HashedTextEncoder.N_FEATURES, "alternate_sign": False, "dtype": np.float32}
    return (
        HashingVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", **shape),
        HashingVectorizer(analyzer="char_wb", ngram_range=(3, 4), **shape),
    )


def _hash(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
