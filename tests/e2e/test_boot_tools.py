"""The boot script on images that lack tools: fewer channels, the same verdict."""

from __future__ import annotations

import pytest

from airflow_transient.localcloud import LocalCloud
from tests.e2e.machines import Site, now
from tests.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.sandbox, pytest.mark.e2e]


@pytest.mark.parametrize("hidden", [("curl",), ("curl", "python3")], ids=["without curl", "without curl and python3"])
def test_fewer_tools_mean_fewer_channels_and_the_same_verdict(hidden: tuple[str, ...]) -> None:
    with LocalCloud(hide=hidden) as cloud:
        site = Site(cloud)
        launch = site.launch(command='echo "[1]" >"$TRANSIENT_RESULT"; exit 3')
        eventually(lambda: cloud.states()[launch.ids[0]] == "terminated", within=40)
        told = site.launcher.observe(launch, now())[0].receipt
        assert told is not None
        assert told.exit_code == 3
        assert told.channel == ("bucket" if "python3" not in hidden else "console")
