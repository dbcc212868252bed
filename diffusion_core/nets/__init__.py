"""Small networks: an MLP for points, a U-Net for images, a classifier that judges them."""

from diffusion_core.nets.classifier import Classifier
from diffusion_core.nets.embeddings import timestep_embedding
from diffusion_core.nets.mlp import MLP
from diffusion_core.nets.unet import Down, ResBlock, SelfAttention, UNet, Up

__all__ = [
    "MLP",
    "Classifier",
    "Down",
    "ResBlock",
    "SelfAttention",
    "UNet",
    "Up",
    "timestep_embedding",
]
