"""Small networks: for points, images and latents, what makes latents, what steers and judges."""

from .blocks import Down, ResBlock, SelfAttention, Up
from .classifier import Classifier
from .controlnet import ControlNet, zero_conv
from .dit import DiT
from .embeddings import timestep_embedding
from .levels import LevelPosterior, LevelUNet
from .linear_vae import LinearVAE
from .mlp import MLP
from .pixels import PixelUNet
from .spike_slab import SpikeSlabUNet, spike_slab_mean
from .unet import UNet
from .vae import VAE

__all__ = [
    "MLP",
    "VAE",
    "Classifier",
    "ControlNet",
    "DiT",
    "Down",
    "LevelPosterior",
    "LevelUNet",
    "LinearVAE",
    "PixelUNet",
    "ResBlock",
    "SelfAttention",
    "SpikeSlabUNet",
    "UNet",
    "Up",
    "spike_slab_mean",
    "timestep_embedding",
    "zero_conv",
]
