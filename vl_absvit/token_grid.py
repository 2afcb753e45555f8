"""Where a trunk's tokens lie on the image."""

from typing import NamedTuple

from torch import Tensor


class TokenGrid(NamedTuple):
    """Tokens that belong to no place, such as CLS, and then patches in raster order."""

    prefix: int  # tokens before the patches
    rows: int
    columns: int

    @property
    def tokens(self) -> int:
        """N."""
        return self.prefix + self.rows * self.columns

    def patches(self, per_token: Tensor) -> Tensor:
        """(B, N, ...) -> (B, rows * columns, ...)."""
        return per_token[:, self.prefix :]

    def on_grid(self, per_token: Tensor) -> Tensor:
        """(B, N, ...) -> (B, rows, columns, ...)."""
        return self.patches(per_token).unflatten(1, (self.rows, self.columns))
