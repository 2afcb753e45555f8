"""What libraries import at once and call hardly ever waits until it is called."""

import importlib
import sys
from collections import defaultdict

import pytest

from vl_absvit import late_imports
from vl_absvit.late_imports import Late

SLOW = '''"""It counts how often it is imported."""
import sys
sys.imported_slow = getattr(sys, "imported_slow", 0) + 1
VALUE = 3
def double(number): return 2 * number
def plus_one(function, by=1): return lambda *numbers: function(*numbers) + by
'''


@pytest.fixture
def imports(tmp_path, monkeypatch):
    """Import a module of this source, which may have something of ``slow_part.inner`` late."""

    def run(source: str, late: Late):
        (tmp_path / "slow_part").mkdir()
        (tmp_path / "slow_part/__init__.py").write_text("")
        (tmp_path / "slow_part/inner.py").write_text(SLOW)
        (tmp_path / "asking.py").write_text(source)
        monkeypatch.setattr(late_imports, "LATE", {"asking": late})
        importlib.invalidate_caches()
        return importlib.import_module("asking")

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "imported_slow", 0, raising=False)
    monkeypatch.setattr(late_imports, "_waiting", defaultdict(list))
    late_imports.import_late()
    late_imports.import_late()
    yield run
    for name in ("asking", "slow_part", "slow_part.inner"):
        sys.modules.pop(name, None)


def test_a_function_imports_its_library_when_it_is_called(imports):
    asking = imports("from slow_part.inner import double\n", Late("slow_part.inner", ("double",)))
    assert sys.imported_slow == 0 and not {"slow_part", "slow_part.inner"} & set(sys.modules)
    assert asking.double(4) == asking.double(4) == 8 and sys.imported_slow == 1
    assert sys.modules["slow_part.inner"].VALUE == 3 and asking.__spec__.loader is asking.__loader__
    assert type(asking.__loader__).__name__ == "SourceFileLoader"


@pytest.mark.parametrize("words", ["", "(by=1)"])
def test_a_function_is_decorated_when_somebody_imports_the_library(imports, words):
    source = f"import slow_part.inner as slow\n@slow.plus_one{words}\ndef three(): return 3\n"
    asking = imports(source, Late("slow_part.inner", ("plus_one",), decorate=True))
    assert asking.three() == 3 and sys.imported_slow == 0 and asking.three.__name__ == "three"
    assert importlib.import_module("slow_part.inner").VALUE == 3 and asking.three() == 4 and sys.imported_slow == 1


def test_whatever_else_is_asked_of_it_is_the_library_s_own(imports):
    asking = imports("from slow_part.inner import VALUE, double\n", Late("slow_part.inner", ("double",)))
    assert asking.VALUE == 3 and sys.imported_slow == 1 and asking.double(1) == 2


def test_nothing_stands_in_for_what_is_there(imports):
    sys.modules["slow_part.inner"] = there = type(sys)("slow_part.inner")
    there.double = len
    assert imports("from slow_part.inner import double\n", Late("slow_part.inner", ("double",))).double is len
    assert sys.modules["slow_part.inner"] is there


def test_a_module_that_cannot_be_imported_leaves_no_stand_in(imports):
    with pytest.raises(ZeroDivisionError):
        imports("1 / 0\n", Late("slow_part.inner", ("double",)))
    assert "slow_part.inner" not in sys.modules and importlib.import_module("slow_part.inner").VALUE == 3
