"""The command `doctor`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from roboticks_tasks.backend.secrets import redactor_of
from roboticks_tasks.doctor.diagnosis import diagnose
from roboticks_tasks.doctor.findings import Diagnosis
from roboticks_tasks.doctor.report import document, table
from roboticks_tasks.lifecycle.run import OUTPUT
from roboticks_tasks.profiles import load_profile
from roboticks_tasks.redaction import Redactor
from roboticks_tasks.reporting.ci_log import fit_for_log


def doctor(options: argparse.Namespace) -> int:
    """Print what is wrong with the bench of `options.profile` and return the exit code.

    `options.board` names one of its boards (None: all of them, one after the other), `options.json` asks for JSON; an
    option with the name of a profile's key overrides it. 0: nothing failed, whatever warnings there are. Otherwise what
    is to be mended first decides: 2 this machine or the profile, 22 a board, 11 the platform. A board that a run has
    is a warning: it is only asked what does not disturb that run.
    """
    overrides = {key: value for key, value in vars(options).items() if "." in key or key == "backend"}
    profile = load_profile(
        options.profile, overrides=overrides, timeout_multiplier=getattr(options, "timeout_multiplier", 1.0)
    )
    folder = getattr(options, "artifacts", None) or OUTPUT
    diagnosis = _public(diagnose(profile, folder=folder, board=options.board), redactor_of(profile))
    if options.json:
        text = document(diagnosis)
    else:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        text = table(diagnosis, width=shutil.get_terminal_size((120, 24)).columns, colour=colour)
        text = fit_for_log(text, os.environ)
    _say(text)
    return diagnosis.exit_code


def _public(diagnosis: Diagnosis, redactor: Redactor) -> Diagnosis:
    """Return the diagnosis without secrets; a report would break its lines within them."""
    replace = msgspec.structs.replace
    findings = (
        replace(each, detail=redactor.text(each.detail), remedy=redactor.text(each.remedy))
        for each in diagnosis.findings
    )
    return replace(diagnosis, findings=tuple(findings))


def _say(text: str) -> None:
    """Print the report; a reader that has gone away does not change how the command ends."""
    try:
        print(text, flush=True)
    except OSError:
        # What could not be printed is still in the buffer, and would be tried again, in vain, at the very end.
        with suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
