"""In CI the tests run against the installed wheel. This makes sure that they do."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

import pytest

import weft
from tests.structure.sources import modules


@pytest.mark.skipif("WEFT_EXPECT_INSTALLED" not in os.environ,
                    reason="only where WEFT_EXPECT_INSTALLED is set, as .ci/run does")
def test_weft_comes_from_site_packages() -> None:
    """Every module of weft, loaded or not, lies in this environment's site-packages."""
    home = Path(sysconfig.get_path("purelib")).resolve()
    assert Path(weft.__file__ or "").resolve().is_relative_to(home)
    assert list(weft.__path__) == [str(Path(weft.__file__ or "").parent)]
    for module in modules():
        assert module.path.resolve().is_relative_to(home), module
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "weft" and getattr(module, "__file__", None):
            assert Path(str(module.__file__)).resolve().is_relative_to(home), name
