"""Importers: published PyTorch weights into this library's models, with an account of every tensor."""
