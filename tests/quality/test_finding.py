from __future__ import annotations

import pytest
from pydantic import ValidationError

from wsipsm.quality.finding import Finding, Verdict, flags_of, reason_to_withhold


def finding(verdict: Verdict, text: str) -> Finding:
    return Finding(name="hue", value=0.1, low=0.2, verdict=verdict, text=text)


def test_flags_name_the_gravest_first_and_leave_out_what_is_ok() -> None:
    found = [finding(Verdict.OK, "fine."), finding(Verdict.FLAG, "doubtful."), finding(Verdict.WITHHOLD, "grey.")]
    assert flags_of(found) == ["grey.", "doubtful."]
    assert flags_of([finding(Verdict.UNKNOWN, "too few pixels.")]) == []


def test_only_a_finding_that_withholds_gives_a_reason() -> None:
    assert reason_to_withhold([finding(Verdict.FLAG, "doubtful.")]) is None
    both = [finding(Verdict.WITHHOLD, "grey."), finding(Verdict.WITHHOLD, "no hematoxylin.")]
    assert reason_to_withhold(both) == "grey. no hematoxylin."


def test_bounds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValidationError, match="above high"):
        Finding(name="hue", value=0.1, low=0.2, high=0.1, verdict=Verdict.OK, text="fine.")


def test_a_finding_survives_json() -> None:
    found = finding(Verdict.FLAG, "doubtful.")
    assert Finding.model_validate(found.model_dump(mode="json")) == found
