"""A home with an empty MLflow store, and tiny randomly initialised transformer models."""

import shutil
from pathlib import Path

import pytest

from jobs.base.settings import PipelineSettings

_SHAPE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with empty tables. To make one takes seconds, but to copy it takes no time."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def home(settings: PipelineSettings, empty_store: Path) -> Path:
    """The home folder of `settings`, with an MLflow store."""
    (settings.home / "mlflow").mkdir(parents=True)
    shutil.copy(empty_store, settings.home / "mlflow" / "mlflow.db")
    return settings.home


@pytest.fixture
def tiny_clip(tmp_path: Path) -> Path:
    """Folder of a CLIP model for 32 x 32 pictures, with its image processor; image features have 12 dimensions."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    folder = tmp_path / "clip"
    torch.manual_seed(0)
    text = {**_SHAPE, "vocab_size": 50, "max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 2}
    vision = {**_SHAPE, "image_size": 32, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture
def tiny_bert(tmp_path: Path) -> Path:
    """Folder of a BERT model with a vocabulary of a few words and 16 dimensions."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path / "bert"
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "blue", "cotton", "steel", "shirt", "hammer", "thing", "item"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizerFast.from_pretrained(folder).save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(BertConfig(**_SHAPE, vocab_size=len(words), max_position_embeddings=32)).save_pretrained(folder)
    return folder
