"""The exceptions a user can act on: each names what failed, why, and the way on."""


class PipelineError(Exception):
    """A failure with a cause and a fix, readable without a traceback.

    Args:
        subject: the file, case, slide or setting concerned.
        cause: what is wrong with it.
        fix: what the user can do about it.
    """

    def __init__(self, subject: object, cause: str, fix: str = "") -> None:
        super().__init__(subject, cause, fix)
        self.subject, self.cause, self.fix = str(subject), cause, fix

    def __str__(self) -> str:
        text = f"{self.subject}: {self.cause}"
        return f"{text}. Fix: {self.fix}" if self.fix else text

    @property
    def reason(self) -> str:
        """Cause and fix without the subject, for places that name the subject themselves."""
        return f"{self.cause}. Fix: {self.fix}" if self.fix else self.cause


class UsageError(PipelineError):
    """Wrong usage or configuration: nothing was started (exit code 2)."""


class SlideError(PipelineError):
    """One slide cannot be tiled; the other slides go on."""


class StoreError(PipelineError):
    """An artefact on disk cannot be written or is not what its name promises."""


class CaseBusyError(PipelineError):
    """Another process works on this case."""


class ModelError(PipelineError):
    """A model cannot be had or does not fit what it is asked to do."""
