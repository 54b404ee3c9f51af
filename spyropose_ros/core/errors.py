"""Errors of the package: one base, and what is wrong by class."""


class SpyroposeError(Exception):
    """An error that the user can fix; the message says what is wrong and what to do."""


class BundleError(SpyroposeError):
    """A model bundle cannot be used; the message names the reason and the remedy."""


class InputError(SpyroposeError, ValueError):
    """An argument or a setting has the wrong shape, type or range."""


class CalibrationError(SpyroposeError, ValueError):
    """A calibration is unusable, or does not belong to an image."""


class DataError(SpyroposeError, ValueError):
    """Data are damaged or do not fit what they are used for."""


class MissingFileError(SpyroposeError, FileNotFoundError):
    """A file or folder that is needed is missing."""


class ScorerError(SpyroposeError, FloatingPointError):
    """The scores of a network are not finite, or cannot be normalised."""
