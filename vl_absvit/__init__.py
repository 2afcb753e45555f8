"""Finetune vision-language models that look where the question asks."""

__version__ = "0.1.0"
