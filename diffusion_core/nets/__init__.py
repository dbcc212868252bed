"""Small networks: an MLP for points, a U-Net for images, a classifier that judges them."""

from .classifier import Classifier
from .embeddings import timestep_embedding
from .levels import LevelPosterior, LevelUNet
from .mlp import MLP
from .unet import Down, ResBlock, SelfAttention, UNet, Up

__all__ = [
    "MLP",
    "Classifier",
    "Down",
    "LevelPosterior",
    "LevelUNet",
    "ResBlock",
    "SelfAttention",
    "UNet",
    "Up",
    "timestep_embedding",
]
