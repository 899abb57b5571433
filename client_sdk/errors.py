"""The SDK's errors, named by what the app can do about them. A caller's mistake is `ValueError`."""


class HomebodyError(Exception):
    """Base of every error that the SDK raises on purpose."""


class ConsentRequiredError(HomebodyError):
    """Ask the person for consent to the named purpose first."""


class VaultError(HomebodyError):
    """The store on disk cannot be used: locked, damaged, or its key is gone."""


class ReleaseRejectedError(HomebodyError):
    """A release was refused; the last good one stays in use."""


class ServerUnreachableError(HomebodyError):
    """The server did not answer; try again later. Nothing changed."""
