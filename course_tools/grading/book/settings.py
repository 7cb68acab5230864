"""What an instructor has said once of a folder of grades, kept in OUT/settings.json: due date, penalty, classes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from course_tools.grading.book.late import Policy, policy_of
from course_utils.errors import require

FILE = "settings.json"


@dataclass(frozen=True)
class Settings:
    """When submissions are due and what lateness costs; the folders of classes to compare with."""

    policy: Policy | None = None
    beside: tuple[Path, ...] = ()


def read_settings(out: Path) -> Settings:
    """Return the settings in OUT, the empty ones if there are none. Raises ``ValueError`` for another file."""
    path = out / FILE
    try:
        said = json.loads(path.read_text("utf-8"))
        late = said["late"] and policy_of(said["late"]["due"], said["late"]["per_day"], said["late"]["most"])
        return Settings(late or None, tuple(map(Path, said["beside"])))
    except FileNotFoundError:
        return Settings()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not what `course gradebook` writes ({error}): delete it, give --due again"
        ) from None


def to_json(settings: Settings) -> str:
    """Return settings.json."""
    late = settings.policy and {
        "due": settings.policy.due.isoformat(),
        "per_day": settings.policy.per_day,
        "most": settings.policy.most,
    }
    return json.dumps({"late": late, "beside": list(map(str, settings.beside))}, indent=1) + "\n"


def changed(
    settings: Settings, due: str | None, penalty: float | None, most: float | None, beside: Sequence[Path]
) -> Settings:
    """Return settings with what a command line says in their place; ``due`` "none" takes the due date away.

    Raises ``ValueError`` for what makes no sense, such as a penalty without a due date.
    """
    known = settings.policy
    if beside:
        settings = replace(settings, beside=tuple(folder.absolute() for folder in beside))
    if due == "none":
        return replace(settings, policy=None)
    when = due or (known.due.isoformat() if known else "")
    require(bool(when) or (penalty is None and most is None), "--penalty needs --due, such as --due 2026-11-30T23:59")
    if not when:
        return settings
    per_day = penalty if penalty is not None else known.per_day if known else 0.0
    highest = most if most is not None else known.most if known else 100.0
    return replace(settings, policy=policy_of(when, per_day, highest))
