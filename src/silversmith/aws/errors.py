"""What can go wrong on the way to AWS."""

from __future__ import annotations

from silversmith.errors import SilversmithError


class BundleError(SilversmithError):
    """The bundle for Lambda cannot be made as things are."""


class DeployError(SilversmithError):
    """AWS did not do what was asked, or is in no state for it."""


class NoAccount(DeployError):
    """There are no credentials or no region, or AWS does not take them."""
