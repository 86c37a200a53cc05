"""imago: GANs that grow into high-resolution portraits. The core: plain PyTorch, no framework."""

__version__ = "0.1.0"
