"""What the package raises for its users to mend."""


class SpyroposeError(Exception):
    """Something that a user can mend; the message says what is wrong and what to do."""


class BundleError(SpyroposeError):
    """A model bundle cannot be used; the message names the reason and the remedy."""
