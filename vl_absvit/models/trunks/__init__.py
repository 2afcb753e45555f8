"""What the four steps run on: ``base.py`` says what a trunk is, ``registry.py`` names those there are."""
